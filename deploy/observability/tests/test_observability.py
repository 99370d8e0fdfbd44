"""Alerts and dashboard ask for metrics that the services count, and every alert has its page."""

import json
import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[3]
HERE = ROOT / "deploy/observability"
SUFFIXES = ("_total", "_count", "_sum", "_bucket")
PROMQL = set("sum max min rate by le histogram_quantile or and on up increase".split())  # noqa: SIM905 - one line


def counted() -> set[str]:
    """Every string of the services' code that may be a metric's name."""
    files = [*ROOT.glob("*/src/**/*.py")]
    return {name for file in files for name in re.findall(r'"([a-z]+(?:_[a-z]+)+)"', file.read_text())}


def asked(expression: str) -> set[str]:
    """The metrics in a PromQL expression."""
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]|by \([^)]*\)", "", expression)
    return set(re.findall(r"[a-z_]{3,}", bare)) - PROMQL


def alerts() -> list[dict[str, object]]:
    (group,) = yaml.safe_load((HERE / "alerts.yml").read_text())["groups"]
    rules: list[dict[str, object]] = group["rules"]
    return rules


def test_every_metric_that_is_asked_for_is_counted() -> None:
    dashboard = json.loads((HERE / "dashboard.json").read_text())
    expressions = [str(rule["expr"]) for rule in alerts()]
    expressions += [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    pages = [*(ROOT / "deploy").glob("*/*.md"), *ROOT.glob("*/README.md")]
    for page in pages:
        expressions += re.findall(r"`((?:gateway|user|auth)_[a-z_]+)`", page.read_text())
    known = counted()
    for name in set().union(*map(asked, expressions)):
        stem = next((name.removesuffix(end) for end in SUFFIXES if name.endswith(end)), name)
        assert {name, stem} & known, f"nobody counts {name}"


def test_every_alert_has_a_page_that_is_there() -> None:
    for rule in alerts():
        page = rule["annotations"]["runbook"]  # type: ignore[index] # a mapping, by the file's form
        assert (ROOT / page).is_file(), rule["alert"]


def test_every_link_in_the_documentation_leads_somewhere() -> None:
    pages = [page for page in ROOT.rglob("*.md") if not {".venv", ".tools", "var"} & set(page.parts)]
    broken = [
        f"{page.relative_to(ROOT)}: {link}"
        for page in pages
        for link in re.findall(r"\]\(([^)#\s]+)", page.read_text())
        if not re.match(r"[a-z]+:", link) and not (page.parent / link).exists()
    ]
    assert not broken
