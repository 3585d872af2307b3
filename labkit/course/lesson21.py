"""Lesson 21: a load balancer in front of the gateway that takes TLS off with a certificate of the cloud."""

from typing import Any

from labkit.course.acts import apply, apply_to_mesh, run
from labkit.course.model import Lesson, Prediction, Question, Step, World, by_status

MANIFESTS = "manifests/lessons/21"
GATEWAY, HOST, SECRET = "istio-ingress", "shop.example.com", "shop-credential"
ARN = "arn:aws:acm:us-east-1:111122223333:certificate/11111111-2222-3333"
AWS = "service.beta.kubernetes.io/aws-load-balancer-"
ANNOTATIONS = {f"{AWS}ssl-cert": ARN, f"{AWS}backend-protocol": "tcp", f"{AWS}ssl-ports": "https"}


def own_certificate(lab: Any) -> object:
    """A certificate of an authority of one's own, in a Secret beside the gateway."""
    ca = lab.mint_ca("example.com")
    return lab.tls_secret(SECRET, ca.server(HOST), namespace=GATEWAY)


def annotate(lab: Any) -> object:
    """What AWS reads on the gateway's Service."""
    return lab.annotate(f"service/{GATEWAY}", ANNOTATIONS, GATEWAY)


LESSON = Lesson(
    number="21",
    title="Let a load balancer hold the certificate",
    world=World(applications=("curl-outside", "workshop"), makes=(GATEWAY,)),
    steps=(
        Step(
            "Open a gateway that takes TLS off itself",
            run(
                lambda lab: lab.install_gateway(GATEWAY, GATEWAY),
                own_certificate,
                apply([f"{MANIFESTS}/route.yaml", f"{MANIFESTS}/gateway-takes-tls.yaml"]),
            ),
            ("21-gateway-takes-tls",),
        ),
        Step("Give the certificate to the load balancer", annotate, ("21-annotated",), covers=("E10",)),
        Step(
            "Let the gateway expect what arrives",
            apply(f"{MANIFESTS}/gateway-behind-load-balancer.yaml"),
            ("21-behind-load-balancer",),
            covers=("E10",),
        ),
        Step("Say STRICT behind it", apply_to_mesh(f"{MANIFESTS}/root/strict.yaml"), ("21-mtls-behind",)),
    ),
    predictions={
        "21.1": Prediction(
            "The load balancer takes TLS off and passes HTTP on to port 443, where the gateway expects TLS. "
            "What does a visitor get?",
            {"a": "200", "b": "404 Not Found", "c": "no answer: the connection ends"},
            answer=by_status({200: "a", 404: "b", None: "c"}),
            expected="c",
            because="The gateway waits for a ClientHello and reads GET. The number of a port says nothing about TLS.",
        ),
        "21.2": Prediction(
            "The mesh is STRICT. What does a visitor get who comes through load balancer and gateway?",
            {"a": "200", "b": "403 Forbidden", "c": "no answer: the connection ends"},
            answer=by_status({200: "a", 403: "b", None: "c"}),
            expected="a",
            because="STRICT asks who comes to a sidecar. That is the gateway, which has a certificate of the mesh.",
        ),
    },
    quiz=(
        Question(
            "The load balancer takes TLS off. Who sees the visitor's client certificate?",
            {"a": "the gateway", "b": "the load balancer alone", "c": "the frontend's sidecar"},
            right="b",
            because="Each box ends one TLS connection. For MUTUAL at the gateway, TLS has to pass the load balancer.",
        ),
        Question(
            "ssl-ports is left out of the annotations. What does the load balancer do?",
            {
                "a": "It takes TLS off on every port, 80 too.",
                "b": "It takes TLS off on no port.",
                "c": "It refuses the certificate.",
            },
            right="a",
            because="ssl-ports names those with TLS; without it all are. Then plain HTTP on port 80 is gone.",
        ),
        Question(
            "Between load balancer and gateway there is plaintext. What would encrypt that way as well?",
            {
                "a": "a PeerAuthentication in the gateway's namespace",
                "b": "a DestinationRule with ISTIO_MUTUAL",
                "c": "backend-protocol: ssl, and a Gateway with TLS",
            },
            right="c",
            because="The load balancer is no workload of the mesh: it knows TLS, and nothing of the mesh's mTLS.",
        ),
    ),
)
