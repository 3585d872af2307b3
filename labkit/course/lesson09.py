"""Lesson 09: what the proxies count, and who may scrape whom."""

from typing import Any

from labkit.course.acts import apply, look, mode, run
from labkit.course.model import Lesson, Prediction, Question, Step, World, by_outcome

MANIFESTS = "manifests/lessons/09"
URL = "http://visits.visits:8080/"


def send(client: str, times: int) -> Any:
    """So many requests to visits."""
    return lambda lab: lab.loop(client, URL, times=times)


LESSON = Lesson(
    number="09",
    title="Scrape metrics, and keep the scraper in",
    world=World(applications=("curl-outside", "visits", "callers")),
    steps=(
        Step(
            "Send some of each",
            run(send("callers/curl", 3), send("default/curl-outside", 1)),
            ("09-counted",),
            covers=("D12",),
        ),
        Step("Scrape as a stranger", look, ("09-scraped",), covers=("D13",), without=mode("STRICT", "visits")),
        Step("Say STRICT", apply(f"{MANIFESTS}/strict.yaml"), ("09-scraper-stopped",), covers=("D13",)),
        Step("Read the merged page", apply(f"{MANIFESTS}/merged-page.yaml"), ("09-merged",), covers=("D13",)),
        Step("Open one port", apply(f"{MANIFESTS}/metrics-port.yaml"), ("09-scraper-back",), covers=("D13",)),
    ),
    predictions={
        "09.1": Prediction(
            "curl-outside called visits in plaintext. Which of these says so in the server's metrics?",
            {
                "a": 'connection_security_policy="none"',
                "b": 'response_code="403"',
                "c": 'reporter="source"',
            },
            answer="a",
            because="The server's proxy counts every request it let in, and how it came: mutual_tls or none.",
        ),
        "09.2": Prediction(
            "visits becomes STRICT. A scraper without a sidecar asks for /metrics on port 9102. What does it get?",
            {
                "a": "the metrics, by mTLS",
                "b": "the metrics: nobody calls that port by a Service's main port",
                "c": "a reset connection",
            },
            answer=by_outcome(mtls="a", plaintext="b", refused="c"),
            expected="c",
            because="STRICT holds for all ports of a workload, and a scraper without a certificate is a stranger.",
        ),
    },
    quiz=(
        Question(
            "Which side's metrics say how a request was protected?",
            {"a": "the server's: reporter=destination", "b": "the client's: reporter=source", "c": "both"},
            right="a",
            because="The client's proxy always writes unknown there. Graphs that read the wrong side show no lock.",
        ),
        Question(
            "STRICT refuses 50 plaintext connections. What does istio_requests_total show?",
            {"a": "50 requests with code 403", "b": "50 requests with code 0", "c": "nothing"},
            right="c",
            because="HTTP never began. The listener's statistics and the access log know of them.",
        ),
        Question(
            "Prometheus's targets are DOWN after STRICT. What is the best first answer?",
            {
                "a": "Set the whole namespace back to PERMISSIVE.",
                "b": "Let it scrape the merged page on port 15020 of each pod.",
                "c": "Delete the sidecars of all servers.",
            },
            right="b",
            because="Sidecars show the application's metrics with their own there, and no mode closes that port.",
        ),
    ),
)
