"""Plots as plain SVG: requests by outcome over time with latencies and the fault's span; percentiles of a load."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from html import escape

from .history import Exchange, History, Span, percentile

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
WIDTH, BARS, LATENCY, LEFT, TOP, GAP = 900, 150, 90, 52, 56, 40
FULL = 0.92  # how high the greatest value stands, so that a fault's span is seen above it
LETTER = 6  # how wide one is, about
MOST_BARS = 150
# Bars narrower than this show how requests fell between them, not how many came.
STEPS = (0.25, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600)


def timeline(history: History, title: str) -> str:
    """One SVG element for the whole history."""
    seen = history.select()
    if not seen:
        return ""
    length = max(one.ended for one in seen) or 1
    step = _step(length / MOST_BARS)

    def across(seconds: float) -> float:
        return LEFT + seconds / length * (WIDTH - LEFT - 10)

    height = TOP + BARS + GAP + LATENCY + 40
    return "".join(
        [
            *_opening(title, height),
            *_spans(history.spans, across),
            *_bars(seen, step, across),
            *_latencies(seen, step, across),
            *_axis(length, across, {one.outcome for one in seen}),
            "</svg>",
        ]
    )


def _opening(title: str, height: int) -> list[str]:
    return [
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" xmlns="http://www.w3.org/2000/svg"'
        ' font-family="system-ui, sans-serif" font-size="11">',
        f"<title>{escape(title)}</title>",
        f'<text x="4" y="15" font-size="13" font-weight="600">{escape(title)}</text>',
    ]


def _step(at_least: float) -> float:
    """A width that is easy to read off."""
    return next((step for step in STEPS if step >= at_least), at_least)


def _spans(spans: Sequence[Span], across: Callable[[float], float]) -> list[str]:
    """Shaded, and named above in one of two lines, so that neighbours' names do not meet."""
    parts = []
    taken = [0.0, 0.0]
    for span in sorted(spans, key=lambda span: span.began):
        left, right = across(span.began), across(span.ended)
        parts.append(
            f'<rect x="{left:.1f}" y="{TOP}" width="{max(1.5, right - left):.1f}"'
            f' height="{BARS + GAP + LATENCY}" fill="#f6d9d5"/>'
        )
        wide = LETTER * len(span.name)
        start = min(left, WIDTH - wide)
        line = next((line for line in (0, 1) if taken[line] <= start), None)
        if line is not None:
            taken[line] = start + wide + 6
            parts.append(
                f'<text x="{start:.1f}" y="{TOP - 6 - 13 * line}" fill="#8a1c14">{escape(span.name)}</text>'
            )
    return parts


def _bars(seen: list[Exchange], step: float, across: Callable[[float], float]) -> list[str]:
    counts: dict[int, Counter[str]] = {}
    for one in seen:
        counts.setdefault(int(one.planned / step), Counter())[one.outcome] += 1
    most = max(sum(count.values()) for count in counts.values())
    parts = [
        f'<text x="{LEFT}" y="{TOP + BARS + 14}" fill="#666">requests per second, by outcome</text>',
        *_scale(TOP, BARS, f"{most / step:.0f}/s"),
    ]
    for index, count in counts.items():
        base: float = TOP + BARS
        left, right = across(index * step), min(across((index + 1) * step), WIDTH - 10)
        for outcome, colour in COLOURS.items():
            tall = count[outcome] / most * BARS * FULL
            if tall:
                base -= tall
                parts.append(
                    f'<rect x="{left:.1f}" y="{base:.1f}" height="{tall:.1f}"'
                    f' width="{max(0.5, right - left - 0.5):.2f}" fill="{colour}"/>'
                )
    return parts


def _scale(top: float, tall: float, most: str) -> list[str]:
    """The axis of one half, with its greatest value and zero."""
    base = top + tall
    return [
        f'<text x="{LEFT - 6}" y="{top + tall * (1 - FULL) + 4:.1f}" text-anchor="end">{most}</text>',
        f'<text x="{LEFT - 6}" y="{base}" text-anchor="end">0</text>',
        f'<line x1="{LEFT}" x2="{WIDTH - 10}" y1="{base}" y2="{base}" stroke="#999"/>',
    ]


def _latencies(seen: list[Exchange], step: float, across: Callable[[float], float]) -> list[str]:
    slowest: dict[int, float] = {}
    for one in seen:
        index = int(one.planned / step)
        slowest[index] = max(slowest.get(index, 0), one.seconds)
    most = max(slowest.values()) or 1
    top, base = TOP + BARS + GAP, TOP + BARS + GAP + LATENCY
    points = " ".join(
        f"{min(across((index + 0.5) * step), WIDTH - 10):.1f},{base - slowest[index] / most * LATENCY * FULL:.1f}"
        for index in sorted(slowest)
    )
    return [
        f'<text x="{LEFT}" y="{top - 6}" fill="#666">how long the slowest of each moment took</text>',
        *_scale(top, LATENCY, f"{most * 1000:.0f} ms"),
        f'<polyline points="{points}" fill="none" stroke="#2b5c8a" stroke-width="1.4"/>',
    ]


def _axis(length: float, across: Callable[[float], float], outcomes: set[str]) -> list[str]:
    base = TOP + BARS + GAP + LATENCY + 14
    step = _step(length / 12)
    ticks = [
        f'<text x="{across(part * step):.1f}" y="{base}" text-anchor="middle">{part * step:g} s</text>'
        for part in range(int(length / step) + 1)
        if across(part * step) < WIDTH - 20
    ]
    shown = [(outcome, colour) for outcome, colour in COLOURS.items() if outcome in outcomes]
    legend = [
        f'<rect x="{LEFT + index * 105}" y="{base + 8}" width="10" height="10" fill="{colour}"/>'
        f'<text x="{LEFT + index * 105 + 14}" y="{base + 17}">{outcome}</text>'
        for index, (outcome, colour) in enumerate(shown)
    ]
    return ticks + legend


def percentiles(history: History, title: str) -> str:
    """One SVG element: how long which share of each operation's callers waited, as far as there were enough of them."""
    operations = history.operations()
    if not operations:
        return ""
    nines = [
        1 - 10 ** (-step / 10) for step in range(31)
    ]  # 0, ..., 0.9, ..., 0.99, ..., 0.999: equally far apart
    waits = {name: _waits(history.select(name), nines) for name in operations}
    low = 10 ** math.floor(math.log10(min(map(min, waits.values()))))
    high = max(10 ** math.ceil(math.log10(max(map(max, waits.values())))), low * 10)
    top, tall = 40, 170
    bottom = top + tall

    def across(step: int) -> float:
        return LEFT + step / 30 * (WIDTH - LEFT - 130)

    def up(milliseconds: float) -> float:
        return bottom - math.log10(milliseconds / low) / math.log10(high / low) * tall

    parts = _opening(f"{title}: how long which share of the callers waited at most", bottom + 34)
    for power in range(round(math.log10(high / low)) + 1):
        value = low * 10**power
        parts.append(
            f'<line x1="{LEFT}" x2="{across(30):.0f}" y1="{up(value):.1f}" y2="{up(value):.1f}" stroke="#e3e3e3"/>'
            f'<text x="4" y="{up(value) + 4:.1f}">{value:g} ms</text>'
        )
    for step, name in ((3, "p50"), (10, "p90"), (20, "p99"), (30, "p99.9")):
        parts.append(
            f'<line x1="{across(step):.1f}" x2="{across(step):.1f}" y1="{top}" y2="{bottom}" stroke="#e3e3e3"/>'
            f'<text x="{across(step):.1f}" y="{bottom + 16}" text-anchor="middle">{name}</text>'
        )
    for index, name in enumerate(operations):
        colour = LINES[index % len(LINES)]
        points = " ".join(f"{across(step):.1f},{up(wait):.1f}" for step, wait in enumerate(waits[name]))
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.8"/>'
            f'<rect x="{WIDTH - 118}" y="{top + index * 18}" width="12" height="4" fill="{colour}"/>'
            f'<text x="{WIDTH - 100}" y="{top + 6 + index * 18}">{escape(name)}</text>'
        )
    return "".join([*parts, "</svg>"])


def _waits(exchanges: Sequence[Exchange], shares: Sequence[float]) -> list[float]:
    """In milliseconds; a share that is less than one of them says nothing of its own."""
    told = [share for share in shares if len(exchanges) * (1 - share) >= 1 - 1e-9]
    return [max(percentile(share, exchanges) * 1000, 0.1) for share in told]
