"""Knobs for the mesh. Each shows what is true in the cluster, and a turn calls the function that a cell can call.

While a change is on its way every knob is locked; what was applied is shown as YAML and as a kubectl line, and what the
API refuses is said in the panel. Nothing is decided here: `read` says how things are, `actions` changes them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from html import escape
from typing import Any

import ipywidgets

from labkit.errors import LabError
from labkit.views.switches import draw_switches
from labkit.widgets.mode_panel import _TELLS, MODES, _with_text
from labkit.widgets.presence import Presence

_PAGES = ("mTLS mode", "Sidecars", "Client TLS", "Traffic")
CLIENT_MODES = (("automatic", ""), *((mode, mode) for mode in ("DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL")))


class Controls(ipywidgets.VBox):  # type: ignore[misc]  # the package has no types
    """Modes, sidecars, clients' TLS, traffic. `text` is all of it in words."""

    def __init__(
        self,
        actions: Any,
        *,
        read: Callable[[], Any],
        subscribe: Callable[[Callable[[], None]], Callable[[], None]],
    ) -> None:
        """`actions` has the verbs of a Lab that set one thing; `read` returns a `labkit.live.settings.Settings`, and
        `subscribe` calls back whenever that may have changed.
        """
        self.actions = actions
        self._read, self._subscribe = read, subscribe
        self._leave: Callable[[], None] | None = None
        self._showing = threading.local()  # who follows the cluster turns no knob
        self._lock = threading.RLock()
        self._busy = False
        self._shown: Any = None
        self._knobs: dict[Any, Any] = {}
        self._shape: Any = None
        self.result = ipywidgets.HTML()
        self.reset = ipywidgets.Button(description="Put everything back", icon="undo", layout={"width": "170px"})
        self.reset.on_click(lambda _: self.turn("Putting everything back", self._reset))
        # The pages stay, and only what is on them is made anew: else the tab that is open would jump.
        self.pages = ipywidgets.Tab([ipywidgets.VBox() for _ in _PAGES], titles=_PAGES)
        self._presence = Presence(self.start, self.stop)
        super().__init__([self.pages, ipywidgets.HBox([self.reset]), self.result, self._presence])
        self.add_class("labkit-controls")
        self._words = ""
        self.refresh()

    # -- what is shown ---------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Show what is true now. Called whenever something in the cluster has changed."""
        with self._lock:
            if self._busy:
                return
            try:
                settings = self._read()
            except LabError as error:
                self._say("", error=error)
                return
            if settings == self._shown:
                return
            self._shown = settings
            self._showing.now = True
            try:
                shape = _shape(settings)
                if shape != self._shape:
                    self._shape = shape
                    self._build(settings)
                self._fill(settings)
            finally:
                self._showing.now = False

    def _build(self, settings: Any) -> None:
        """Make the knobs anew: somebody came or went."""
        self._knobs = {}
        made = (self._page_of_modes, self._page_of_sidecars, self._page_of_clients, self._page_of_traffic)
        for page, make in zip(self.pages.children, made, strict=True):
            page.children = make(settings)

    def _page_of_modes(self, settings: Any) -> list[Any]:
        rows = []
        if settings.mesh is None:
            rows.append(ipywidgets.HTML("No mesh is installed, so no mode has an effect."))
        else:
            rows.append(self._mode_row(("mode", "", "", None), "Whole mesh"))
        rows += [self._mode_row(("mode", name, "", None), name) for name, _, _ in settings.namespaces]
        places = []
        for one in settings.workloads:
            namespace, workload = one.place.namespace, one.place.workload
            places.append((f"{namespace}/{workload}", ("mode", namespace, workload, None)))
            for number, _ in one.ports:
                places.append((f"{namespace}/{workload}, port {number}", ("mode", namespace, workload, number)))
        if places:
            rows.append(self._narrow_row(sorted(places)))
        return rows

    def _mode_row(self, key: Any, name: str) -> Any:
        buttons = self._mode_buttons(name)
        told = ipywidgets.HTML()
        self._knobs[key] = (buttons, told)
        buttons.observe(lambda change: self._mode_turned(key, change), names="value")
        return ipywidgets.VBox([ipywidgets.HTML(f"<b>{escape(name)}</b>"), buttons, told])

    def _mode_buttons(self, name: str) -> Any:
        return ipywidgets.ToggleButtons(
            options=MODES,
            value=None,
            description="",
            tooltips=[f"{name}: {mode} {_TELLS[mode]}" for mode in MODES],
            style={"button_width": "102px"},
        )

    def _narrow_row(self, places: list[tuple[str, Any]]) -> Any:
        """One workload or one of its ports: chosen from a list, since there are many."""
        which = ipywidgets.Dropdown(options=places, layout={"width": "auto"}, description="")
        buttons, told = self._mode_buttons("it"), ipywidgets.HTML()
        self._narrow = (which, buttons, told)
        which.observe(lambda _: self._fill_narrow(), names="value")
        buttons.observe(lambda change: self._mode_turned(which.value, change), names="value")
        return ipywidgets.VBox([ipywidgets.HTML("<b>One workload, one port</b>"), which, buttons, told])

    def _page_of_sidecars(self, settings: Any) -> list[Any]:
        note = "A label changes no pod that runs: new pods are made at once, and waited for."
        rows = [ipywidgets.HTML(f'<span style="opacity:.8">{note}</span>')]
        for name, _, _ in settings.namespaces:
            rows.append(self._check(("inject", name, ""), f"new pods of {name} get a sidecar"))
        for one in settings.workloads:
            name = f"{one.place.namespace}/{one.place.workload}"
            rows.append(self._check(("inject", one.place.namespace, one.place.workload), name))
        return rows

    def _check(self, key: Any, text: str) -> Any:
        box = ipywidgets.Checkbox(description=text, indent=False, layout={"width": "auto"})
        self._knobs[key] = box
        box.observe(lambda change: self._injection_turned(key, change), names="value")
        return box

    def _page_of_clients(self, settings: Any) -> list[Any]:
        note = "What clients with a sidecar send to a Service. Automatic: mTLS wherever the server can answer it."
        rows = [ipywidgets.HTML(f'<span style="opacity:.8">{note}</span>')]
        for service, subset, _ in settings.clients:
            key = ("client", service, subset)
            name = f"{service} subset {subset}" if subset else service
            choice = ipywidgets.Dropdown(options=CLIENT_MODES, layout={"width": "150px"})
            self._knobs[key] = choice
            choice.observe(lambda change, key=key: self._client_turned(key, change), names="value")
            rows.append(ipywidgets.HBox([choice, ipywidgets.HTML(escape(name))]))
        return rows

    def _page_of_traffic(self, settings: Any) -> list[Any]:
        rows = [self._sender_row(one) for one in settings.traffic]
        return rows or [ipywidgets.HTML("No call is known that could be sent.")]

    def _sender_row(self, one: Any) -> Any:
        key = ("traffic", one.client, one.base)
        tip = f"Let {one.client} send requests"
        on = ipywidgets.ToggleButton(description="off", icon="play", tooltip=tip, layout={"width": "72px"})
        rps = ipywidgets.BoundedFloatText(value=5.0, min=0.1, max=200, step=1, layout={"width": "62px"})
        at_once = ipywidgets.BoundedIntText(value=1, min=1, max=20, layout={"width": "52px"})
        where = ipywidgets.Text(value=one.path, layout={"width": "120px"}, continuous_update=False)
        told = ipywidgets.HTML()
        self._knobs[key] = (on, rps, at_once, where, told)
        on.observe(lambda change: self._traffic_turned(key, change), names="value")
        for knob in (rps, at_once, where):
            knob.observe(lambda _: self._traffic_changed(key), names="value")
        numbers = [on, rps, ipywidgets.HTML("/s&nbsp;"), at_once, ipywidgets.HTML("at once&nbsp;"), where]
        head = f"<b>{escape(one.client)}</b> → {escape(one.base.partition('//')[2])}"
        return ipywidgets.VBox([ipywidgets.HTML(head), ipywidgets.HBox(numbers), told])

    def _fill(self, settings: Any) -> None:
        words = []
        modes = [(("mode", "", "", None), settings.mesh)] if settings.mesh else []
        modes += [(("mode", name, "", None), mode) for name, mode, _ in settings.namespaces]
        for key, setting in modes:
            buttons, told = self._knobs[key]
            buttons.value = setting.own
            told.value = _mode_text(setting)
            words.append(f"{key[1] or 'mesh'}: {setting.own}, so {setting.effective}")
        self._modes = {
            ("mode", one.place.namespace, one.place.workload, number): setting
            for one in settings.workloads
            for number, setting in [(None, one.mode), *one.ports]
        }
        self._fill_narrow()
        for name, _, injects in settings.namespaces:
            self._knobs["inject", name, ""].value = injects
        for one in settings.workloads:
            self._knobs["inject", one.place.namespace, one.place.workload].value = one.injected
        for service, subset, mode in settings.clients:
            self._knobs["client", service, subset].value = mode
            if mode:
                words.append(f"clients of {service}{f' subset {subset}' if subset else ''}: {mode}")
        for sent in settings.traffic:
            self._fill_sender(sent)
            if sent.rps:
                words.append(f"{sent.client} sends {sent.rps:g}/s")
        self._words = "; ".join(words)
        if settings.problem:
            self.result.value = _message(settings.problem, bad=True)

    def _fill_narrow(self) -> None:
        if not getattr(self, "_narrow", None) or not getattr(self, "_modes", None):
            return
        which, buttons, told = self._narrow
        setting = self._modes.get(which.value)
        if setting is not None:
            was, self._showing.now = getattr(self._showing, "now", False), True
            try:
                buttons.value = setting.own
                told.value = _mode_text(setting)
            finally:
                self._showing.now = was

    def _fill_sender(self, one: Any) -> None:
        on, rps, at_once, where, told = self._knobs["traffic", one.client, one.base]
        on.value = bool(one.rps)
        on.description, on.icon = ("on", "stop") if one.rps else ("off", "play")
        on.button_style = "success" if one.rps else ""
        if one.rps:
            rps.value, at_once.value, where.value = one.rps, one.concurrency, one.path
        told.value = escape(one.problem)

    # -- turning ---------------------------------------------------------------------------------------------------

    def turn(self, what: str, act: Callable[[], Any]) -> None:
        """Do one change: lock every knob, say what is going on, show what came of it, and look again."""
        if getattr(self._showing, "now", False):
            return
        with self._lock:
            self._busy = True
        self._enable(False)
        self.result.value = _message(f"{what} …")
        try:
            done = act()
        except LabError as error:
            self._say(what, error=error)
        else:
            self._say(what, done=done)
        finally:
            with self._lock:
                self._busy, self._shown = False, None
            self._enable(True)
            self.refresh()

    def _mode_turned(self, key: Any, change: Any) -> None:
        if getattr(self._showing, "now", False) or change["new"] is None:
            return
        _, namespace, workload, port = key
        mode, more = change["new"], {"workload": workload or None, "port": port}
        where = "the mesh" if not namespace else f"{namespace}/{workload}" if workload else namespace
        act = lambda: self.actions.set_mtls_mode(mode, namespace or None, **(more if workload else {}))  # noqa: E731
        self.turn(f"Setting {where}{f' port {port}' if port else ''} to {mode}", act)

    def _injection_turned(self, key: Any, change: Any) -> None:
        if getattr(self._showing, "now", False):
            return
        _, namespace, workload = key
        verb = "Giving a sidecar to" if change["new"] else "Taking the sidecar from"
        more = {"workload": workload} if workload else {}
        act = lambda: self.actions.set_injection(change["new"], namespace, **more)  # noqa: E731
        self.turn(f"{verb} {namespace}{f'/{workload}' if workload else ''}", act)

    def _client_turned(self, key: Any, change: Any) -> None:
        if getattr(self._showing, "now", False):
            return
        _, service, subset = key
        act = lambda: self.actions.set_client_tls(change["new"], service, subset=subset)  # noqa: E731
        self.turn(f"Setting the TLS of clients of {service} to {change['new'] or 'automatic'}", act)

    def _traffic_turned(self, key: Any, change: Any) -> None:
        if getattr(self._showing, "now", False):
            return
        if change["new"]:
            self._send_from(key)
        else:
            self.turn(f"Stopping {key[1]}", lambda: self.actions.stop_traffic(key[1], key[2]))

    def _traffic_changed(self, key: Any) -> None:
        if not getattr(self._showing, "now", False) and self._knobs[key][0].value:
            self._send_from(key)

    def _send_from(self, key: Any) -> None:
        _, client, base = key
        _, rps, at_once, where, _ = self._knobs[key]
        url = base + (where.value if where.value.startswith("/") else f"/{where.value}")

        def act() -> Any:
            self.actions.stop_traffic(client, base)
            return self.actions.start_traffic(client, url, rps=rps.value, concurrency=at_once.value)

        self.turn(f"Sending from {client}", act)

    def _reset(self) -> Any:
        self.actions.stop_traffic()
        return self.actions.reset_knobs()

    def _enable(self, on: bool) -> None:
        knobs = [self.reset]
        for knob in self._knobs.values():
            knobs += [one for one in (knob if isinstance(knob, tuple) else (knob,)) if hasattr(one, "disabled")]
        knobs += list(getattr(self, "_narrow", ()))[:2]
        for one in knobs:
            one.disabled = not on

    def _say(self, what: str, *, done: Any = None, error: LabError | None = None) -> None:
        if error is not None:
            lines = error.lines()
            self.result.value = _message(f"Not changed. {lines[0]}", lines[1:], bad=True)
            return
        manifest = f"<pre style='{_PRE}'>{escape(done.manifest)}</pre>" if getattr(done, "manifest", "") else ""
        self.result.value = done._repr_html_() + manifest

    # -- life ------------------------------------------------------------------------------------------------------

    @property
    def text(self) -> str:
        """The settings in words."""
        return f"Controls. {self._words or 'No mesh is installed'}."

    @property
    def picture(self) -> str:
        """The modes as SVG."""
        rows = [("whole mesh", MODES, self._shown.mesh.own)] if self._shown and self._shown.mesh else []
        rows += [(name, MODES, mode.own) for name, mode, _ in self._shown.namespaces] if self._shown else []
        return draw_switches(rows)

    def start(self) -> None:
        """Follow the cluster: as soon as a page shows the controls, by itself."""
        if self._leave is None:
            self._leave = self._subscribe(self.refresh)
            self.refresh()

    def stop(self) -> None:
        """Stop following the cluster: when no page shows the controls any more, by itself."""
        if self._leave:
            self._leave()
            self._leave = None

    def close(self) -> None:
        """End for good."""
        self.stop()
        super().close()

    def __repr__(self) -> str:
        return self.text

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return _with_text(super()._repr_mimebundle_(**options), self.text, self.picture)


_PRE = "margin:4px 0;padding:6px 10px;font-size:11.5px;line-height:1.4;background:transparent;color:inherit"


def _shape(settings: Any) -> Any:
    """What knobs there are: as long as it stays, they are only filled."""
    return (
        settings.mesh is None,
        tuple(name for name, _, _ in settings.namespaces),
        tuple((one.place.namespace, one.place.workload, tuple(n for n, _ in one.ports)) for one in settings.workloads),
        tuple((service, subset) for service, subset, _ in settings.clients),
        tuple((one.client, one.base) for one in settings.traffic),
    )


def _mode_text(setting: Any) -> str:
    if setting.own == setting.effective:
        return f'<span style="opacity:.8">{escape(setting.decided_by)}</span>'
    return f'so <b>{escape(setting.effective)}</b>, <span style="opacity:.8">by {escape(setting.decided_by)}</span>'


def _message(text: str, more: Any = (), *, bad: bool = False) -> str:
    colour = "#d55e00" if bad else "#0072b2"
    lines = "".join(f'<div style="opacity:.85">{escape(line.strip())}</div>' for line in more)
    return (
        f'<div role="status" style="border-left:4px solid {colour};padding:2px 10px;color:inherit;line-height:1.45">'
        f"<b>{escape(text)}</b>{lines}</div>"
    )
