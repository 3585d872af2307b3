"""Lesson 12: hosts and machines that Kubernetes does not know."""

from typing import Any

from labkit.course.acts import apply, look, run
from labkit.course.model import Act, Lesson, Prediction, Question, Step, World, by_status

MANIFESTS = "manifests/lessons/12"
REGISTRY_ONLY = "meshConfig.outboundTrafficPolicy.mode=REGISTRY_ONLY"


def filled(lab: Any, file: str, **words: str) -> str:
    """A manifest with what no file can know: addresses of this cluster."""
    text = str(lab.show(f"{MANIFESTS}/{file}").text)
    for word, value in words.items():
        text = text.replace(word, value)
    return text


def with_address(file: str) -> Act:
    """Apply a manifest with the address of the machine outside."""
    return lambda lab: lab.apply(filled(lab, file, ADDRESS=lab.address_of("echo/echoserver")))


def registry_only(lab: Any) -> object:
    """Let nobody call what is not registered."""
    return lab.configure_mesh(set=[REGISTRY_ONLY])


def allow_any(lab: Any) -> object:
    """The default settings again."""
    return lab.configure_mesh()


def open_partner(lab: Any) -> list[object]:
    """The partner's https server, with a certificate of the partner's own authority; and where it is."""
    ca = lab.mint_ca("partner.example")
    where = lab.mesh_status().namespace
    return [
        lab.tls_secret("partner-credential", ca.server("api.partner.example"), namespace=where),
        lab.apply(f"{MANIFESTS}/partner.yaml"),
        lab.apply(filled(lab, "https.yaml", GATEWAY=where)),
    ]


def trust_partner(lab: Any) -> object:
    """Give callers the partner's authority."""
    return lab.tls_secret("partner-ca", ca=lab.minted("partner.example"), namespace="callers")


LESSON = Lesson(
    number="12",
    title="Reach beyond the mesh",
    world=World(gateway=True, applications=("callers", "echoserver-outside")),
    steps=(
        Step("Call a machine that nobody registered", look, ("12-passes",), covers=("D15",), without=registry_only),
        Step("Let out only what is registered", registry_only, ("12-blocked",), covers=("D15",)),
        Step("Register a host", with_address("static.yaml"), ("12-registered",), covers=("D15",)),
        Step("Leave the address to DNS", apply(f"{MANIFESTS}/dns.yaml"), ("12-by-name",), covers=("D15",)),
        Step("Meet a partner who speaks https alone", open_partner, ("12-plain-refused",)),
        Step("Originate TLS", run(trust_partner, apply(f"{MANIFESTS}/originate.yaml")), ("12-originated",)),
        Step("Describe a group of machines", apply(f"{MANIFESTS}/group.yaml"), ("12-group-alone",), covers=("D15",)),
        Step("Register a machine", with_address("machine.yaml"), ("12-machine",), covers=("D15",)),
        Step("Let everybody out again", allow_any, ("12-open-again",), covers=("D15",)),
    ),
    predictions={
        "12.1": Prediction(
            "The mesh says REGISTRY_ONLY. curl calls the same address again. What does it get?",
            {"a": "200: addresses are not names", "b": "502, from its own proxy", "c": "403, from the machine"},
            answer=by_status({200: "a", 502: "b", 403: "c"}),
            expected="b",
            because="The proxy knows no service at that address, and leads the call nowhere: BlackHoleCluster.",
        ),
        "12.2": Prediction(
            "curl calls http://api.partner.example/, and the partner listens for https alone. What does curl get?",
            {"a": "200: the proxy upgrades it", "b": "503, from its own proxy", "c": "a redirect to https"},
            answer=by_status({200: "a", 503: "b", 301: "c"}),
            expected="b",
            because="Plaintext meets a server that waits for a handshake, and hangs up. Nobody told the proxy better.",
        ),
        "12.3": Prediction(
            "A WorkloadGroup describes the machines of ledger.example, and a ServiceEntry selects them. "
            "What does a caller get?",
            {"a": "200", "b": "503: no machine is registered", "c": "could not resolve host"},
            answer=by_status({200: "a", 503: "b", None: "c"}),
            expected="b",
            because="A group is a template, as a Deployment is for pods. The name is known, nobody is behind it.",
        ),
    },
    quiz=(
        Question(
            "What does location: MESH_EXTERNAL change?",
            {
                "a": "Proxies send no mTLS of the mesh to that host.",
                "b": "The host is resolved outside of the cluster.",
                "c": "Only the egress gateway may call it.",
            },
            right="a",
            because="Nobody outside has a certificate of the mesh. What is sent instead, a DestinationRule says.",
        ),
        Question(
            "Applications call http://, the partner wants https. Where do you write that?",
            {
                "a": "in the ServiceEntry",
                "b": "in a PeerAuthentication",
                "c": "in a DestinationRule with tls.mode SIMPLE",
            },
            right="c",
            because="It says what clients send. The ServiceEntry says only where the host is and on which port.",
        ),
        Question(
            "REGISTRY_ONLY is set. Is it a firewall?",
            {
                "a": "Yes: no byte leaves an unregistered way.",
                "b": "No: whoever gets past the sidecar gets out. NetworkPolicy closes that.",
                "c": "Yes, together with STRICT.",
            },
            right="b",
            because="The sidecar obeys it, and a pod without one does not. It finds mistakes, and stops no attacker.",
        ),
    ),
)
