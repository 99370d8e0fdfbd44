"""What a run leaves behind: a table to read, a plot, and every figure as JSON."""

import json
from pathlib import Path
from typing import Any

from benchmarks import plot
from benchmarks.promises import PROMISES, figure
from benchmarks.throughput import ROWS


def print_table(results: dict[str, Any]) -> None:
    print(f"\n{'requests per second':38}{'median':>10}   {'core busy':>9}   CPU us/request")
    for row in ROWS:
        rate, busy = results["medians"][row.name], results["core_busy"][row.name]
        costs = results["cpu_us_by_rate"][row.name]
        told = ", ".join(f"{costs[rate]:,.1f} at {rate:,}/s" for rate in reversed(row.rates))
        print(f"  {row.name:36}{rate:10,.0f}   {busy:9.0%}   {told}")
    print(f"\n{'the gateway against':48}{'measured':>13}{'floor':>13}{'aim':>12}   reached")
    for promise in PROMISES:
        value = figure(results, promise)
        cells = "".join(
            f"{number:,.2f} {promise.unit}".rjust(width)
            for number, width in ((value, 13), (promise.floor, 13), (promise.aim, 12))
        )
        print(f"  {promise.text:46}{cells}   {promise.verdict(value)}")


def write(results: dict[str, Any], file: Path) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(_rounded(results), indent=2) + "\n")
    plot.draw(results, file.with_suffix(".png"))


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return float(f"{value:.5g}") if isinstance(value, float) else value
