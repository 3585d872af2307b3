"""Lesson 07: the front door, from no listener to a service behind it that half belongs to the mesh."""

from typing import Any

from labkit.course.acts import apply, apply_to_mesh, delete, delete_from_mesh, inject, look, ready, restart, run
from labkit.course.model import Lesson, Prediction, Question, Step, World, by_status

APP = "manifests/apps/customers/sidecar"
MANIFESTS = "manifests/lessons/07"
CUSTOMERS = {"Host": "customers.example.com"}


def send(lab: Any) -> list[object]:
    """Both loops: the page, and customers directly."""
    page = lab.loop("default/curl-outside", lab.door(), times=5)
    return [page, lab.loop("default/curl-outside", lab.door(), times=5, headers=CUSTOMERS)]


LESSON = Lesson(
    number="07",
    title="Open the front door: Gateway and VirtualService",
    world=World(gateway=True, applications=("curl-outside", "echoserver")),
    steps=(
        Step(
            "Knock at a gateway without a Gateway",
            look,
            ("07-closed",),
            covers=("D6",),
            without=apply(f"{MANIFESTS}/gateway.yaml"),
        ),
        Step("Open port 80", apply(f"{MANIFESTS}/gateway.yaml"), ("07-open-no-route",), covers=("C1", "D6")),
        Step("Route a host to echoserver", apply(f"{MANIFESTS}/echo.yaml"), ("07-echo",), covers=("D4", "D7")),
        Step(
            "Route a path back to the gateway",
            apply_to_mesh(f"{MANIFESTS}/root/probe.yaml"),
            ("07-readiness",),
            covers=("D8",),
        ),
        Step(
            "Deploy web-frontend before the namespace asks for sidecars",
            run(apply(f"{APP}/00-namespace.yaml"), apply(f"{APP}/web-frontend.yaml"), ready("customers")),
            ("07-plain-frontend",),
            covers=("C2",),
        ),
        Step(
            "Deploy customers after it does",
            run(inject("customers"), apply(f"{APP}/customers.yaml"), ready("customers")),
            ("07-injected-customers",),
            covers=("C3",),
        ),
        Step("Route to the page", apply(f"{MANIFESTS}/page.yaml"), ("07-page",), covers=("C4",)),
        Step(
            "Ask customers who calls",
            lambda lab: lab.loop("default/curl-outside", lab.door(), times=5),
            ("07-unknown-caller",),
            covers=("C5",),
            without=restart("customers/customers-v1"),
        ),
        Step("Route a host to customers", apply(f"{MANIFESTS}/customers.yaml"), ("07-direct",), covers=("C6",)),
        Step(
            "Send both loops",
            send,
            ("07-one-padlock",),
            covers=("C7",),
            without=restart("customers/customers-v1"),
        ),
        Step("Say STRICT", apply(f"{MANIFESTS}/strict.yaml"), ("07-page-breaks",), covers=("C8",)),
        Step("Take it back", delete(f"{MANIFESTS}/strict.yaml"), ("07-page-returns",), covers=("C9",)),
        Step(
            "Close the door and clean up",
            run(delete(APP), delete_from_mesh(f"{MANIFESTS}/root"), delete(MANIFESTS)),
            ("07-cleaned-up",),
            covers=("C10",),
        ),
    ),
    predictions={
        "07.1": Prediction(
            "A Gateway opens port 80, and nothing says where requests go. What does one get?",
            {"a": "connection refused, as before", "b": "404", "c": "503"},
            answer=by_status({None: "a", 404: "b", 503: "c"}),
            expected="b",
            because="Now somebody listens and speaks HTTP, and knows no route for any host.",
        ),
        "07.2": Prediction(
            "Gateway to web-frontend, gateway to customers, web-frontend to customers: which of them use mTLS?",
            {"a": "all three", "b": "gateway to customers alone", "c": "both that begin at the gateway"},
            answer="b",
            because="mTLS needs a proxy on both sides: the gateway is one, and customers has one.",
        ),
        "07.3": Prediction(
            "customers becomes STRICT. What does a visitor of the page get?",
            {"a": "200: the gateway uses mTLS", "b": "502, and the page says why", "c": "404"},
            answer=by_status({200: "a", 502: "b", 404: "c"}),
            expected="b",
            because="The hop behind the page is the one that breaks: web-frontend can send plaintext alone.",
        ),
    },
    quiz=(
        Question(
            "Which object opens a port of the ingress gateway?",
            {"a": "a VirtualService", "b": "a Service of type LoadBalancer", "c": "a Gateway"},
            right="c",
            because="The Service leads packets to the pod; whether its proxy listens there, a Gateway says.",
        ),
        Question(
            "A VirtualService names no gateways. Whose requests does it route?",
            {"a": "those of sidecars", "b": "those of all gateways", "c": "nobody's"},
            right="a",
            because="The default is `mesh`, which means every sidecar and no gateway.",
        ),
        Question(
            "Through the gateway comes 404. What do you look at first?",
            {
                "a": "the PeerAuthentication of the server",
                "b": "the host that was asked for, and the hosts and gateways of the VirtualService",
                "c": "the pods of the server",
            },
            right="b",
            because="A hop that fails is a 502 or 503, a closed door refuses. 404 says that no route took the request.",
        ),
    ),
)
