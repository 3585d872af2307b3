"""Metrics of clients alone, which cannot tell how a connection was secured."""

from labkit.checks.expecting import answered, keeps
from labkit.course.acts import apply
from labkit.drills.expecting import counted_by_server
from labkit.drills.model import Drill
from labkit.drills.places import CALLER, PAGE, VISITS, broken, repaired
from labkit.outcomes import Outcome

NAME = "map-says-unknown"

DRILL = Drill(
    name=NAME,
    title="The dashboard has lost its locks",
    story=(
        "callers/curl calls visits as before, and a capture shows mTLS. But on the dashboards the requests to visits "
        "have no lock any more: their security is unknown, and the panels of the server stay empty. Somebody was "
        "asked to save on metrics, and to write an access log; the log stays."
    ),
    world=VISITS,
    breaks=apply(broken(NAME)),
    healed=(
        counted_by_server(CALLER, PAGE, "visits"),
        answered(CALLER, PAGE, by=Outcome.MTLS),
        keeps("telemetry", "thrift", "visits", "spec", "accessLogging"),
    ),
    repair=apply(repaired(NAME)),
    shortest=(
        "kubectl patch telemetry thrift -n visits --type json "
        """-p '[{"op": "remove", "path": "/spec/metrics"}]'"""
    ),
    cause=(
        "Only the server's proxy (reporter=destination) knows how a connection came in; a client reports "
        "connection_security_policy unknown. A Telemetry had switched the server's metrics off. The wire was fine."
    ),
    hints=(
        "lab.metrics('visits', 'callers').requests: which reporters are there, and what does each say?",
        "Which kind decides what proxies count? kubectl get telemetry -A.",
    ),
)
