"""A small shop in three services: `frontend` (a page) asks `productcatalog`, which asks `catalogdetail` for vendors.

`catalogdetail` exists in two versions, told apart by $VERSION; version v2 knows one vendor more.
"""

from __future__ import annotations

import json
import os
from html import escape

from labkit.apps.calling import call
from labkit.apps.customers import PAGE
from labkit.apps.sentences import healthz
from labkit.apps.webapp import WebHandler, serve

PRODUCTS = {"1": "Lantern", "2": "Compass", "3": "Rope, 20 m"}
VENDORS = ("Lighthouse Supplies", "Trade Winds Ltd")


class CatalogDetail(WebHandler):
    """GET /catalogDetail -> {"version": "v1", "vendors": [...]}."""

    application = "catalogdetail"

    def detail(self) -> tuple[str, bytes]:
        version = os.environ.get("VERSION", "v1")
        vendors = VENDORS if version == "v2" else VENDORS[:1]
        return "application/json", json.dumps({"version": version, "vendors": vendors}).encode()

    routes = {("GET", "/catalogDetail"): detail, ("GET", "/"): detail, ("GET", "/healthz"): healthz}  # noqa: RUF012


class ProductCatalog(WebHandler):
    """GET /products -> {"products": {...}, "details": what $DETAIL_URL answered}."""

    application = "productcatalog"

    def products(self) -> tuple[str, bytes]:
        url = os.environ.get("DETAIL_URL", "http://catalogdetail:3000/catalogDetail")
        details = json.loads(call(url, "catalogdetail", self.headers))
        return "application/json", json.dumps({"products": PRODUCTS, "details": details}).encode()

    routes = {("GET", "/products"): products, ("GET", "/"): products, ("GET", "/healthz"): healthz}  # noqa: RUF012


class Frontend(WebHandler):
    """GET / -> a page of the products of $CATALOG_URL."""

    application = "frontend"

    def page(self) -> tuple[str, bytes]:
        url = os.environ.get("CATALOG_URL", "http://productcatalog:5000/products")
        answer = json.loads(call(url, "productcatalog", self.headers))
        rows = "".join(f"<tr><td>{escape(k)}</td><td>{escape(v)}</td></tr>" for k, v in answer["products"].items())
        details = answer["details"]
        vendors = ", ".join(escape(vendor) for vendor in details["vendors"])
        body = f"<table><tr><th>id</th><th>product</th></tr>{rows}</table>"
        body += f"<p>Vendors: {vendors} (catalogdetail {escape(details['version'])})</p>"
        return "text/html; charset=utf-8", PAGE.format(title="Product catalog", body=body).encode()

    routes = {("GET", "/"): page, ("GET", "/healthz"): healthz}  # noqa: RUF012


if __name__ == "__main__":
    serve(Frontend, default_port=9000)
