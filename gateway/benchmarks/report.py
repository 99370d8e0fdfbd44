"""What a run leaves behind: a table to read, a plot, and every figure as JSON."""

import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from benchmarks.promises import PROMISES, figure
from benchmarks.throughput import ROWS, Throughput

OURS, THEIRS = "#1b6ca8", "#b9b4ab"


def print_table(results: dict[str, Any]) -> None:
    print(f"\n{'requests per second':38}{'median':>10}   {'core busy':>9}   {'CPU us/request':>14}")
    for row in ROWS:
        rate, busy = results["medians"].get(row.name), results["core_busy"].get(row.name)
        saturated = f"{rate:10,.0f}   {busy:9.0%}" if rate else f"{'':22}"
        cost = f"{results['cpu_us_per_request'][row.name]:12,.1f} at {row.rate:,}/s"
        print(f"  {row.name:36}{saturated}   {cost}")
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
    """Medians as bars, every round as a dot: how far rounds differ is part of the result."""
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(12, 4.2), layout="constrained")
    panels = (
        (
            left,
            "requests per second at saturation",
            {n: [r.per_second for r in rs] for n, rs in throughput.saturated.items()},
            throughput.medians(),
        ),
        (
            right,
            "CPU microseconds per request at a fixed rate",
            {n: [r.cpu_us for r in rs] for n, rs in throughput.at_rate.items()},
            throughput.cpu_us(),
        ),
    )
    for axes, title, rounds, medians in panels:
        names = list(medians)
        colours = [OURS if name.startswith("gateway") else THEIRS for name in names]
        bars = axes.barh(names, list(medians.values()), color=colours)
        axes.bar_label(bars, [f"{value:,.0f}" for value in medians.values()], padding=6, fontsize=8)
        for position, name in enumerate(names):
            axes.plot(rounds[name], [position] * len(rounds[name]), "o", color="black", markersize=2.5)
        axes.set_xscale("log")
        axes.margins(x=0.2)
        axes.set_title(title, loc="left", fontsize=10)
        axes.invert_yaxis()
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=130)
    pyplot.close(figure)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return float(f"{value:.5g}") if isinstance(value, float) else value
