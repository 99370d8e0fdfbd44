"""The pictures of the result files. `python -m benchmarks.plot` draws them anew without a measurement."""

import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes

HERE = Path(__file__).parent
OURS, THEIRS = "#1b6ca8", "#b9b4ab"
matplotlib.rcParams["svg.fonttype"] = "none"  # text stays text: a fifth of the bytes
matplotlib.rcParams["svg.hashsalt"] = "gatehouse"  # ids that do not change from run to run


def people() -> None:
    """Medians as bars, every round as a dot: how far rounds differ is part of the result."""
    measured = json.loads((HERE / "results" / "latest.json").read_text())
    rates, rounds = measured["per_second"], measured["rounds"]
    axes = pyplot.subplots(figsize=(7, 3.2), layout="constrained")[1]
    colours = [THEIRS if name.startswith("bare") else OURS for name in rates]
    axes.barh(list(rates), list(rates.values()), color=colours)
    for position, (name, rate) in enumerate(rates.items()):
        axes.plot(rounds[name], [position] * len(rounds[name]), "o", color="black", markersize=2.5)
        beside = (max(rounds[name]), position)
        axes.annotate(f"{rate:,.0f}", beside, (6, -3), textcoords="offset points", fontsize=8)
    title = f"user-service with {measured['people']:,} people: requests per second (more is better)"
    _finish(axes, title, measured, len(rounds[next(iter(rates))]), HERE / "results" / "users.svg")


def pauses() -> None:
    measured = json.loads((HERE / "results" / "async.json").read_text())
    seconds = {
        f"{calls:,} calls, {name}": row[str(calls)]
        for calls in measured["calls"]
        for name, row in measured["seconds"].items()
        if str(calls) in row
    }
    axes = pyplot.subplots(figsize=(7, 2.2), layout="constrained")[1]
    colours = [OURS if "async" in name else THEIRS for name in seconds]
    bars = axes.barh(list(seconds), list(seconds.values()), color=colours)
    axes.bar_label(bars, [f"{value:.1f} s" for value in seconds.values()], padding=4, fontsize=8)
    rounds = next(iter(next(iter(measured["rounds"].values())).values()))
    title = "Seconds until the last response, if each call waits 1 s (less is better)"
    _finish(axes, title, measured, len(rounds), HERE.parents[1] / "docs" / "async.svg")


def _finish(axes: Axes, title: str, measured: dict[str, Any], rounds: int, file: Path) -> None:
    axes.margins(x=0.12)
    axes.set_xlim(left=0)
    axes.tick_params(labelsize=8)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_title(title, loc="left", fontsize=9)
    when = f"{measured['cores']} cores, {measured['measured_at'][:10]}; medians of {rounds} rounds"
    axes.set_xlabel(when, fontsize=8)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    pyplot.savefig(file, metadata={"Date": None})
    pyplot.close()


if __name__ == "__main__":
    people()
    pauses()
