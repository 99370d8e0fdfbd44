"""Plots as plain SVG: requests by outcome over time, latencies beneath, the fault's span marked."""

from __future__ import annotations

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
    parts += _axis(length, across)
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


def _axis(length: float, across: Callable[[float], float]) -> list[str]:
    base = TOP + BARS + GAP + LATENCY + 14
    ticks = [
        f'<text x="{across(at):.1f}" y="{base}" text-anchor="middle">{at:.1f} s</text>'
        for at in (length * part / 6 for part in range(7))
    ]
    legend = [
        f'<rect x="{LEFT + index * 105}" y="{base + 8}" width="10" height="10" fill="{colour}"/>'
        f'<text x="{LEFT + index * 105 + 14}" y="{base + 17}">{outcome}</text>'
        for index, (outcome, colour) in enumerate(COLOURS.items())
    ]
    return ticks + legend
