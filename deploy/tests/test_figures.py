"""The figures on the front page are those of the result files, and every promise that a full run missed is among them."""

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "README.md").read_text("utf-8")
FIGURE_OF = {
    "auth-service/benchmarks/results/latest.json": ("sign-in over argon2id's bound of all cores", ""),
    "user-service/benchmarks/results/latest.json": ("loop_lag_p99_ms", "ms"),
}
MISSED = re.findall(r"^ *\| \[[^]]+\]\(([^)]+)\) \| ([^|]+) \| [^|]+ \|$", PAGE, re.MULTILINE)


def results(path: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / path).read_text("utf-8"))
    return found


def said(value: float, unit: str = "") -> str:
    """A figure as the page writes it."""
    return {
        "x": f"{value:.1f} times",
        "s": f"{1000 * value:.1f} ms",
        "ms": f"{value:.1f} ms",
        "": f"{value:.2f}",
    }[unit]


def test_the_gateways_ratios_are_those_of_its_benchmark() -> None:
    ratios = results("gateway/benchmarks/results/latest.json")["ratios"]
    text = " ".join(PAGE.split())
    assert f"{ratios['haproxy_jwt']:.1f} times as many requests per second as HAProxy" in text
    assert f"{ratios['haproxy_jwt_fresh_tokens']:.2f} times as many if every token is new" in text


def test_every_promise_that_the_full_run_missed_is_on_the_page_and_no_other() -> None:
    path = "tests-e2e/results/latest.json"
    promises = results(path)["promises"]
    missed = [said(each["measured"], each["unit"]) for each in promises if each["verdict"] == "missed"]
    assert sorted(figure for file, figure in MISSED if file == path) == sorted(missed)


def test_a_benchmarks_figure_on_the_page_is_in_its_results() -> None:
    for file, figure in MISSED:
        if file in FIGURE_OF:
            name, unit = FIGURE_OF[file]
            assert figure == said(results(file)["figures"][name], unit), file
