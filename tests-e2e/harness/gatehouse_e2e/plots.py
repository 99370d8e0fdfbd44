"""Plots as plain SVG: requests by outcome over time with latencies and the fault's span; percentiles of a load."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from html import escape

from .history import Exchange, History

COLOURS = {
    "served": "#4c9f70",
    "refused": "#8fa3bf",
    "limited": "#c9a227",
    "unavailable": "#e07a3f",
    "failed": "#b3202c",
    "broken": "#7a3b8f",
    "hung": "#1d1d1f",
}
LINES = ("#2b5c8a", "#c2571a", "#4c9f70", "#7a3b8f", "#8a6d1c", "#5b6770")
WIDTH, BARS, LATENCY, LEFT, TOP, GAP = 900, 150, 90, 52, 24, 34


def timeline(history: History, title: str) -> str:
    """One SVG element for the whole history."""
    seen = history.select()
    if not seen:
        return ""
    length = max(one.ended for one in seen) or 1
    bins = 150
    step = length / bins
    height = TOP + BARS + GAP + LATENCY + 40

    def across(seconds: float) -> float:
        return LEFT + seconds / length * (WIDTH - LEFT - 10)

    parts = [
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" xmlns="http://www.w3.org/2000/svg"'
        ' font-family="system-ui, sans-serif" font-size="11">',
        f"<title>{escape(title)}</title>",
    ]
    for span in history.spans:
        left, right = across(span.began), across(span.ended)
        parts.append(
            f'<rect x="{left:.1f}" y="{TOP}" width="{max(1.5, right - left):.1f}"'
            f' height="{BARS + GAP + LATENCY}" fill="#f6d9d5"/>'
            f'<text x="{left + 3:.1f}" y="{TOP - 6}" fill="#8a1c14">{escape(span.name)}</text>'
        )
    parts += _bars(seen, step, bins, across)
    parts += _latencies(seen, step, bins, across)
    parts += _axis(length, across, {one.outcome for one in seen})
    return "".join([*parts, "</svg>"])


def _bars(seen: list[Exchange], step: float, bins: int, across: Callable[[float], float]) -> list[str]:
    counts: dict[int, Counter[str]] = {}
    for one in seen:
        counts.setdefault(min(bins - 1, int(one.planned / step)), Counter())[one.outcome] += 1
    most = max(sum(count.values()) for count in counts.values())
    parts = [
        f'<text x="4" y="{TOP + 10}">{most / step:.0f}/s</text>',
        f'<line x1="{LEFT}" x2="{WIDTH - 10}" y1="{TOP + BARS}" y2="{TOP + BARS}" stroke="#999"/>',
    ]
    for index, count in counts.items():
        base: float = TOP + BARS
        for outcome, colour in COLOURS.items():
            tall = count[outcome] / most * BARS
            if tall:
                base -= tall
                parts.append(
                    f'<rect x="{across(index * step):.1f}" y="{base:.1f}" height="{tall:.1f}"'
                    f' width="{across(step) - across(0) - 0.4:.2f}" fill="{colour}"/>'
                )
    return parts


def _latencies(seen: list[Exchange], step: float, bins: int, across: Callable[[float], float]) -> list[str]:
    slowest: dict[int, float] = {}
    for one in seen:
        index = min(bins - 1, int(one.planned / step))
        slowest[index] = max(slowest.get(index, 0), one.seconds)
    most = max(slowest.values()) or 1
    top, base = TOP + BARS + GAP, TOP + BARS + GAP + LATENCY
    points = " ".join(
        f"{across((index + 0.5) * step):.1f},{base - slowest[index] / most * LATENCY:.1f}"
        for index in sorted(slowest)
    )
    return [
        f'<text x="4" y="{top + 10}">{most * 1000:.0f} ms</text><text x="4" y="{base}">slowest</text>',
        f'<polyline points="{points}" fill="none" stroke="#2b5c8a" stroke-width="1.4"/>',
        f'<line x1="{LEFT}" x2="{WIDTH - 10}" y1="{base}" y2="{base}" stroke="#999"/>',
    ]


def _axis(length: float, across: Callable[[float], float], outcomes: set[str]) -> list[str]:
    base = TOP + BARS + GAP + LATENCY + 14
    ticks = [
        f'<text x="{across(at):.1f}" y="{base}" text-anchor="{"end" if part == 6 else "middle"}">{at:.1f} s</text>'
        for part, at in enumerate(length * part / 6 for part in range(7))
    ]
    shown = [(outcome, colour) for outcome, colour in COLOURS.items() if outcome in outcomes]
    legend = [
        f'<rect x="{LEFT + index * 105}" y="{base + 8}" width="10" height="10" fill="{colour}"/>'
        f'<text x="{LEFT + index * 105 + 14}" y="{base + 17}">{outcome}</text>'
        for index, (outcome, colour) in enumerate(shown)
    ]
    return ticks + legend


def percentiles(history: History, title: str) -> str:
    """One SVG element: what share of each operation's requests waited how long, the last of a thousand included."""
    operations = history.operations()
    if not operations:
        return ""
    nines = [
        1 - 10 ** (-step / 10) for step in range(31)
    ]  # 0, ..., 0.9, ..., 0.99, ..., 0.999: equally far apart
    waits = {
        name: [max(history.percentile(share, name) * 1000, 0.1) for share in nines] for name in operations
    }
    low = 10 ** math.floor(math.log10(min(map(min, waits.values()))))
    high = max(10 ** math.ceil(math.log10(max(map(max, waits.values())))), low * 10)
    tall, bottom = 170, TOP + 170

    def across(step: int) -> float:
        return LEFT + step / 30 * (WIDTH - LEFT - 130)

    def up(milliseconds: float) -> float:
        return bottom - math.log10(milliseconds / low) / math.log10(high / low) * tall

    parts = [
        f'<svg viewBox="0 0 {WIDTH} {bottom + 34}" role="img" xmlns="http://www.w3.org/2000/svg"'
        ' font-family="system-ui, sans-serif" font-size="11">',
        f"<title>{escape(title)}</title>",
    ]
    for power in range(round(math.log10(high / low)) + 1):
        value = low * 10**power
        parts.append(
            f'<line x1="{LEFT}" x2="{across(30):.0f}" y1="{up(value):.1f}" y2="{up(value):.1f}" stroke="#e3e3e3"/>'
            f'<text x="4" y="{up(value) + 4:.1f}">{value:g} ms</text>'
        )
    for step, name in ((3, "p50"), (10, "p90"), (20, "p99"), (30, "p99.9")):
        parts.append(
            f'<line x1="{across(step):.1f}" x2="{across(step):.1f}" y1="{TOP}" y2="{bottom}" stroke="#e3e3e3"/>'
            f'<text x="{across(step):.1f}" y="{bottom + 16}" text-anchor="middle">{name}</text>'
        )
    for index, name in enumerate(operations):
        colour = LINES[index % len(LINES)]
        points = " ".join(f"{across(step):.1f},{up(wait):.1f}" for step, wait in enumerate(waits[name]))
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.8"/>'
            f'<rect x="{WIDTH - 118}" y="{TOP + index * 18}" width="12" height="4" fill="{colour}"/>'
            f'<text x="{WIDTH - 100}" y="{TOP + 6 + index * 18}">{escape(name)}</text>'
        )
    return "".join([*parts, "</svg>"])
