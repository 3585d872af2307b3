"""Lesson 10: the bytes themselves, before and after STRICT."""

from labkit.course.acts import apply, look, mode
from labkit.course.model import Lesson, Prediction, Question, Step, World

LESSON = Lesson(
    number="10",
    title="Read the bytes on the wire",
    world=World(applications=("curl-outside", "chat")),
    steps=(
        Step(
            "Read a stranger's chat",
            look,
            ("10-readable",),
            covers=("D11",),
            without=mode("STRICT", "azureopenai"),
        ),
        Step("Try to read a mesh client's", look, ("10-encrypted",), ("D11",), without=mode("DISABLE", "azureopenai")),
        Step(
            "Apply STRICT and look again",
            apply("manifests/lessons/10/strict.yaml"),
            ("10-nothing-answered-in-clear",),
            covers=("D11",),
        ),
    ),
    predictions={
        "10.1": Prediction(
            "curl-outside has no sidecar and the backend is PERMISSIVE. What does somebody on the way see of the chat?",
            {"a": "nothing but TLS records", "b": "the question, but not the answer", "c": "question and answer"},
            answer=lambda seen: "c" if seen.readable else "a",
            expected="c",
            because="Nobody encrypts: the client has no sidecar, and the server's takes plaintext under PERMISSIVE.",
        ),
        "10.2": Prediction(
            "The backend is STRICT now, and curl-outside asks again. Does anything of its request cross the wire?",
            {"a": "no, the connection never opens", "b": "yes, the request; then a reset", "c": "yes, and an answer"},
            answer=lambda seen: "b" if seen.requests else "a",
            expected="b",
            because="The client speaks first. The sidecar has to read its bytes to see that they are no TLS.",
        ),
    },
    quiz=(
        Question(
            "A capture begins with the bytes 16 03 01. What is it?",
            {"a": "a TLS handshake", "b": "an HTTP/2 preface", "c": "gzip"},
            right="a",
            because="22 (hex 16) is the record type handshake, 03 01 the version that every ClientHello writes.",
        ),
        Question(
            "What can somebody on the wire still read of an mTLS connection between sidecars?",
            {
                "a": "nothing at all",
                "b": "the paths of the requests",
                "c": "addresses, sizes, times, and the SNI, which names port and Service",
            },
            right="c",
            because="TLS hides what is said, not that something is said. The SNI stands in the ClientHello, in clear.",
        ),
        Question(
            "STRICT is on. Are the requests of clients without sidecars safe from readers now?",
            {"a": "yes", "b": "no: they are sent before they are refused", "c": "only with HTTP/2"},
            right="b",
            because="STRICT protects the server. Only a sidecar on the client's side keeps it from speaking in clear.",
        ),
    ),
)
