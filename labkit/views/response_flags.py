"""What Envoy's response flags mean, in one line each.

https://www.envoyproxy.io/docs/envoy/latest/configuration/observability/access_log/usage#config-access-log-format-response-flags
"""

from __future__ import annotations

MEANINGS = {
    "-": "nothing went wrong in the proxy",
    "DC": "the client closed the connection first",
    "DPE": "what the client sent is no proper HTTP",
    "DI": "delayed on purpose, by a fault that a VirtualService injects",
    "FI": "answered on purpose with an error, by a fault that a VirtualService injects",
    "LR": "this proxy reset the connection",
    "NC": "the route leads to a cluster that does not exist",
    "NR": "no route, or no filter chain: plaintext at a STRICT port ends so",
    "RL": "a rate limit said no",
    "UAEX": "an external authorization service said no",
    "UC": "the server closed the connection: plaintext at a STRICT port, or mTLS at a server without a sidecar",
    "UF": "the connection to the server did not come about; with TLS_error in the details, the handshake failed",
    "UH": "no healthy server stands behind the Service",
    "UO": "too many requests or connections at once: a circuit breaker",
    "UPE": "what the server answered is no proper HTTP",
    "UR": "the server reset the stream",
    "URX": "given up after all retries",
    "UT": "the server took too long",
}


def meaning(flags: str) -> str:
    """The meaning of a flag, or of several with commas between them."""
    told = [f"{flag}: {MEANINGS.get(flag, 'see Envoy’s list of response flags')}" for flag in flags.split(",") if flag]
    return "; ".join(told)
