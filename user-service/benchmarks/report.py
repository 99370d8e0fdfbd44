"""What a run leaves behind: a table to read, a plot, and every figure as JSON."""

import json
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

OURS, THEIRS = "#1b6ca8", "#b9b4ab"
LIBRARIES = ("fastapi", "sqlalchemy", "asyncmy", "uvloop", "uvicorn", "httpx")


def print_people(measured: dict[str, Any]) -> None:
    print(f"\n{measured['people']:,} people, made up in {measured['seeding_seconds']:,.0f} s")
    print(f"\n{'16 at once, medians':44}{'per second':>12}{'CPU us each':>14}")
    for name, rate in measured["per_second"].items():
        print(f"  {name:42}{rate:12,.0f}{measured['cpu_us'][name]:14,.0f}")
    print(f"\n{'':44}{'measured':>10}{'floor':>8}{'aim':>8}")
    last_row = f"last page of {measured['people']:,}, in first pages"
    print(f"  {'/v1/users/me over a bare SELECT':42}{measured['me_over_bare_select']:10.2f}{0.5:8}{0.65:8}")
    print(f"  {'the same, by CPU time':42}{measured['me_over_bare_select_by_cpu']:10.2f}{0.5:8}{0.65:8}")
    print(f"  {last_row:42}{measured['last_page_over_first']:10.2f}{1.3:8}{1.05:8}")
    print("\nindexes")
    for name, plan in measured["plans"].items():
        tables = "; ".join(f"{row['table']} by {row['key']} ({row['type']})" for row in plan)
        print(f"  {name:24}{tables}")


def print_pauses(measured: dict[str, Any]) -> None:
    print(f"\n{'seconds until the last answer':44}" + "".join(f"{calls:>12}" for calls in measured["calls"]))
    for name, row in measured["seconds"].items():
        cells = "".join(
            f"{row[calls]:12.2f}" if calls in row else f"{'-':>12}" for calls in measured["calls"]
        )
        print(f"  {name:42}{cells}")


def plot_people(measured: dict[str, Any], file: Path) -> None:
    """Medians as bars, every round as a dot: how far rounds differ is part of the result."""
    rates, rounds = measured["per_second"], measured["rounds"]
    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    colours = [THEIRS if name.startswith("bare") else OURS for name in rates]
    bars = axes.barh(list(rates), list(rates.values()), color=colours)
    axes.bar_label(bars, [f"{rate:,.0f}" for rate in rates.values()], padding=6, fontsize=8)
    for position, name in enumerate(rates):
        axes.plot(rounds[name], [position] * len(rounds[name]), "o", color="black", markersize=2.5)
    _finish(figure, axes, f"requests per second, {measured['people']:,} people", file)


def plot_pauses(measured: dict[str, Any], file: Path) -> None:
    figure, axes = pyplot.subplots(figsize=(8, 3), layout="constrained")
    shown = [
        (f"{calls} calls, {name}", seconds, OURS if name.startswith("async") else THEIRS)
        for calls in measured["calls"]
        for name, row in measured["seconds"].items()
        if (seconds := row.get(calls)) is not None
    ]
    names, values, colours = zip(*shown, strict=True)
    bars = axes.barh(names, values, color=colours)
    axes.bar_label(bars, [f"{value:.1f} s" for value in values], padding=6, fontsize=8)
    _finish(figure, axes, "seconds until the last answer; each call waits 1 s for another server", file)


def _finish(figure: Any, axes: Any, title: str, file: Path) -> None:
    axes.set_xscale("log")
    axes.margins(x=0.2)
    axes.set_title(title, loc="left", fontsize=10)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    file.parent.mkdir(exist_ok=True)
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)


def write(measured: dict[str, Any], file: Path) -> None:
    about = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)),
        "versions": {library: version(library) for library in LIBRARIES},
    }
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(_rounded(measured | about), indent=2) + "\n")
    print(f"\nwritten: {file.name}")


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value
