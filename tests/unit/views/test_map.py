"""The encryption map: sentences, picture, and that nothing is told by colour alone."""

from __future__ import annotations

import threading
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from labkit.views.encryption_map import EncryptionMap
from labkit.views.layout import place
from labkit.views.map import EdgeState, MapEdge, MapModel, MapNode, NamespaceBox

SVG = "{http://www.w3.org/2000/svg}"


def small(state: EdgeState = EdgeState.MTLS, **edge: object) -> MapModel:
    return MapModel(
        (NamespaceBox("foo", "STRICT", "PeerAuthentication foo/default"), NamespaceBox("bar", "no policy")),
        (MapNode("foo", "server", True, 2), MapNode("foo", "client", True), MapNode("bar", "stranger", False)),
        (
            MapEdge("foo/client", "foo/server", 80, EdgeState.MTLS, "Both have a sidecar."),
            MapEdge("bar/stranger", "foo/server", 80, state, **edge),  # type: ignore[arg-type]
        ),
    )


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (EdgeState.MTLS, "by mTLS"),
        (EdgeState.PLAINTEXT, "in plaintext"),
        (EdgeState.REFUSED, "is refused by"),
        (EdgeState.NOT_TRIED, "has not tried"),
        (EdgeState.UNKNOWN, "how is unknown"),
    ],
)
def test_every_state_has_its_sentence(state: EdgeState, words: str) -> None:
    assert words in small(state).edges[1].sentence


def test_the_text_twin_tells_every_edge_once() -> None:
    text = str(small(EdgeState.REFUSED))
    assert text.count("bar/stranger") == 1
    assert "Namespace foo is STRICT, by PeerAuthentication foo/default." in text
    assert text.startswith("Encryption map: 1 mTLS, 1 refused")


def test_a_disagreement_is_said_and_drawn() -> None:
    edge = small(EdgeState.REFUSED, seen="HTTP 200", disagrees=True)
    assert "not what the policies say" in edge.edges[1].sentence
    assert "≠ HTTP 200" in EncryptionMap(edge).svg


def test_the_bundle_has_a_picture_and_its_words() -> None:
    bundle = EncryptionMap(small())._repr_mimebundle_()
    assert set(bundle) == {"text/html", "image/svg+xml", "text/plain"}
    assert bundle["text/plain"] == str(small())
    assert bundle["image/svg+xml"].startswith("<svg")


def test_the_picture_is_well_formed_and_has_an_alternative_text() -> None:
    root = ET.fromstring(EncryptionMap(small(EdgeState.REFUSED)).svg)
    assert root.get("role") == "img"
    assert root.findtext(f"{SVG}title") == small(EdgeState.REFUSED).summary()
    assert "is refused by" in (root.findtext(f"{SVG}desc") or "")


def test_names_are_escaped() -> None:
    odd = MapModel((NamespaceBox("a"),), (MapNode("a", "x<&y"),), ())
    assert "x&lt;&amp;y" in EncryptionMap(odd).svg


@pytest.mark.parametrize("state", [EdgeState.MTLS, EdgeState.PLAINTEXT, EdgeState.REFUSED])
def test_a_state_has_its_own_dash_and_word(state: EdgeState) -> None:
    text = EncryptionMap(small(state)).svg
    dashes = {line.split("{")[1] for line in text.split(".lkm .lkm-")[1:] if "stroke-dasharray" in line.split("}")[0]}
    assert len(dashes) >= 4
    assert text.count(f">{state}<") >= 2  # on the line and in the legend


def test_injected_and_plain_nodes_look_different() -> None:
    text = EncryptionMap(small()).svg
    assert (
        text.count('class="lkm-in lkm-ring"') - text.count('visibility="hidden"') == 2
    )  # the outline around an injected node
    assert "1 pod · no sidecar" in text


def test_the_inline_picture_takes_the_colours_of_the_page() -> None:
    inline, alone = EncryptionMap(small()).inline_svg, EncryptionMap(small()).svg
    assert "--jp-ui-font-color1" in inline
    assert 'data-jp-theme-light="false"' in inline
    assert "--jp" not in alone
    assert 'width="100%" height="100%"' in alone


def test_nodes_keep_their_places_when_a_mode_changes() -> None:
    places = [place(small(state)).nodes for state in EdgeState]
    assert all(other == places[0] for other in places)


def test_nodes_keep_their_places_whatever_their_order() -> None:
    model = small()
    turned = MapModel(model.namespaces[::-1], model.nodes[::-1], model.edges[::-1])
    assert place(turned).nodes == place(model).nodes


def test_edges_to_one_server_end_beside_each_other() -> None:
    tips = {curve[1][-1] for curve in place(small()).curves.values()}
    assert len(tips) == 2


def test_an_edge_to_nowhere_is_left_out() -> None:
    model = MapModel((NamespaceBox("foo"),), (MapNode("foo", "a"),), (MapEdge("foo/a", "foo/gone", 80),))
    assert "foo/gone" not in EncryptionMap(model).dot
    assert EncryptionMap(model).svg


def test_an_empty_map_says_so() -> None:
    assert "Nothing runs" in EncryptionMap(MapModel()).svg
    assert str(MapModel()) == "Encryption map: no edges"


def test_the_source_names_the_workloads() -> None:
    source = EncryptionMap(small()).dot
    assert "cluster_foo" in source and "label=server" in source


def test_four_threads_draw_at_once_and_the_process_lives() -> None:
    """Graphviz's library aborts without the lock. Each map has a topology of its own, so none is laid out already."""
    drawn: list[str] = []

    def several(number: int) -> None:
        for state in EdgeState:
            model = small(state)
            more = MapNode("foo", f"more-{number}-{state.name.lower()}")
            drawn.append(EncryptionMap(replace(model, nodes=(*model.nodes, more))).svg)

    threads = [threading.Thread(target=several, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(drawn) == 4 * len(EdgeState)
