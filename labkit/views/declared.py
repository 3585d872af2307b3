"""What is declared, as it is shown: one call with its reasons, all calls as a table, and what a change would do."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import TYPE_CHECKING, Any

from labkit.outcomes import Outcome, outcome_colour
from labkit.policy.declared import Because, EdgeVerdict, Explanation, Rule
from labkit.policy.declared.changing import EdgeChange, Preview
from labkit.policy.declared.verifying import Finding, Verification, findings_of
from labkit.views.page import card, table

if TYPE_CHECKING:
    from labkit.views.edge_table import EdgeTable
    from labkit.views.tables import Table

BLUE, ORANGE = "#0072b2", "#d55e00"  # Okabe-Ito; the words carry the meaning

_CLIENTS_NAMED = 8

NO_CALLS = "There are no calls to look at: it takes a workload that calls, and a Service with pods behind it"

EDGE_COLUMNS = ("CLIENT", "SERVER", "VERDICT", "CLIENT SENDS", "SERVER ACCEPTS", "DECIDED BY", "WHY")
CHANGE_COLUMNS = ("CLIENT", "SERVER", "EFFECT", "WAS", "BECOMES", "REQ/MIN", "WHY")
REASON_COLUMNS = ("SIDE", "OBJECT", "WHAT IT DOES HERE", "THE RULE", "PAGE")


class Explained:
    """One call: the verdict, both sides, each deciding object, and the rule by which it decides."""

    def __init__(self, explanation: Explanation) -> None:
        self.explanation = explanation
        self.answer = explanation.answer

    @property
    def outcome(self) -> Outcome:
        return self.answer.outcome

    @property
    def because(self) -> tuple[Because, ...]:
        return self.answer.because

    @property
    def client_sends(self) -> str:
        return self.answer.sends

    @property
    def server_accepts(self) -> str:
        return self.answer.accepts

    @property
    def frame(self) -> Table:
        """The reasons as a table."""
        from labkit.views.tables import make_table

        rows = [(one.rule.side, one.object, one.said, one.rule.sentence, one.rule.link) for one in self.because]
        return make_table(REASON_COLUMNS, rows)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return self.explanation.as_dict()

    @property
    def title(self) -> str:
        one = self.explanation
        return f"{one.client} -> {one.target} ({one.target.protocol}, {one.request} is sent)"

    @property
    def verdict(self) -> str:
        """The verdict in one line."""
        answer = self.answer
        if answer.outcome is Outcome.UNKNOWN and len(answer.ways) > 1:
            return f"it depends: {answer.shares}"
        some = f", but some requests are refused by {answer.partly.object}" if answer.partly else ""
        return f"{_word(answer.outcome)}: the caller sees {answer.caller_sees}{some}"

    def _notes(self) -> list[str]:
        notes = [f"Does not decide: {one}" for one in self.answer.ignored]
        if len(self.answer.ways) > 1:
            notes += [
                f"{way.share:.0%}{f' ({way.when})' if way.when else ''}: {way.server or 'nobody'}, {way.outcome}"
                for way in self.answer.ways
            ]
        return notes

    def __str__(self) -> str:
        lines = [self.title, f"  {self.verdict}", ""]
        lines += [f"  client sends    {self.client_sends}", f"  server accepts  {self.server_accepts}", ""]
        for one in self.because:
            lines += [f"  {one.rule.side}: {one.said}", f"    set by  {_set_by(one)}"]
            lines += [f"    rule    {one.rule.sentence}", f"            {one.rule.link}"]
        return "\n".join([*lines, *(f"  {note}" for note in self._notes())])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        sides = [f"The client sends {self.client_sends}.", f"The server accepts {self.server_accepts}."]
        head = card(self.title, [self.verdict, *sides, *self._notes()], colour=outcome_colour(self.outcome))
        cell = "text-align:left;padding:3px 14px 3px 0;color:inherit;vertical-align:top"
        body = "".join(
            f'<tr style="background:transparent"><td style="{cell}">{escape(one.rule.side)}</td>'
            f'<td style="{cell}"><b>{escape(one.object)}</b></td><td style="{cell}">{escape(one.said)}</td>'
            f'<td style="{cell}">{escape(one.rule.sentence)} '
            f'<a href="{escape(one.rule.link)}" target="_blank" rel="noopener">Istio</a></td></tr>'
            for one in self.because
        )
        names = "".join(
            f'<th style="{cell};opacity:.7;font-weight:600">{name}</th>'
            for name in ("SIDE", "OBJECT", "WHAT IT DOES HERE", "THE RULE")
        )
        return (
            f'{head}<table style="border-collapse:collapse;color:inherit;margin:4px 0"><thead>'
            f'<tr style="background:transparent">{names}</tr></thead><tbody>{body}</tbody></table>'
        )


def edge_row(edge: EdgeVerdict) -> tuple[str, ...]:
    """One row of the table of all calls."""
    answer = edge.answer
    objects = ", ".join(dict.fromkeys(one.object for one in answer.deciders if one.by_object)) or "-"
    verdict = f"{answer.outcome}, for some" if answer.partly else str(answer.outcome)
    return edge.client.name, edge.target.label, verdict, answer.sends, answer.accepts, objects, answer.why


def edge_table(edges: Iterable[EdgeVerdict]) -> EdgeTable:
    """All calls as a table."""
    from labkit.views.edge_table import EdgeTable

    return EdgeTable([edge_row(one) for one in edges], columns=list(EDGE_COLUMNS))


def edge_text(edges: Iterable[EdgeVerdict]) -> str:
    """All calls for a terminal, which scrolls: every row, and a line that counts them."""
    from labkit.views.tables import Table

    frame = edge_table(edges)
    return f"{Table(frame)!r}\n{frame.summary.partition(' The first')[0]}"


def edge_dict(edge: EdgeVerdict) -> dict[str, Any]:
    """One call, for JSON."""
    answer = edge.answer
    return {
        "client": edge.client.name,
        "server": edge.target.label,
        "verdict": str(answer.outcome),
        "client_sends": answer.sends,
        "server_accepts": answer.accepts,
        "decided_by": [one.object for one in answer.deciders if one.by_object],
        "some_requests_refused_by": answer.partly.object if answer.partly else "",
        "why": answer.why,
    }


class Previewed:
    """What a change would do, before it is applied."""

    def __init__(self, preview: Preview, what: str = "The change") -> None:
        self.preview, self.what = preview, what

    @property
    def safe(self) -> bool:
        return self.preview.safe

    @property
    def breaking(self) -> tuple[EdgeChange, ...]:
        return self.preview.breaking

    @property
    def verification(self) -> Verification:
        """The same as findings."""
        return findings_of(self.preview)

    @property
    def frame(self) -> Table:
        """The edges that change, as a table."""
        from labkit.views.tables import make_table

        drop = [] if self.preview.watched else ["REQ/MIN"]
        return make_table(CHANGE_COLUMNS, (_change_row(one) for one in self.preview.changes), drop=drop)

    @property
    def summary(self) -> list[str]:
        """The change in some lines."""
        preview = self.preview
        lines = [f"The cluster would refuse it: {one}" for one in preview.refused]
        if not (preview.changes or preview.unchanged):
            lines.append(
                "So nothing can be said of the change: start with the workloads, and with Services before them."
            )
        elif not preview.changes:
            lines.append(f"No edge changes; {preview.unchanged} stay as they are.")
        else:
            counted = ", ".join(f"{number} {_effect(effect, number)}" for effect, number in preview.counts.items())
            lines.append(
                f"Of {preview.unchanged + len(preview.changes)} edges: {counted}; {preview.unchanged} as before."
            )
        broken = preview.broken_clients
        for client, servers in list(broken.items())[:_CLIENTS_NAMED]:
            shown = ", ".join(servers[:4]) + (f" and {len(servers) - 4} more" if len(servers) > 4 else "")
            lines.append(f"{client} would no longer reach {shown}.")
        if len(broken) > _CLIENTS_NAMED:
            lines.append(f"{len(broken) - _CLIENTS_NAMED} more clients would lose somebody; the table names all.")
        if broken and preview.untouched:
            safe = preview.untouched
            more = f" and {len(safe) - 4} more" if len(safe) > 4 else ""
            lines.append(f"Nothing changes for {', '.join(safe[:4])}{more}.")
        if preview.refused_per_minute is not None:
            lines.append(
                f"Of the traffic that was seen, {preview.refused_per_minute:g} requests per minute would be refused."
            )
        return [*lines, *(f"Note: {one}" for one in preview.notes)]

    @property
    def title(self) -> str:
        if self.safe and not (self.preview.changes or self.preview.unchanged):
            return NO_CALLS
        if self.safe:
            return f"{self.what} is safe"
        return f"{self.what} breaks something" if self.breaking else f"{self.what} would be refused"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        preview = self.preview
        return {
            "safe": preview.safe,
            "refused_by_the_cluster": list(preview.refused),
            "changes": [one.as_dict() for one in preview.changes],
            "unchanged": preview.unchanged,
            "clients_without_change": preview.untouched,
            "counts": preview.counts,
            "refused_per_minute": preview.refused_per_minute,
            "notes": list(preview.notes),
        }

    def __str__(self) -> str:
        parts = [self.title, *(f"  {line}" for line in self.summary)]
        return "\n".join([*parts, "", str(self.frame)] if self.preview.changes else parts)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head = card(self.title, self.summary, colour=BLUE if self.safe else ORANGE)
        rows = [_change_row(one) for one in self.preview.changes]
        if not self.preview.watched:
            rows = [(*row[:5], *row[6:]) for row in rows]
        columns = [name for name in CHANGE_COLUMNS if self.preview.watched or name != "REQ/MIN"]
        return head + (table(columns, rows) if rows else "")


class Verified:
    """Whether what is declared is as it was wished."""

    def __init__(self, verification: Verification) -> None:
        self.verification = verification

    @property
    def passed(self) -> bool:
        return self.verification.passed

    @property
    def findings(self) -> tuple[Finding, ...]:
        return self.verification.findings

    @property
    def title(self) -> str:
        looked = len(self.verification.cases)
        if self.passed:
            return f"All {looked} calls are as wished" if looked else NO_CALLS
        wrong = sum(bool(case.wrong) for case in self.verification.cases)
        return f"Of {looked} calls {wrong} {'is' if wrong == 1 else 'are'} not as wished"

    @property
    def frame(self) -> Table:
        """The findings as a table."""
        from labkit.views.tables import make_table

        return make_table(("RULE", "WHAT", "DECIDED BY"), self._rows())

    def _rows(self) -> list[tuple[str, str, str]]:
        return [(one.rule, one.message, one.because.object if one.because else "-") for one in self.findings]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "passed": self.passed,
            "looked_at": len(self.verification.cases),
            "findings": [one.as_dict() for one in self.findings],
        }

    def __str__(self) -> str:
        return "\n".join([self.title, *(f"  {one.rule}: {one.message}" for one in self.findings)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head = card(self.title, colour=BLUE if self.passed else ORANGE)
        return head + (table(("RULE", "WHAT", "DECIDED BY"), self._rows()) if self.findings else "")


def _change_row(one: EdgeChange) -> tuple[str, ...]:
    rate = "" if one.rate is None else f"{one.rate:g}"
    return one.client, one.server, str(one.effect), one.was, one.becomes, rate, one.why


def _set_by(one: Because) -> str:
    """The object of a step. The bare word "default" would read as an object's name."""
    if one.by_object:
        return one.object
    return "no object: the mode without a policy" if one.rule is Rule.PEER_AUTHENTICATION else "no object"


def _effect(effect: str, number: int) -> str:
    if number == 1:
        return effect
    plural = {"is new": "are new", "goes": "go", "changes": "change", "starts to work": "start to work"}
    words = {
        "breaks": "break",
        "breaks for some": "break for some",
        "loses mTLS": "lose mTLS",
        "gains mTLS": "gain mTLS",
    }
    return {**plural, **words}.get(effect, effect)


def _word(outcome: Outcome) -> str:
    return "TLS of the application" if outcome is Outcome.TLS else str(outcome)
