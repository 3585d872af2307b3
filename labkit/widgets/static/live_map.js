// The encryption map, live. Python says what is true and how it looks; this file puts it on the page and tells Python
// what was chosen. It computes nothing about the mesh. One file, nothing is fetched.

const STATES = ["mTLS", "plaintext", "refused"];
const LOOKS = { mTLS: "mtls", plaintext: "plain", refused: "refused" };
const COLUMNS = ["Client", "Server", "Port", "Kind", "State", "Policy says", "Seen", "Reason", "Decided by"];
const ZOOMS = [0.1, 0.16, 0.25, 0.35, 0.5, 0.7, 0.85, 1, 1.25, 1.6, 2, 2.6];

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

// Text that has not changed is not written: a reader's selection and a screen reader's place stay.
function write(element, text) {
  if (element && element.textContent !== text) element.textContent = text;
}

function render({ model, el }) {
  const view = new View(model, el);
  return () => view.end();
}

class View {
  constructor(model, el) {
    this.model = model;
    this.applied = { edges: {}, nodes: {}, boxes: {} };
    this.zoom = 0; // 0: as wide as the page
    this.heard = [];
    this.build(el);
    this.listen("change:svg", () => this.draw());
    this.listen("change:styles", () => this.restyle());
    this.listen("change:timeline", () => this.drawTimeline());
    this.listen("change:line change:moment change:running change:lost", () => this.say());
    this.listen("change:rows", () => this.drawRows());
    this.listen("change:panel change:selected", () => this.drawPanel());
    this.listen("change:layer change:resolve change:special change:predicting change:marks change:score", () => this.choices());
    this.listen("change:large", () => this.choices());
    this.countdown = setInterval(() => this.count(), 1000);
    this.draw();
    this.drawTimeline();
    this.drawRows();
    this.drawPanel();
    this.choices();
    this.say();
    this.id = Math.random().toString(36).slice(2);
    this.leave = () => this.tell(false);
    window.addEventListener("pagehide", this.leave);
    this.tell(true);
  }

  // Python follows the mesh as long as some page shows the map.
  tell(open) {
    try {
      this.model.send({ kind: "view", id: this.id, open });
    } catch {
      // the kernel has gone first
    }
  }

  listen(events, act) {
    for (const event of events.split(" ")) {
      this.model.on(event, act);
      this.heard.push([event, act]);
    }
  }

  end() {
    clearInterval(this.countdown);
    for (const [event, act] of this.heard) this.model.off(event, act);
    window.removeEventListener("pagehide", this.leave);
    this.tell(false);
  }

  set(values) {
    for (const [name, value] of Object.entries(values)) this.model.set(name, value);
    this.model.save_changes();
  }

  build(el) {
    el.classList.add("lkw");
    this.state = make("span", { class: "lkw-live" });
    this.layer = make("select", { onchange: () => this.set({ layer: this.layer.value }), title: "What is drawn" },
      make("option", { value: "both" }, "policy and wire"),
      make("option", { value: "declared" }, "what the policies say"),
      make("option", { value: "observed" }, "what was seen"));
    this.special = this.check("special", "probes, scrapes", "The kubelet's probes and Prometheus' scrapes");
    this.resolve = this.check("resolve", "name unknown sources", "Metrics cannot name a client without a sidecar; labkit can");
    this.predict = make("button", { onclick: () => this.togglePrediction(), title: "Hide the states, mark what you expect, then reveal" });
    this.probe = make("button", { onclick: () => this.model.send({ kind: "probe" }), title: "Send one request over each edge now" }, "Try all");
    this.search = make("input", { type: "search", placeholder: "Find a workload ( / )", "aria-label": "Find a workload", oninput: () => this.find() });
    this.smaller = make("button", { onclick: () => this.zoomBy(-1), "aria-label": "Smaller" }, "−");
    this.larger = make("button", { onclick: () => this.zoomBy(1), "aria-label": "Larger" }, "+");
    this.fit = make("button", { onclick: () => { this.zoom = 0; this.applyZoom(); } }, "Fit");
    this.now = make("button", { onclick: () => this.set({ moment: 0 }) }, "Back to now");
    this.score = make("span", { class: "lkw-mark", role: "status" });
    this.bar = make("div", { class: "lkw-bar", role: "toolbar", "aria-label": "Encryption map" },
      this.state, make("label", {}, "Show", this.layer), this.special, this.resolve, this.probe, this.predict, this.score,
      make("span", { class: "lkw-spring" }), this.now, this.search, this.smaller, this.larger, this.fit);
    this.stage = make("div", { class: "lkw-stage", tabindex: 0, role: "region", "aria-label": "The map" });
    this.panel = make("aside", { class: "lkw-panel", "aria-label": "The selected edge", hidden: true });
    this.words = make("div", { class: "lkw-words", "aria-live": "polite", role: "status" });
    this.time = make("div", { class: "lkw-time", tabindex: 0, role: "slider", "aria-label": "Step back in time", title: "Click, or press the arrow keys, to step back in time" });
    this.time.addEventListener("click", (event) => this.stepBack(event));
    this.main = make("div", { class: "lkw-main" }, make("div", {}, this.stage, this.time), this.panel);
    this.rows = make("tbody");
    this.twin = make("details", { class: "lkw-twin", ontoggle: () => this.drawRows() }, make("summary", {}, "As a table"),
      make("table", {}, make("thead", {}, make("tr", {}, ...COLUMNS.map((name) => make("th", { scope: "col" }, name)))), this.rows));
    el.append(this.bar, this.words, this.main, this.twin);
    this.stage.addEventListener("click", (event) => this.pick(event.target.closest("[data-edge]")));
    // Kept, the classes would let every edge that ever changed flash again with the next theme.
    this.stage.addEventListener("animationend", (event) => event.target.closest("[data-edge]")?.classList.remove("lkw-fresh", "lkw-new"));
    el.addEventListener("keydown", (event) => this.key(event));
  }

  check(name, text, title) {
    const box = make("input", { type: "checkbox", onchange: () => this.set({ [name]: box.checked }) });
    const label = make("label", { title }, box, text);
    label.box = box;
    return label;
  }

  // -- the picture

  draw() {
    const before = new Set(Object.keys(this.applied.edges));
    this.stage.innerHTML = this.model.get("svg");
    this.svg = this.stage.querySelector("svg");
    this.parts = { edges: {}, nodes: {}, boxes: {} };
    for (const [kind, name] of [["edges", "edge"], ["nodes", "node"], ["boxes", "box"]]) {
      for (const group of this.stage.querySelectorAll(`[data-${name}]`)) this.parts[kind][group.dataset[name]] = group;
    }
    if (before.size) {
      for (const [id, group] of Object.entries(this.parts.edges)) if (!before.has(id)) group.classList.add("lkw-new");
    }
    this.applied = { edges: {}, nodes: {}, boxes: {} };
    this.fresh = true;
    this.applyZoom();
    this.restyle();
    this.find();
  }

  restyle() {
    const styles = this.model.get("styles");
    if (!this.parts || !styles.edges) return;
    for (const [id, style] of Object.entries(styles.edges)) this.restyleOne("edges", id, style, (group) => this.edge(group, style));
    for (const [id, style] of Object.entries(styles.nodes)) this.restyleOne("nodes", id, style, (group) => this.node(group, style));
    for (const [id, style] of Object.entries(styles.boxes)) this.restyleOne("boxes", id, style, (group) => this.box(group, style));
    const legend = this.stage.querySelector(".lkm-legend");
    if (legend && legend.dataset.text !== styles.legend) {
      legend.innerHTML = styles.legend;
      legend.dataset.text = styles.legend;
    }
    if (this.svg) this.svg.setAttribute("aria-label", styles.summary);
    this.fresh = false;
    this.showMarks();
  }

  restyleOne(kind, id, style, act) {
    const text = JSON.stringify(style);
    const group = this.parts[kind][id];
    if (!group || this.applied[kind][id] === text) return;
    this.applied[kind][id] = text;
    act(group);
  }

  edge(group, style) {
    const turned = group.dataset.look && group.dataset.look !== style.look;
    const kept = [...group.classList].filter((name) => name === "lkm-picked" || name.startsWith("lkw-"));
    group.setAttribute("class", ["lkm-edge", style.class, ...kept].join(" "));
    group.setAttribute("aria-label", style.title);
    write(group.querySelector("title"), style.title);
    write(group.querySelector(".lkm-word"), style.word);
    write(group.querySelector(".lkm-second"), style.second);
    if (group.dataset.look !== style.look) {
      const glyph = group.querySelector(".lkm-glyph");
      if (glyph) glyph.innerHTML = this.model.get("glyphs")[style.look];
      group.dataset.look = style.look;
    }
    if (turned && !this.fresh) {
      group.classList.remove("lkw-fresh");
      void group.getBoundingClientRect(); // lets the animation start again
      group.classList.add("lkw-fresh");
    }
  }

  node(group, style) {
    write(group.querySelector("title"), style.title);
    const detail = group.querySelector(".lkm-detail");
    write(detail, style.detail);
    detail.setAttribute("class", `${style.bad ? "lkm-bad" : "lkm-soft"} lkm-detail`);
    group.querySelector(".lkm-badge").innerHTML = style.badge;
    group.querySelector(".lkm-ring").setAttribute("visibility", style.in ? "visible" : "hidden");
    const card = group.querySelector(".lkm-card");
    if (style.out) card.setAttribute("stroke-dasharray", "5 4");
    else card.removeAttribute("stroke-dasharray");
  }

  box(group, style) {
    write(group.querySelector("title"), style.title);
    write(group.querySelector(".lkm-by"), style.by);
    group.querySelector(".lkm-chip-at").innerHTML = style.chip;
  }

  // -- words, table, timeline

  say() {
    const past = this.model.get("moment") > 0;
    const state = this.model.get("lost") ? "lost" : past ? "past" : this.model.get("running") ? "live" : "rest";
    this.state.dataset.state = state;
    write(this.state, { lost: "No answer", past: "The past", live: "Live", rest: "At rest" }[state]);
    write(this.words, this.model.get("line"));
    this.time.setAttribute("aria-valuetext", past ? this.model.get("line") : "now");
    this.now.hidden = !past;
  }

  drawRows() {
    if (!this.twin.open) return;
    const rows = this.model.get("rows");
    const focused = document.activeElement?.dataset.row;
    this.rows.replaceChildren(...rows.map((row) => this.row(row)));
    if (focused) [...this.rows.querySelectorAll("[data-row]")].find((one) => one.dataset.row === focused)?.focus();
    if (!rows.length && Object.keys(this.parts?.edges ?? {}).length) {
      const words = "Too many lines for a table on this page: lab.map().table holds them all.";
      this.rows.replaceChildren(make("tr", {}, make("td", { colspan: COLUMNS.length }, words)));
    }
  }

  // Each row opens its edge, also where the lines of the map are too many to be stops of the Tab key.
  row([client, ...cells]) {
    const id = cells.pop();
    const open = make("button", { "data-row": id, title: "Show this edge", onclick: () => this.choose(id) }, client);
    return make("tr", {}, make("td", {}, open), ...cells.map((cell) => make("td", {}, cell)));
  }

  drawTimeline() {
    this.time.innerHTML = this.model.get("timeline");
  }

  stepBack(event) {
    const svg = this.time.querySelector("svg");
    if (!svg) return;
    const box = svg.getBoundingClientRect();
    const left = +svg.dataset.left, right = +svg.dataset.right;
    const share = ((event.clientX - box.left) / box.width - left) / (right - left);
    const from = +svg.dataset.from, to = +svg.dataset.to;
    if (share >= 0 && share <= 1) this.set({ moment: share > 0.995 ? 0 : from + share * (to - from) });
  }

  // Ten seconds a key; Home is the oldest, End is now.
  stepBy(key) {
    const svg = this.time.querySelector("svg");
    const steps = { ArrowLeft: -10, ArrowRight: 10 };
    if (!svg || !(key in steps || key === "Home" || key === "End")) return false;
    const from = +svg.dataset.from, to = +svg.dataset.to;
    const there = this.model.get("moment") || to;
    const moment = key === "Home" ? from : key === "End" ? to : there + steps[key];
    this.set({ moment: moment >= to ? 0 : Math.max(moment, from) });
    return true;
  }

  // -- choosing an edge

  pick(group) {
    if (group) this.choose(group.dataset.edge);
  }

  choose(id) {
    if (this.model.get("predicting")) this.mark(id);
    else this.set({ selected: this.model.get("selected") === id ? "" : id });
  }

  drawPanel() {
    const selected = this.model.get("selected");
    for (const [id, group] of Object.entries(this.parts?.edges ?? {})) group.classList.toggle("lkm-picked", id === selected);
    this.panel.hidden = !selected;
    this.main.classList.toggle("lkw-open", Boolean(selected));
    if (!selected) return;
    const text = this.model.get("panel");
    if (this.panel.dataset.text === text) return;
    this.panel.dataset.text = text;
    this.panel.innerHTML = text;
    this.panel.prepend(make("button", { class: "lkw-close", "aria-label": "Close", onclick: () => this.set({ selected: "" }) }, "×"));
    this.count();
  }

  count() {
    for (const place of this.panel.querySelectorAll(".lkw-countdown")) {
      const left = Math.floor((new Date(place.dataset.until) - Date.now()) / 1000);
      const pad = (number) => String(number).padStart(2, "0");
      write(place, left < 0 ? "expired" : `${Math.floor(left / 3600)} h ${pad(Math.floor(left / 60) % 60)} min ${pad(left % 60)} s left`);
    }
  }

  // -- prediction

  togglePrediction() {
    if (this.model.get("predicting")) this.model.send({ kind: "reveal", marks: this.model.get("marks") });
    else this.set({ predicting: true, marks: {}, score: "", selected: "" });
  }

  mark(id) {
    const marks = { ...this.model.get("marks") };
    const next = STATES[STATES.indexOf(marks[id]) + 1];
    if (next) marks[id] = next;
    else delete marks[id];
    this.set({ marks });
  }

  showMarks() {
    if (!this.model.get("predicting")) return;
    const marks = this.model.get("marks"), glyphs = this.model.get("glyphs");
    for (const [id, group] of Object.entries(this.parts?.edges ?? {})) {
      const word = group.querySelector(".lkm-word");
      if (!word) continue;
      const mark = marks[id];
      const look = mark ? LOOKS[mark] : "untried";
      group.setAttribute("class", `lkm-edge lkm-${look} ${mark ? "" : "lkm-said"}`);
      group.dataset.look = look;
      write(word, mark || "your guess?");
      write(group.querySelector(".lkm-second"), mark ? "click to change" : "click to mark");
      group.querySelector(".lkm-glyph").innerHTML = glyphs[look];
      this.applied.edges[id] = ""; // is painted anew afterwards
    }
  }

  // -- the bar

  choices() {
    this.layer.value = this.model.get("layer");
    this.special.box.checked = this.model.get("special");
    this.resolve.box.checked = this.model.get("resolve");
    const predicting = this.model.get("predicting");
    write(this.predict, predicting ? "Reveal" : "Predict");
    this.predict.setAttribute("aria-pressed", String(predicting));
    write(this.score, this.model.get("score"));
    const large = this.model.get("large");
    for (const part of [this.search, this.smaller, this.larger, this.fit]) part.hidden = !large;
    if (predicting) this.showMarks();
    else this.restyle();
  }

  zoomBy(step) {
    const { width, height } = this.svg.viewBox.baseVal;
    const box = this.svg.getBoundingClientRect();
    const shown = this.zoom || Math.min(box.width / width, box.height / height);
    const near = ZOOMS.reduce((best, one, index) => (Math.abs(one - shown) < Math.abs(ZOOMS[best] - shown) ? index : best), 0);
    this.zoom = ZOOMS[Math.min(ZOOMS.length - 1, Math.max(0, near + step))];
    this.applyZoom();
  }

  applyZoom() {
    if (!this.svg) return;
    const { width, height } = this.svg.viewBox.baseVal;
    // As wide as the page, and a small map no larger than that a word keeps the size of a word.
    this.svg.style.maxWidth = this.zoom ? "none" : `min(100%, ${Math.round(width * 1.35)}px)`;
    this.svg.style.maxHeight = !this.zoom && this.model.get("large") ? "66vh" : "";
    this.svg.style.width = this.zoom ? `${width * this.zoom}px` : "100%";
    this.svg.style.height = this.zoom ? `${height * this.zoom}px` : "auto";
  }

  find() {
    const wanted = this.search.value.trim().toLowerCase();
    const found = new Set();
    for (const [id, group] of Object.entries(this.parts?.nodes ?? {})) {
      const hit = wanted && id.toLowerCase().includes(wanted);
      if (hit) found.add(id);
      group.classList.toggle("lkw-found", Boolean(hit));
    }
    const near = new Set(found);
    for (const [id, group] of Object.entries(this.parts?.edges ?? {})) {
      const [client, server] = id.split("|");
      const touches = found.has(client) || found.has(server);
      if (touches) near.add(client).add(server);
      group.classList.toggle("lkw-dim", Boolean(wanted) && !touches);
    }
    for (const [id, group] of Object.entries(this.parts?.nodes ?? {})) group.classList.toggle("lkw-dim", Boolean(wanted) && !near.has(id));
    const first = [...found][0];
    if (first) this.parts.nodes[first].scrollIntoView({ block: "center", inline: "center" });
  }

  key(event) {
    const typing = ["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName);
    const edge = event.target.closest?.("[data-edge]");
    let done = true;
    if (this.time.contains(event.target)) done = this.stepBy(event.key);
    else if (edge && (event.key === "Enter" || event.key === " ")) this.pick(edge);
    else if (event.key === "Escape" && this.model.get("selected")) this.set({ selected: "" });
    else if (!typing && event.key === "/" && !this.search.hidden) this.search.focus();
    else if (!typing && (event.key === "+" || event.key === "-")) this.zoomBy(event.key === "+" ? 1 : -1);
    else done = false;
    if (done) event.preventDefault();
    event.stopPropagation(); // JupyterLab's own keys would run or delete cells
  }
}

export default { render };
