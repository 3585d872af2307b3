"""One image for all: `python run.py sentences` is the service `sentences`. The manifests name it in `args`."""

from __future__ import annotations

import importlib
import sys

from labkit.apps.webapp import serve

SERVICES: dict[str, tuple[str, str, int]] = {
    "sentences": ("sentences", "Sentences", 5000),
    "name": ("sentences", "Name", 5000),
    "age": ("sentences", "Age", 5000),
    "web-frontend": ("customers", "WebFrontend", 8080),
    "customers": ("customers", "Customers", 3000),
    "frontend": ("workshop", "Frontend", 9000),
    "productcatalog": ("workshop", "ProductCatalog", 5000),
    "catalogdetail": ("workshop", "CatalogDetail", 3000),
    "echoserver": ("echoserver", "EchoServer", 8080),
    "visits": ("visits", "Visits", 8080),
    "chatbackend": ("chatbackend", "ChatBackend", 5000),
    "chatfrontend": ("chatfrontend", "ChatFrontend", 80),
    "greeter": ("greeter", "", 2525),
    "load": ("load", "", 0),
}
"""Name -> module, handler (none: the module has a `main`), port."""


def main(arguments: list[str]) -> None:
    """Run the one service that is named."""
    name = arguments[0] if arguments else ""
    if name not in SERVICES or len(arguments) != 1:
        sys.exit(f"run: name one service: {', '.join(SERVICES)}")
    module_name, handler, port = SERVICES[name]
    module = importlib.import_module(f"labkit.apps.{module_name}")
    if not handler:
        module.main()
        return
    if name == "visits":
        module.serve_metrics()
    serve(getattr(module, handler), default_port=port)


if __name__ == "__main__":
    main(sys.argv[1:])
