"""The applications of the lessons by name, and where their manifests stand. One line adds one."""

from __future__ import annotations

from labkit.course.model import Application

APPLICATIONS: dict[str, Application] = {
    "curl-outside": Application("default", "manifests/apps/curl-outside/curl-outside.yaml", inject=None),
    "chat": Application("azureopenai", "manifests/apps/chat"),
    "sentences": Application("sentences", "manifests/apps/sentences/sidecar"),
    "sentences-plain": Application("sentences", "manifests/apps/sentences/plain", plain=True),
    "customers": Application("customers", "manifests/apps/customers/sidecar"),
    "customers-plain": Application("customers", "manifests/apps/customers/plain", plain=True),
    "workshop": Application("workshop", "manifests/apps/workshop"),
    "echoserver": Application("echo", "manifests/apps/echoserver"),
    "echoserver-outside": Application("echo", "manifests/apps/echoserver", inject=False),
    "visits": Application("visits", "manifests/apps/visits"),
    "greeter": Application("greeter", "manifests/apps/greeter"),
    "callers": Application("callers", "manifests/apps/callers"),
    "load": Application("default", "manifests/apps/load", inject=None),
}
