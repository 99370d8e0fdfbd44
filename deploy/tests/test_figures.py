"""The figures on the pages are those of the result files, and a page has every promise that a full run missed."""

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "README.md").read_text("utf-8")
MISSES = ROOT / "tests-e2e/README.md"
FIGURE_OF = {
    "../auth-service/benchmarks/results/latest.json": ("sign-in over argon2id's bound of all cores", ""),
    "../user-service/benchmarks/results/latest.json": ("loop_lag_p99_ms", "ms"),
}
MISSED = re.findall(
    r"^\| \[[^]]+\]\(([^)]+)\) \| ([^|]+) \| [^|]+ \|$", MISSES.read_text("utf-8"), re.MULTILINE
)


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


def test_what_a_newcomer_reads_first_is_short_and_says_where_the_misses_are() -> None:
    assert len(PAGE.split()) < 600
    assert "(tests-e2e/README.md#missed)" in PAGE
    assert MISSED


def test_every_promise_that_the_full_run_missed_is_on_the_page_and_no_other() -> None:
    path = "results/latest.json"
    promises = results(f"tests-e2e/{path}")["promises"]
    missed = [said(each["measured"], each["unit"]) for each in promises if each["verdict"] == "missed"]
    assert sorted(figure for file, figure in MISSED if file == path) == sorted(missed)


def test_a_benchmarks_figure_on_the_page_is_in_its_results() -> None:
    for file, figure in MISSED:
        if file in FIGURE_OF:
            name, unit = FIGURE_OF[file]
            assert figure == said(results(file.removeprefix("../"))["figures"][name], unit), file


def test_the_seconds_that_async_saves_are_those_of_its_benchmark_on_each_page() -> None:
    seconds = results("user-service/benchmarks/results/async.json")["seconds"]
    table = (ROOT / "docs/async.md").read_text("utf-8")
    rows = re.findall(r"^\| `?(\w+ ?\w+)`?(.*?) \| ([0-9.]+) s \| ([0-9.]+) s \|$", table, re.MULTILINE)
    shown = {kind + rest: {"100": few, "2000": many} for kind, rest, few, many in rows}
    measured = {
        kind: {calls: f"{value:.1f}" for calls, value in each.items()} for kind, each in seconds.items()
    }
    assert shown == measured
    text = " ".join((ROOT / "docs/coming-from-django.md").read_text("utf-8").split())
    fast, slow = measured["async def"]["2000"], measured["def, 40 threads (the default)"]["2000"]
    assert (
        f"of 2,000 calls that wait 1 s each, the last is answered after {fast} s instead of {slow}." in text
    )


def test_the_pictures_show_the_latest_results() -> None:
    pictures = {"users.svg": "latest", "../../../docs/async.svg": "async"}
    for picture, file in pictures.items():
        folder = "user-service/benchmarks/results"
        measured = results(f"{folder}/{file}.json")
        values = [f">{value:,.0f}<" for value in measured.get("per_second", {}).values()] + [
            f">{value:.1f} s<" for row in measured.get("seconds", {}).values() for value in row.values()
        ]
        shown = (ROOT / folder / picture).read_text("utf-8")
        assert values
        assert [value for value in [*values, measured["measured_at"][:10]] if value not in shown] == []
