"""The chat application's backend: POST /chat {"message": ...} -> {"model": ..., "reply": ...}; GET /healthz.

It asks an OpenAI-compatible endpoint when its environment names one (AZURE_API_URL, AZURE_API_KEY, AZURE_MODEL_NAME,
from the ConfigMap `chatbackend-configs`), and otherwise a built-in model of a few sentences, so that the lessons need
no account and no internet. The key is sent to that endpoint and nowhere else: not to logs, not into errors.
"""

from __future__ import annotations

import json
import os
import re
import zlib
from typing import Any
from urllib.parse import urlsplit

from labkit.apps.webapp import HttpError, WebHandler, serve

BUILT_IN_MODEL = "workshop-mini-1"
UPSTREAM_SECONDS = 60.0
# The current stable data-plane version of Azure OpenAI's deployment URLs.
AZURE_API_VERSION = "2024-10-21"
AZURE_HOSTS = (".openai.azure.com", ".cognitiveservices.azure.com")

# (what the message speaks of, answers to choose from). The first match wins.
TOPICS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        r"\bstrict\b",
        (
            "STRICT means that my sidecar takes mTLS and nothing else. Plaintext is reset before I ever see it.",
            "Under STRICT a caller without a mesh certificate gets a closed connection. I never learn that it called.",
        ),
    ),
    (
        r"\bpermissive\b",
        (
            "PERMISSIVE means that my sidecar takes mTLS from the mesh and plaintext from everybody else.",
            "PERMISSIVE is the mode for moving house: both doors are open until you lock one of them with STRICT.",
        ),
    ),
    (
        r"\b(certificates?|spiffe|x\.?509|identity)\b",
        (
            "In a mesh every workload carries a short-lived certificate with a SPIFFE ID, such as "
            "spiffe://cluster.local/ns/azureopenai/sa/default.",
            "My certificate belongs to my sidecar. I am only an application and have never seen the key.",
        ),
    ),
    (
        r"\b(mtls|mutual tls|tls|encrypt\w*)\b",
        (
            "Mutual TLS: both sides show a certificate, so each knows who the other is, and nobody in between can "
            "read along.",
            "With mTLS my sidecar knows who calls, and the caller's sidecar knows that it is really me.",
        ),
    ),
    (
        r"\b(sidecar|envoy|proxy|istio|mesh)\b",
        (
            "I speak plain HTTP and always will. The Envoy beside me does the encrypting.",
            "The sidecar stands between me and the network. I have not changed a line for it.",
        ),
    ),
    (
        r"\bcurl\b",
        (
            "Hello, curl! A classic choice. How can I help you today?",
            "Greetings to a fellow command-line tool. What would you like to know?",
        ),
    ),
    (
        r"\bjoke\b",
        (
            "A plaintext packet walks into a STRICT bar. It never got the chance to tell the joke.",
            "Why did the two proxies trust each other? They had the same root.",
        ),
    ),
    (
        r"\b(who|what) are you\b",
        (
            f"I am {BUILT_IN_MODEL}, a model of about a dozen sentences. Small, but I answer without the internet.",
            f"They call me {BUILT_IN_MODEL}. I am what answers until you configure a larger model.",
        ),
    ),
    (r"\b(thanks|thank you)\b", ("You are welcome!", "Any time. Happy meshing!")),
    (
        r"\b(hello|hi|hey|good (morning|evening)|greetings)\b",
        (
            "Hello! What would you like to talk about?",
            "Hi there! Ask me about mTLS, certificates or sidecars.",
            "Hello, and welcome to the workshop!",
        ),
    ),
)
OTHERWISE = (
    "You said {message!r}. I know little, but I do know a thing or two about mTLS.",
    "{message!r} is beyond my dozen sentences. Ask me what STRICT does.",
    "I have read {message!r} with interest. Shall we talk about certificates?",
)


def built_in_reply(message: str) -> str:
    """The built-in model: the same message always gets the same reply, different messages get varied ones."""
    choices = next((replies for topic, replies in TOPICS if re.search(topic, message, re.IGNORECASE)), OTHERWISE)
    reply = choices[zlib.crc32(message.encode("utf-8", "surrogatepass")) % len(choices)]
    return reply.replace("{message!r}", repr(message[:60]))


def completions_request(url: str, key: str, model: str) -> tuple[str, dict[str, str]]:
    """The address and headers of a chat completion. `url` may be a whole address, an API's base, or a host alone."""
    parts = urlsplit(url)
    base, path = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
    on_azure = (parts.hostname or "").endswith(AZURE_HOSTS)
    headers = {"Content-Type": "application/json"}
    if key:
        headers |= {"api-key": key} if on_azure else {"Authorization": f"Bearer {key}"}
    if path.endswith("/chat/completions"):
        return url, headers
    if path:
        return f"{base}{path}/chat/completions", headers
    if on_azure:
        return f"{base}/openai/deployments/{model}/chat/completions?api-version={AZURE_API_VERSION}", headers
    return f"{base}/v1/chat/completions", headers


def ask_upstream(message: str, url: str, key: str, model: str) -> tuple[str, str]:
    """(model, reply) of the configured endpoint. Raises HttpError 502 or 504; the key is in none of its texts."""
    # Imported here because most learners never configure an endpoint: it costs 4 MB and 10 ms.
    import http.client
    import urllib.error
    import urllib.request

    class NoRedirect(urllib.request.HTTPRedirectHandler):
        """urllib would take the key along to wherever a redirect points."""

        def redirect_request(self, *_: Any) -> None:
            return None

    if urlsplit(url).scheme not in ("http", "https"):
        raise HttpError(502, "AZURE_API_URL is not an http or https address.")
    address, headers = completions_request(url, key, model)
    question = json.dumps({"model": model, "messages": [{"role": "user", "content": message}]}).encode()
    request = urllib.request.Request(address, data=question, headers=headers, method="POST")  # noqa: S310
    try:
        with urllib.request.build_opener(NoRedirect).open(request, timeout=UPSTREAM_SECONDS) as response:
            answer = json.load(response)
        return str(answer.get("model") or model), str(answer["choices"][0]["message"]["content"])
    except urllib.error.HTTPError as error:
        # Its body is not passed on: some endpoints quote the key that they refuse.
        raise HttpError(
            502, f"The model's endpoint answered {error.code}.", detail=_without(key, str(error.reason))
        ) from None
    except TimeoutError:
        raise HttpError(504, "The model's endpoint did not answer in time.") from None
    except OSError as error:  # URLError is one; its reason says what is wrong with the connection
        reason = str(getattr(error, "reason", error))
        raise HttpError(502, "The model's endpoint cannot be reached.", detail=_without(key, reason)) from None
    except http.client.HTTPException as error:
        raise HttpError(502, "The model's endpoint broke off its answer.", detail=type(error).__name__) from None
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        raise HttpError(502, "The model's endpoint sent an answer that is not a chat completion.") from None


def _without(key: str, text: str) -> str:
    return text.replace(key, "***") if key else text


class ChatBackend(WebHandler):
    """The two routes of the backend."""

    application = "chatbackend"

    def chat(self) -> tuple[str, bytes]:
        """Answer one message."""
        question: Any = self.read_json()
        message = question.get("message") if isinstance(question, dict) else None
        if not isinstance(message, str) or not message.strip():
            raise HttpError(400, 'The body must be {"message": "..."} with a text that is not empty.')
        model, reply = self.answer(message)
        return "application/json", json.dumps({"model": model, "reply": reply}, ensure_ascii=False).encode()

    def answer(self, message: str) -> tuple[str, str]:
        url = os.environ.get("AZURE_API_URL", "").strip()
        if not url:
            return BUILT_IN_MODEL, built_in_reply(message)
        key, model = os.environ.get("AZURE_API_KEY", "").strip(), os.environ.get("AZURE_MODEL_NAME", "").strip()
        return ask_upstream(message, url, key, model)

    def healthz(self) -> tuple[str, bytes]:
        """Ready as soon as it listens: a slow model must not take the pod out of its Service."""
        return "application/json", b'{"status": "ok"}'

    routes = {("POST", "/chat"): chat, ("GET", "/healthz"): healthz}  # noqa: RUF012


if __name__ == "__main__":
    serve(ChatBackend, default_port=5000)
