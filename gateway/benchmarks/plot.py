"""The picture of a result file. `python -m benchmarks.plot` draws it anew without a measurement."""

import json
from pathlib import Path
from typing import Any

import matplotlib.ticker

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes

from benchmarks.throughput import ROWS

OURS, THEIRS = "#1b6ca8", "#b9b4ab"
NAMES = {
    "gateway": "Gatehouse",
    "gateway_fresh_tokens": "Gatehouse, new tokens",
    "haproxy_jwt": "HAProxy, jwt_verify",
    "haproxy_jwt_fresh_tokens": "HAProxy, new tokens",
    "nginx_plain": "nginx, no check",
    "nginx_auth_request": "nginx asks FastAPI",
    "tutorial": "FastAPI and httpx",
}


def draw(results: dict[str, Any], file: Path) -> None:
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 2.8), layout="constrained", sharey=True)
    _bars(left, results["medians"], "Requests per second on one core (more is better)")
    _bars(right, results["cpu_us_per_request"], "CPU µs per request (less is better)", at_rates=True)
    machine, rounds = results["machine"], results["rounds"]
    figure.supxlabel(
        f"{machine['cpu']}, {machine['cores']} cores, {results['measured_at'][:10]}; medians of {rounds} rounds",
        fontsize=8,
    )
    figure.savefig(file, dpi=100)
    pyplot.close(figure)


def _bars(axes: Axes, values: dict[str, float], title: str, *, at_rates: bool = False) -> None:
    rates = {row.name: f" at {row.rate:,}/s" if at_rates else "" for row in ROWS}
    colours = [OURS if name.startswith("gateway") else THEIRS for name in values]
    bars = axes.barh([NAMES[name] for name in values], list(values.values()), color=colours)
    axes.bar_label(
        bars, [f"{value:,.0f}{rates[name]}" for name, value in values.items()], padding=4, fontsize=8
    )
    axes.set_title(title, loc="left", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.margins(x=0.3)
    axes.set_ylim(len(values) - 0.5, -0.5)  # the first row on top
    axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    latest = Path(__file__).parent / "results" / "latest.json"
    draw(json.loads(latest.read_text()), latest.with_suffix(".png"))
