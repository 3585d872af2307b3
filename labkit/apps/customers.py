"""A list of customers, and the web page that shows it: `web-frontend` calls `customers` in plain HTTP.

When the call breaks, the page says why in the words of the system call (ECONNRESET), as server programs do.
"""

from __future__ import annotations

import json
import os
from html import escape
from typing import Any

from labkit.apps.calling import call
from labkit.apps.sentences import healthz
from labkit.apps.webapp import HttpError, WebHandler, serve

CUSTOMERS: tuple[dict[str, str], ...] = (
    {"name": "Harbour Books", "city": "Aarhus"},
    {"name": "Mill Lane Bakery", "city": "Ljubljana"},
    {"name": "Northern Lights Cinema", "city": "Trondheim"},
    {"name": "Old Bridge Bicycles", "city": "Porto"},
)
PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 3rem auto; max-width: 40rem; padding: 0 1rem;
color: CanvasText; background: Canvas; color-scheme: light dark }}
table {{ border-collapse: collapse; width: 100% }}
td, th {{ border-bottom: 1px solid; padding: .4rem; text-align: left }}
code {{ font-size: 110% }}</style></head><body><h1>{title}</h1>{body}</body></html>
"""


class Customers(WebHandler):
    """GET / -> the customers as JSON; version v2 knows where they live."""

    application = "customers"

    def customers(self) -> tuple[str, bytes]:
        keys = ("name", "city") if os.environ.get("VERSION") == "v2" else ("name",)
        rows = [{key: one[key] for key in keys} for one in CUSTOMERS]
        return "application/json", json.dumps(rows, ensure_ascii=False).encode()

    routes = {("GET", "/"): customers, ("GET", "/healthz"): healthz}  # noqa: RUF012


class WebFrontend(WebHandler):
    """GET / -> a page with the customers of $CUSTOMERS_URL (http://customers/)."""

    application = "web-frontend"

    def page(self) -> tuple[str, bytes]:
        answer = call(os.environ.get("CUSTOMERS_URL", "http://customers/"), "customers", self.headers)
        return "text/html; charset=utf-8", page_of(json.loads(answer)).encode()

    def _respond_error(self, error: HttpError) -> None:
        words = f"<p>{escape(error.message)}</p><p><code>{escape(error.detail)}</code></p>"
        page = PAGE.format(title="The customers cannot be shown", body=words)
        self._respond(error.status, "text/html; charset=utf-8", page.encode())

    routes = {("GET", "/"): page, ("GET", "/healthz"): healthz}  # noqa: RUF012


def page_of(customers: list[dict[str, Any]]) -> str:
    """The page; its columns are what the customers have."""
    columns = list(dict.fromkeys(key for one in customers for key in one))
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(str(one.get(name, '')))}</td>" for name in columns) + "</tr>"
        for one in customers
    )
    return PAGE.format(title="Our customers", body=f"<table><tr>{head}</tr>{rows}</table>")


if __name__ == "__main__":
    serve(WebFrontend, default_port=8080)
