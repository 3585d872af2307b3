"""Expectations that drills have beside those of `labkit.checks.expecting`."""

from __future__ import annotations

import time

from labkit.checks.evidence import told
from labkit.checks.expecting import Expectation, answered
from labkit.checks.results import Judgement
from labkit.cluster import Cluster
from labkit.cluster.kinds import DEPLOYMENT
from labkit.errors import LabError
from labkit.installers.gateway import gateway_address
from labkit.observe import metrics
from labkit.observe.forwarded import ask_through_forward
from labkit.observe.mesh import mesh_status
from labkit.observe.objects import app_container, find_workload, name_of
from labkit.observe.visiting import Papers, door_of, visit
from labkit.observe.waiting import missing_in_deployment
from labkit.pki.folder import folder_of


def answered_each_time(client: str, url: str, times: int) -> Expectation:
    """The same request gets 200 again and again."""
    once = answered(client, url)

    def expect(cluster: Cluster) -> Judgement:
        expected = f"{client} calls {url}: 200, {times} times"
        for count in range(1, times + 1):
            one = once(cluster)
            if not one.passed:
                return Judgement(False, expected, f"the {count}. time {one.observed}")
        return Judgement(True, expected, "200 each time")

    return expect


def rolled_out(deployment: str, namespace: str) -> Expectation:
    """All pods of a Deployment are ready, and of its newest template."""

    def expect(cluster: Cluster) -> Judgement:
        expected = f"deployment {deployment} in {namespace} is rolled out"
        found = cluster.find(DEPLOYMENT, deployment, namespace)
        lacking = missing_in_deployment(found) if found else "it is gone"
        return Judgement(not lacking, expected, lacking or "it is")

    return expect


def forwarded(workload: str, port: int) -> Expectation:
    """`kubectl port-forward` still reaches the application."""

    def expect(cluster: Cluster) -> Judgement:
        expected = f"kubectl port-forward to {workload} {port}: 200"
        try:
            seen = ask_through_forward(cluster, workload, port)
        except LabError as error:
            return Judgement(False, expected, error.what)
        return Judgement(seen.http_status == 200, expected, seen.seen)

    return expect


def visited(
    url: str, *, client: str = "", trust: str = "example.com", status: int | None = 200, authority: str = ""
) -> Expectation:
    """A visit of the front door from outside, with a certificate that the lab has minted; no status: cut off."""

    def expect(cluster: Cluster) -> Judgement:
        who, what = client or "a client without a certificate", f"{url} and {authority}" if authority else url
        expected = f"{who} visits {what}: {status or 'refused'}"
        folder = folder_of(cluster.name)
        if missing := [name for name in (trust, client) if name and not folder.has(name)]:
            return Judgement(False, expected, f"no certificate: {', '.join(missing)}")
        papers = Papers(folder.certificate(trust))
        if client:
            papers = Papers(folder.certificate(trust), folder.certificate(client), folder.key(client))
        try:
            address = gateway_address(cluster, namespace=mesh_status(cluster).namespace or "istio-system")
            seen = visit(url, door_of(address.url("https")), papers, authority=authority)
        except LabError as error:
            return Judgement(False, expected, error.what)
        return Judgement(seen.http_status == status, expected, told(seen))

    return expect


def prints(client: str, command: str, words: str, what: str) -> Expectation:
    """A shell's command in the client's container prints these words."""

    def expect(cluster: Cluster) -> Judgement:
        expected = f"{client} {what}: {words}"
        try:
            pod = find_workload(cluster, client).ready_pod()
            line = ["sh", "-c", command]
            done = cluster.execute(
                name_of(pod), client.partition("/")[0], line, container=app_container(pod), limit=10.0
            )
        except LabError as error:
            return Judgement(False, expected, error.what)
        seen = (done.stdout.strip() or done.stderr.strip() or f"exit {done.exit_code}, and not a word")[:200]
        return Judgement(words in done.stdout, expected, seen)

    return expect


def counted_by_server(client: str, url: str, namespace: str, seconds: float = 1.0) -> Expectation:
    """The server's proxy counts the client's request, and as mTLS."""
    once = answered(client, url)

    def count(cluster: Cluster) -> float:
        wanted = {"reporter": "destination", "connection_security_policy": "mutual_tls"}
        return sum(
            one.value
            for one in metrics.scrape(cluster, (namespace,)).samples
            if one.name == metrics.REQUESTS and wanted.items() <= one.labels.items()
        )

    def expect(cluster: Cluster) -> Judgement:
        expected = f"the server's proxy counts the requests of {client} as mutual_tls"
        before, until = count(cluster), time.monotonic() + seconds
        sent = once(cluster)
        if not sent.passed:
            return Judgement(False, expected, sent.observed)
        while (after := count(cluster)) <= before and time.monotonic() < until:
            time.sleep(0.1)
        return Judgement(after > before, expected, "it does" if after > before else "it counts nothing")

    return expect
