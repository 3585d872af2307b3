"""An application that speaks HTTPS itself, and a rule that wraps it into TLS once more."""

from typing import Any

from labkit.checks.expecting import keeps
from labkit.course import World
from labkit.course.acts import apply, delete, run
from labkit.drills.expecting import prints
from labkit.drills.model import Drill
from labkit.drills.places import CA, CALLER, SECRET, broken

NAME = "double-tls"
HOST = "api.partner.example"
COMMAND = f"curl -sSk --max-time 5 https://{HOST}/"


def _partner(lab: Any) -> object:
    server = lab.mint_ca(CA).server(HOST)
    return lab.tls_secret(SECRET, server, None, lab.mesh_status().namespace)


def _entry(lab: Any) -> object:
    entry = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": "partner", "namespace": "callers"},
        "spec": {
            "hosts": [HOST],
            "location": "MESH_EXTERNAL",
            "resolution": "DNS",
            "ports": [{"number": 443, "name": "https", "protocol": "HTTPS"}],
            "endpoints": [{"address": f"istio-ingressgateway.{lab.mesh_status().namespace}.svc.cluster.local"}],
        },
    }
    return lab.apply(entry)


DRILL = Drill(
    name=NAME,
    title="Every call of the partner dies in the handshake",
    story=(
        f"callers/curl calls the partner by https, and did so for years: '{COMMAND}' in its container. Since a rule "
        "of the security team came out, curl ends with exit code 35, within the handshake. The host is "
        "registered in the mesh, and stays registered; the partner accepts https alone."
    ),
    world=World(gateway=True, applications=("visits", "callers")),
    breaks=run(_partner, apply(broken(NAME, "partner.yaml")), _entry, apply(broken(NAME, "rule.yaml"))),
    healed=(
        prints(CALLER, COMMAND, "visitor", "calls the partner by https"),
        keeps("serviceentry", "partner", "callers", "spec", "hosts", 0),
    ),
    repair=delete("destinationrule/partner", "callers"),
    shortest="kubectl delete destinationrule partner -n callers",
    cause=(
        "The application already speaks TLS, and the rule made its proxy begin TLS once more: TLS within TLS. The "
        "partner found a handshake where it expected HTTP. Originate TLS for what applications send in plaintext, and "
        "for nothing else."
    ),
    hints=(
        "How many parties begin TLS on this way? The application says https.",
        "What does the caller's proxy add? lab.proxy_config('clusters', 'callers/curl', fqdn='api.partner.example').",
    ),
)
