"""Lesson 08: mTLS at the front door, with certificates of your own."""

from typing import Any

from labkit.course.acts import apply, delete, look, run
from labkit.course.model import Act, Lesson, Prediction, Question, Step, World, by_status

MANIFESTS = "manifests/lessons/08"
HOST, SECRET = "sentences.example.com", "sentences-credential"


def mint(lab: Any) -> None:
    """An authority with a server and two clients, one of them too late; and a stranger of another authority."""
    ca = lab.mint_ca("example.com")
    ca.server(HOST, "status.example.com")
    ca.client("partner")
    ca.client("late-partner", expired=True)
    lab.mint_ca("stranger.org").client("stranger")


def put_secret(namespace: str = "") -> Act:
    """The Secret of the gateway, in its own namespace or in another one."""

    def act(lab: Any) -> object:
        where = namespace or lab.mesh_status().namespace
        return lab.tls_secret(SECRET, lab.minted(HOST), lab.minted("example.com"), where)

    return act


def take_secret(lab: Any) -> object:
    """Delete the Secret beside the gateway."""
    return lab.delete(f"secret/{SECRET}", lab.mesh_status().namespace)


LESSON = Lesson(
    number="08",
    title="Mint ingress mTLS certificates",
    world=World(gateway=True, applications=("sentences",)),
    steps=(
        Step("Mint an authority and what it signs", mint, ("08-minted",), covers=("B9",)),
        Step(
            "Open port 443 for clients with a certificate",
            apply(f"{MANIFESTS}/gateway.yaml"),
            ("08-door-without-secret",),
            covers=("B11",),
        ),
        Step("Put the Secret beside the application", put_secret("sentences"), ("08-wrong-place",)),
        Step(
            "Put the Secret beside the gateway",
            run(delete(f"secret/{SECRET}", "sentences"), put_secret()),
            ("08-secret", "08-answered"),
            covers=("B10", "B11", "B12"),
        ),
        Step(
            "Come with the wrong papers",
            look,
            ("08-none", "08-stranger", "08-expired"),
            covers=("B12",),
            without=apply(f"{MANIFESTS}/simple.yaml"),
        ),
        Step(
            "Clean up",
            run(delete(f"{MANIFESTS}/gateway.yaml"), take_secret, lambda lab: lab.forget_minted()),
            ("08-nothing-left",),
            covers=("B14",),
        ),
    ),
    predictions={
        "08.1": Prediction(
            "The Gateway stands in the namespace sentences, and so does the Secret that it names. "
            "What does a client with a good certificate get?",
            {"a": "200", "b": "a broken handshake", "c": "404"},
            answer=by_status({200: "a", None: "b", 404: "c"}),
            expected="b",
            because="credentialName is looked up where the gateway's pod runs, not where the Gateway is written.",
        ),
        "08.2": Prediction(
            "A client comes without a certificate. What does it get?",
            {"a": "403 Forbidden", "b": "a cut connection and a TLS alert", "c": "200: the server is still verified"},
            answer=by_status({403: "a", None: "b", 200: "c"}),
            expected="b",
            because="The handshake fails before HTTP begins, so there is nobody who could say 403.",
        ),
    },
    quiz=(
        Question(
            "Which key of the Secret decides which clients are let in?",
            {"a": "cert", "b": "key", "c": "cacert"},
            right="c",
            because="cert and key are what the server shows. cacert is whom it trusts: what that authority signed.",
        ),
        Question(
            "A client says: tlsv1 alert unknown ca. Who refused whom, and why?",
            {
                "a": "The gateway refused the client: another authority signed its certificate.",
                "b": "The client refused the gateway: it does not trust its certificate.",
                "c": "The gateway's Secret is missing.",
            },
            right="a",
            because="An alert comes from the other side. A client that does not trust the server says exit code 60.",
        ),
        Question(
            "The gateway lets a partner in by mTLS. Whose certificate does the application's sidecar see?",
            {"a": "the partner's", "b": "the gateway's, from the mesh's own authority", "c": "none"},
            right="b",
            because="The gateway ends the partner's TLS, and begins mTLS of the mesh with its own identity.",
        ),
    ),
)
