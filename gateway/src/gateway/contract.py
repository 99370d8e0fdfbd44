"""`python -m gateway.contract`: writes contract/openapi.json, the gateway's own pages on both binds and its refusals."""

import json
from pathlib import Path
from typing import Any, cast

from prometheus_client import CollectorRegistry

from gateway.main import VERSION, internal_pages
from gateway.portal.pages import pages
from gateway.portal.refusals import OWN_COMPONENTS
from gateway.portal.services import Documents, Health
from gateway.routing.routes import Routes
from gateway.server.metrics import Metrics

PATH = Path(__file__).parents[2] / "contract" / "openapi.json"


class _NoMetrics:
    registry = CollectorRegistry()


def document() -> str:
    """Paths do not depend on what is behind them, so nothing is."""
    public = pages(Routes, Documents(Routes, _nowhere, 60.0), Health(Routes, _nowhere), VERSION).openapi()
    internal = internal_pages(cast("Metrics", _NoMetrics()), {}).openapi()
    for item in internal["paths"].values():
        for operation in item.values():
            operation["tags"] = ["internal"]
    public["paths"] = internal["paths"] | public["paths"]  # both binds answer /healthz
    for section, entries in OWN_COMPONENTS.items():
        public["components"].setdefault(section, {}).update(entries)
    return json.dumps(public, indent=2, ensure_ascii=False, sort_keys=True) + "\n"


def _nowhere(_service: str) -> list[Any]:
    return []


if __name__ == "__main__":
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_text(document(), "utf-8")
    print(PATH)
