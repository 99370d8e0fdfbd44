"""The report: one self-contained HTML page, a table on the terminal, and the promises as JSON."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

import pytest

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1020px;margin:2.2rem auto;padding:0 1.2rem;color:#1d1d1f}
h1{font-size:1.7rem;margin:0}h2{margin:2.4rem 0 .6rem;font-size:1.2rem}h3{margin:1.3rem 0 .3rem;font-size:1rem;color:#555}
.about{color:#666;margin:.2rem 0 1.2rem}
.tiles{display:flex;gap:.8rem;flex-wrap:wrap}
.tile{border:1px solid #e3e3e3;border-radius:8px;padding:.6rem 1.1rem;min-width:6.5rem}
.tile b{display:block;font-size:1.7rem;line-height:1.2}
.verdict{border-radius:8px;padding:.7rem 1.1rem;margin:1rem 0;font-weight:600;color:#fff}
.good{background:#2e7d4f}.bad{background:#b3202c}
table{border-collapse:collapse;width:100%}
td,th{padding:.3rem .6rem;text-align:left;border-bottom:1px solid #e3e3e3}th{color:#666;font-weight:500}
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.bar{width:130px}.bar i{display:block;height:8px;border-radius:4px;background:#4c9f70}.bar .missed{background:#b3202c}
.passed,.kept{color:#2e7d4f}.failed,.missed,.error{color:#b3202c}.skipped{color:#888}
details{margin:.15rem 0}summary{cursor:pointer}summary small{color:#888}
pre{background:#f6f6f6;padding:.7rem;overflow:auto;font-size:12.5px;border-radius:6px}
svg{width:100%;height:auto;border:1px solid #eee;border-radius:6px;margin:.4rem 0}
"""
SUITES = {
    "journeys": "what consumers do",
    "hostile": "what strangers and neighbours try",
    "failures": "parts killed, frozen, cut off or flooded, under load",
    "skew": "clocks that are wrong",
    "load": "a steady rate, and how long callers wait",
}
LATENCY = ("requests", "p50", "p90", "p99", "max")


NEEDS_QUIET = (
    "needs a quiet machine"  # why a test skips of which a busy machine would tell more than of Gatehouse
)


@dataclass
class Line:
    """One test as the report shows it."""

    node: str
    outcome: str
    seconds: float
    text: str = ""
    plots: list[str] = field(default_factory=list)
    evidence: str = ""

    @property
    def file(self) -> str:
        """`sign in and out` for journeys/test_sign_in_and_out.py."""
        return Path(self.node.partition("::")[0]).stem.removeprefix("test_").replace("_", " ")

    @property
    def suite(self) -> str:
        return Path(self.node.partition("::")[0]).parent.name or "tests"


@dataclass(eq=False)  # pytest keeps its plugins in sets
class Report:
    """Collects what the tests said; a pytest plugin of the process that prints."""

    folder: Path
    results: Path | None
    about: dict[str, str] = field(default_factory=dict)
    lines: dict[str, Line] = field(default_factory=dict)
    promises: dict[str, dict[str, Any]] = field(default_factory=dict)
    latencies: list[dict[str, Any]] = field(default_factory=list)
    began: datetime = field(default_factory=lambda: datetime.now(UTC))

    def pytest_deselected(self) -> None:
        """A part of a suite is no full run: what the last one found stays."""
        self.results = None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            outcome = "error" if report.when != "call" and report.failed else report.outcome
            line = self.lines.setdefault(report.nodeid, Line(report.nodeid, outcome, 0))
            if outcome != "passed":
                line.outcome = outcome
                line.text += _reason(report)
        if report.nodeid in self.lines:
            self._add(self.lines[report.nodeid], report)

    def _add(self, line: Line, report: pytest.TestReport) -> None:
        line.seconds += report.duration
        if report.when != "call":
            return
        for kind, value in report.user_properties:
            if kind == "promise":
                row = json.loads(str(value))
                self.promises[row["name"]] = row
            elif kind == "latency":
                self.latencies.append(json.loads(str(value)))
            elif kind == "plot":
                line.plots.append(str(value))
            elif kind == "evidence":
                line.evidence = str(value)

    @property
    def unjudged(self) -> list[Line]:
        """What a busy machine left without a verdict."""
        return [
            line for line in self.lines.values() if line.outcome == "skipped" and NEEDS_QUIET in line.text
        ]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.promises:
            terminalreporter.section("promises")
            wide = max(len(name) for name in self.promises)
            for row in self.promises.values():
                terminalreporter.write_line(
                    f"{row['name']:<{wide}}  {row['measured']:>9g} {row['unit']:<6}"
                    f"{row['floor']:>9}  {row['verdict']:<6} ({row['rounds']} rounds)",
                    red=row["verdict"] == "missed",
                )
        if self.latencies:
            terminalreporter.section("latency in ms, counted from the planned time")
            wide = max(len(f"{row['load']}: {row['operation']}") for row in self.latencies)
            terminalreporter.write_line(" " * wide + "".join(f"{name:>10}" for name in LATENCY))
            for row in self.latencies:
                figures = "".join(f"{row[name]:>10.0f}" for name in LATENCY)
                terminalreporter.write_line(f"{row['load'] + ': ' + row['operation']:<{wide}}{figures}")
        for line in self.unjudged:
            terminalreporter.write_line(
                f"INCOMPLETE: {line.node} {line.text.removeprefix('Skipped: ')}", red=True
            )
        if self.lines:
            terminalreporter.write_line(f"report: {self.folder / 'report.html'}")

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        if not self.lines:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "report.html").write_text(self._page())
        if self.promises:
            self._write_results(self.folder / "results.json")
            came_to_its_end = exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
            if self.results is not None and came_to_its_end and not self.unjudged:
                self._write_results(self.results)

    def _write_results(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        results = {
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            **self.about,
            "tests": Counter(line.outcome for line in self.lines.values()),
            "unjudged": [line.node for line in self.unjudged],
            "promises": list(self.promises.values()),
        }
        file.write_text(json.dumps(results, indent=2) + "\n")

    def _page(self) -> str:
        lines = list(self.lines.values())
        bad = [line for line in lines if line.outcome in ("failed", "error")]
        missed = [row for row in self.promises.values() if row["verdict"] == "missed"]
        about = ", ".join(f"{name}: {escape(value)}" for name, value in self.about.items())
        seconds = (datetime.now(UTC) - self.began).seconds
        verdict = (
            f"{len(bad)} of {len(lines)} tests failed"
            if bad
            else f"Everything that ran passed ({seconds // 60} min {seconds % 60} s)"
        )
        if self.unjudged:
            verdict += f"; incomplete: {len(self.unjudged)} {NEEDS_QUIET}"
        return (
            '<!doctype html><html lang="en"><meta charset="utf-8"><title>Gatehouse: end to end</title>'
            f"<style>{STYLE}</style><h1>Gatehouse, end to end</h1>"
            f'<p class="about">{self.began:%Y-%m-%d %H:%M} UTC, {seconds} s; {about}</p>'
            f"{_tiles(Counter(line.outcome for line in lines), len(self.promises), len(missed))}"
            f'<div class="verdict {"bad" if bad or self.unjudged else "good"}">{verdict}</div>'
            + (f"<h2>What failed</h2>{''.join(map(_test, bad))}" if bad else "")
            + self._promise_table()
            + self._latency_table()
            + "".join(_suite(name, [one for one in lines if one not in bad]) for name in _suites(lines))
            + "</html>\n"
        )

    def _promise_table(self) -> str:
        rows = "".join(
            f'<tr><td>{escape(row["name"])}</td><td class="n">{row["measured"]:g} {escape(row["unit"])}</td>'
            f'<td class="n">{escape(row["floor"])}</td><td class="bar">{_bar(row)}</td>'
            f'<td class="n">{row["rounds"]}</td><td class="{row["verdict"]}">{row["verdict"]}</td></tr>'
            for row in self.promises.values()
        )
        head = (
            '<tr><th>promise</th><th class="n">worst seen</th><th class="n">floor</th><th>of it</th>'
            '<th class="n">rounds</th><th>verdict</th></tr>'
        )
        return f"<h2>Promises</h2><table>{head}{rows}</table>" if rows else ""

    def _latency_table(self) -> str:
        head = "".join(f'<th class="n">{name}</th>' for name in LATENCY)
        rows = "".join(
            f"<tr><td>{escape(row['load'])}</td><td>{escape(row['operation'])}</td>"
            + "".join(f'<td class="n">{row[name]:.0f}</td>' for name in LATENCY)
            + "</tr>"
            for row in self.latencies
        )
        table = f"<table><tr><th>load</th><th>operation</th>{head}</tr>{rows}</table>"
        return f"<h2>How long callers waited, in ms</h2>{table}" if rows else ""


def _tiles(outcomes: Counter[str], promises: int, missed: int) -> str:
    tiles = [
        (name, str(outcomes[name])) for name in ("passed", "failed", "error", "skipped") if outcomes[name]
    ]
    if promises:
        tiles.append(("missed" if missed else "kept", f"{promises - missed} of {promises}"))
    labels = {"kept": "promises kept", "missed": "promises kept"}
    return '<div class="tiles">' + "".join(
        f'<div class="tile {name}"><b>{figure}</b>{labels.get(name, name)}</div>' for name, figure in tiles
    ) + "</div>"  # fmt: skip


def _bar(row: dict[str, Any]) -> str:
    """How much of what was allowed was used up; nothing for floors from below, and for none at all."""
    sign, _, floor = row["floor"].partition(" ")
    if sign != "<=" or not float(floor):
        return ""
    used = min(100, 100 * row["measured"] / float(floor))
    return f'<i class="{row["verdict"]}" style="width:{used:.0f}%"></i>'


def _suites(lines: list[Line]) -> list[str]:
    return list(dict.fromkeys(line.suite for line in lines))


def _suite(name: str, lines: list[Line]) -> str:
    files: dict[str, list[Line]] = {}
    for line in lines:
        if line.suite == name:
            files.setdefault(line.file, []).append(line)
    if not files:
        return ""
    said = f" <small>{SUITES[name]}</small>" if name in SUITES else ""
    tests = "".join(
        f"<h3>{escape(file)}</h3>" + "".join(_test(line) for line in inside) for file, inside in files.items()
    )
    return f"<h2>{escape(name)}{said}</h2>{tests}"


def _reason(report: pytest.TestReport) -> str:
    if report.skipped and isinstance(report.longrepr, tuple):
        return str(report.longrepr[2])
    return report.longreprtext


def _test(line: Line) -> str:
    name = line.node.partition("::")[2] or line.node
    title = escape(name.removeprefix("test_").replace("_", " ").replace("[", ": ").removesuffix("]"))
    head = f'<span class="{line.outcome}">{line.outcome}</span> {title} <small>{line.seconds:.1f} s</small>'
    plots = "".join(Path(plot).read_text() for plot in line.plots if Path(plot).exists())
    evidence = (
        f"<p>Logs and states of the parts: <code>{escape(line.evidence)}</code></p>" if line.evidence else ""
    )
    text = f"<pre>{escape(line.text)}</pre>" if line.text else ""
    opened = " open" if plots or line.outcome in ("failed", "error") else ""
    body = f"<small>{escape(line.node)}</small>{text}{evidence}{plots}"
    return f"<details{opened}><summary>{head}</summary>{body}</details>"
