"""What a run leaves behind: a table to read, a plot, and every figure as JSON."""

import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes

from benchmarks.promises import PROMISES, figure
from benchmarks.throughput import ROWS, Throughput

OURS, THEIRS = "#1b6ca8", "#b9b4ab"


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


def write(results: dict[str, Any], throughput: Throughput, file: Path) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(_rounded(results), indent=2) + "\n")
    _plot(throughput, file.with_suffix(".png"))


def _plot(throughput: Throughput, file: Path) -> None:
    """Every round is a dot: how far rounds differ is part of the result."""
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(12, 4.2), layout="constrained")
    _plot_saturation(left, throughput)
    _plot_costs(right, throughput)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=130)
    pyplot.close(figure)


def _plot_saturation(axes: Axes, throughput: Throughput) -> None:
    medians = throughput.medians()
    names = list(medians)
    bars = axes.barh(names, list(medians.values()), color=[_colour(name) for name in names])
    axes.bar_label(bars, [f"{value:,.0f}" for value in medians.values()], padding=6, fontsize=8)
    for position, name in enumerate(names):
        rounds = [reading.per_second for reading in throughput.saturated[name]]
        axes.plot(rounds, [position] * len(rounds), "o", color="black", markersize=2.5)
    axes.set_xscale("log")
    axes.margins(x=0.2)
    axes.set_title("requests per second at saturation", loc="left", fontsize=10)
    axes.invert_yaxis()


def _plot_costs(axes: Axes, throughput: Throughput) -> None:
    for name, costs in throughput.cpu_us_by_rate().items():
        axes.plot(list(costs), list(costs.values()), "-", color=_colour(name), linewidth=1.5)
        for rate in costs:
            rounds = [reading.cpu_us for reading in throughput.at_rate[name, rate]]
            axes.plot([rate] * len(rounds), rounds, "o", color="black", markersize=2.5)
        last = max(costs)
        # Rows of one rate stand beside the others' ends: their names go to the other side.
        side, offset = ("left", 8) if len(costs) > 1 else ("right", -8)
        axes.annotate(
            f"{name} {costs[last]:,.0f}",
            (last, costs[last]),
            (offset, -3),
            textcoords="offset points",
            horizontalalignment=side,
            fontsize=8,
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.margins(x=0.35)
    axes.set_title("CPU microseconds per request, by requests per second", loc="left", fontsize=10)


def _colour(name: str) -> str:
    return OURS if name.startswith("gateway") else THEIRS


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return float(f"{value:.5g}") if isinstance(value, float) else value
