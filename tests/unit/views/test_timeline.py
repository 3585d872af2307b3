"""The timeline and the side panel: what they draw and what they say."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from datetime import UTC, datetime, timedelta

from labkit.pki import CertificateFacts
from labkit.views.edge_panel import EdgeFacts, Party, Request, edge_html
from labkit.views.map import EdgeState, MapEdge
from labkit.views.response_flags import meaning
from labkit.views.timeline import Mark, Second, Series, draw_timeline

EDGE = MapEdge(
    "foo/client", "foo/server", 80, EdgeState.MTLS, "Both have a sidecar.", decided_by="PeerAuthentication x"
)


def series(*seconds: Second, marks: tuple[Mark, ...] = ()) -> Series:
    return Series(1000.0, 900, seconds, marks)


def test_a_line_is_drawn_only_where_something_was_seen() -> None:
    text = draw_timeline(series(Second(900, success=5, mtls=5)))
    assert text.count('class="lkm-mtls"') == 2  # the line, and its sign in the legend
    assert text.count('class="lkm-refused"') == 1
    assert ET.fromstring(text).get("data-to") == "1000.0"


def test_a_change_is_marked_with_its_words() -> None:
    text = draw_timeline(series(marks=(Mark(950.0, "PeerAuthentication a/<b> changed"), Mark(10.0, "long ago"))))
    assert "PeerAuthentication a/&lt;b&gt; changed" in text and "long ago" not in text


def test_the_moment_that_is_replayed_is_marked() -> None:
    assert draw_timeline(series(), moment=500.0).count("#e0b000") > draw_timeline(series()).count("#e0b000")


def test_the_timeline_has_words() -> None:
    told = series(Second(990, 60, mtls=60), Second(991, 0, refused=30), marks=(Mark(990, "STRICT"),)).words
    assert told == "Timeline: 2.0/s mTLS, 1.0/s refused in the last 30 s. Last change: STRICT."
    assert "nothing was seen" in series(Second(200, 1, mtls=1)).words


def certificate() -> CertificateFacts:
    now = datetime.now(UTC)
    names = ("spiffe://cluster.local/ns/foo/sa/client",)
    return CertificateFacts("", "O=cluster.local", now, now + timedelta(hours=23, minutes=5), "1f", "ab", names)


def test_the_panel_shows_both_ends_and_counts_down() -> None:
    facts = EdgeFacts(
        Party("foo/client", certificate()),
        Party("foo/server", without="no sidecar, so no certificate of the mesh"),
        tls=("TLSv1.3", "TLS_AES_128_GCM_SHA256"),
        requests=(Request(0, "HTTP 200", 41),),
        flags=(("UC", 3),),
        commands=("istioctl version",),
    )
    text = edge_html(EDGE, facts)
    assert "Valid from" in text and "spiffe://cluster.local/ns/foo/sa/client" in text
    assert "23 h 4 min left" in text and "data-until=" in text
    assert "no sidecar, so no certificate" in text and "TLSv1.3" in text and "HTTP 200 × 41" in text
    assert "UC: the server closed the connection" in text and "$ istioctl version" in text


def test_the_panel_says_that_it_asks_before_it_knows() -> None:
    assert "Asking both proxies" in edge_html(EDGE)
    assert "PeerAuthentication x" in edge_html(EDGE)


def test_names_in_the_panel_are_escaped() -> None:
    odd = MapEdge("foo/<b>", "foo/server", 80, EdgeState.REFUSED, "<script>")
    assert "<script>" not in edge_html(odd) and "foo/<b>" not in edge_html(odd)


def test_flags_have_a_meaning_also_in_pairs() -> None:
    assert "UF: the connection" in meaning("UF,URX") and "; URX: given up" in meaning("UF,URX")
    assert "list of response flags" in meaning("XX")
