"""What the map shows besides states: the mesh's lock, counts, special edges, layers, predictions, formats."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from labkit.errors import InputError
from labkit.views import layout
from labkit.views.drawing import draw_map, edge_style
from labkit.views.encryption_map import EncryptionMap
from labkit.views.glyphs import DARK, DASH, GLYPH, LIGHT, LOOK
from labkit.views.map import (
    Counts,
    EdgeKind,
    EdgeState,
    Layer,
    MapEdge,
    MapModel,
    MapNode,
    NamespaceBox,
    NodeKind,
    layered,
)
from tests.bench_map import a_mesh, whole

CALL = MapEdge("foo/client", "foo/server", 80, EdgeState.MTLS, "Both have a sidecar.")


def world(*edges: MapEdge, **facts: object) -> MapModel:
    nodes = (
        MapNode("foo", "server", True),
        MapNode("foo", "client", True),
        MapNode("", "kubelet", kind=NodeKind.SYSTEM),
    )
    return MapModel((NamespaceBox("foo", "STRICT"),), nodes, edges or (CALL,), **facts)  # type: ignore[arg-type]


def contrast(one: str, other: str) -> float:
    """https://www.w3.org/TR/WCAG21/#dfn-contrast-ratio"""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("name", ["mtls", "tls", "mixed", "plain", "refused", "grey", "ink", "soft"])
def test_words_can_be_read_on_their_paper(palette: dict[str, str], name: str) -> None:
    assert contrast(palette[name], palette["paper"]) >= 4.5
    assert contrast(palette[name], palette["box"]) >= 4.5


def test_no_state_is_told_by_colour_alone() -> None:
    told = {state: (DASH[look], GLYPH[look], str(state)) for state, look in LOOK.items()}
    assert len({dash for dash, _, _ in told.values()}) == len(told)
    assert len({(dash, glyph) for dash, glyph, _ in told.values()}) == len(told)
    assert len({word for _, _, word in told.values()}) == len(told)


@pytest.mark.parametrize(
    ("counts", "state", "short"),
    [
        (Counts(mtls=300, window=30), EdgeState.MTLS, "10/s · 100 % ok"),
        (Counts(mtls=27, plaintext=3, window=30), EdgeState.MIXED, "1.0/s · 90 % mTLS"),
        (Counts(refused=6, window=30), EdgeState.REFUSED, "6 in 30 s · 0 % ok"),
        (Counts(plaintext=10, failed=5, window=10), EdgeState.PLAINTEXT, "1.0/s · 50 % ok"),
        (Counts(window=30), None, ""),
    ],
)
def test_counts_tell_all_some_and_none(counts: Counts, state: EdgeState | None, short: str) -> None:
    assert (counts.state, counts.short) == (state, short)


def test_the_window_of_the_counts_is_stated() -> None:
    edge = replace(CALL, counts=Counts(mtls=41, refused=7, window=30))
    assert edge.counts.words == "41 mTLS / 7 refused in 30 s"
    assert "counts: last 30 s" in draw_map(world(edge, window=30.0), standalone=True)


def test_what_was_seen_is_drawn_and_what_was_said_is_named() -> None:
    edge = replace(CALL, state=EdgeState.REFUSED, observed=EdgeState.PLAINTEXT, seen="HTTP 200", disagrees=True)
    style = edge_style(edge)
    assert (style["look"], style["second"]) == ("plain", "≠ policy: refused")
    assert "lkm-warn" in style["class"] and "not what the policies say: refused." in edge.sentence


def test_an_edge_that_was_only_declared_is_thin() -> None:
    assert "lkm-said" in edge_style(CALL)["class"]
    assert "lkm-said" not in edge_style(replace(CALL, seen="HTTP 200"))["class"]


def test_special_edges_are_thin_and_have_words_for_who_listens() -> None:
    probe = MapEdge("kubelet", "foo/server", 15020, EdgeState.PLAINTEXT, kind=EdgeKind.PROBE)
    text = draw_map(world(CALL, probe), standalone=True)
    assert "lkm-plain lkm-special" in text
    assert "kubelet (kubelet probe) reaches foo/server on port 15020 in plaintext." in text


@pytest.mark.parametrize(("mode", "lock"), [("STRICT", True), ("PERMISSIVE", False), ("DISABLE", False)])
def test_the_mesh_has_a_lock_of_its_own(mode: str, lock: bool) -> None:
    text = draw_map(replace(world(), mesh=NamespaceBox("Mesh", mode, "the default")), standalone=True)
    head = text.partition(">Mesh<")[2].partition("</text></g></g>")[0]
    assert head.endswith(f">{mode}")
    assert ('fill="currentColor" stroke="currentColor" stroke-width="1.2"' in head) is lock  # a full chip


def test_a_workload_that_differs_is_counted_at_its_namespace() -> None:
    model = replace(world(), namespaces=(NamespaceBox("foo", "STRICT", differing=1),))
    assert "STRICT · 1 differs" in draw_map(model, standalone=True)
    assert "1 of its workloads have a mode of their own" in str(model)


def test_one_layer_alone_hides_the_other() -> None:
    model = world(replace(CALL, state=EdgeState.REFUSED, seen="HTTP 200", observed=EdgeState.PLAINTEXT))
    assert [e.shown for e in layered(model, Layer.DECLARED).edges] == [EdgeState.REFUSED]
    assert [e.shown for e in layered(model, Layer.OBSERVED).edges] == [EdgeState.PLAINTEXT]
    assert [e.shown for e in layered(world(), Layer.OBSERVED).edges] == [EdgeState.NOT_TRIED]


def test_a_concealed_map_tells_nothing_and_scores_what_was_marked() -> None:
    whole_map = EncryptionMap(world())
    asked = whole_map.conceal()
    assert ">mTLS<" not in asked.svg.split("lkm-legend")[0]
    assert "Both have a sidecar" not in str(asked)
    assert str(whole_map.score({CALL.id: "mTLS"})) == "1 of 1 right"
    assert "you said refused, it is mTLS" in str(whole_map.score({CALL.id: "refused"}))
    assert whole_map.score({}).open == 1


def test_the_layout_is_kept_while_states_change() -> None:
    first = layout.place(world())
    assert layout.place(world(replace(CALL, state=EdgeState.REFUSED))) is first
    grown = replace(world(), nodes=(*world().nodes, MapNode("foo", "new")))
    assert layout.place(grown) is not first


def test_a_node_keeps_its_size_when_it_gets_a_sidecar() -> None:
    bare = replace(world(), nodes=tuple(replace(node, injected=False, pods=12) for node in world().nodes))
    assert layout.place(bare) is layout.place(world())


def test_a_picture_can_be_png_without_a_browser(tmp_path: Path) -> None:
    shown = EncryptionMap(world())
    assert shown.png.startswith(b"\x89PNG")
    assert shown.save(tmp_path / "map.png").read_bytes() == shown.png
    assert shown.save(tmp_path / "map.svg", dark=True).read_text() == shown.dark_svg
    with pytest.raises(InputError, match=r"cannot be saved as \.pdf"):
        shown.save(tmp_path / "map.pdf")


def test_the_table_has_a_row_per_edge_and_the_reason() -> None:
    table = EncryptionMap(world()).table
    assert list(table["STATE"]) == ["mTLS"] and list(table["REASON"]) == ["Both have a sidecar."]


def test_a_large_map_is_packed_and_stays_well_formed() -> None:
    model = whole(*a_mesh(60, 150))
    text = draw_map(model, standalone=True)
    root = ET.fromstring(text)
    assert len(root.findall(".//*[@data-edge]")) == 150
    assert "tabindex" not in text
    boxes = layout.place(model)
    assert not boxes.labelled
    for node in model.nodes:
        box, inside = boxes.namespaces[node.namespace], boxes.nodes[node.id]
        assert box.x <= inside.x and inside.x + inside.width <= box.x + box.width
