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
body{font:15px/1.45 system-ui,sans-serif;max-width:1000px;margin:2rem auto;padding:0 1rem;color:#1d1d1f}
table{border-collapse:collapse;width:100%}
td,th{padding:.3rem .6rem;text-align:left;border-bottom:1px solid #ddd}
td.n{text-align:right;font-variant-numeric:tabular-nums}
.passed,.kept{color:#2e7d4f}.failed,.missed,.error{color:#b3202c}
.skipped{color:#777}
details{margin:.2rem 0}summary{cursor:pointer}pre{background:#f6f6f6;padding:.7rem;overflow:auto}
svg{width:100%;height:auto;border:1px solid #eee;margin:.4rem 0}
"""


@dataclass
class Line:
    """One test as the report shows it."""

    node: str
    outcome: str
    seconds: float
    text: str = ""
    plots: list[str] = field(default_factory=list)
    evidence: str = ""


@dataclass(eq=False)  # pytest keeps its plugins in sets
class Report:
    """Collects what the tests said; a pytest plugin of the process that prints."""

    folder: Path
    results: Path | None
    about: dict[str, str] = field(default_factory=dict)
    lines: dict[str, Line] = field(default_factory=dict)
    promises: dict[str, dict[str, Any]] = field(default_factory=dict)
    latencies: list[str] = field(default_factory=list)
    began: datetime = field(default_factory=lambda: datetime.now(UTC))

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
                line.text += f"{value}\n"
                self.latencies.append(str(value))
            elif kind == "plot":
                line.plots.append(str(value))
            elif kind == "evidence":
                line.evidence = str(value)

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
            for text in self.latencies:
                terminalreporter.write_line(text)
        if self.lines:
            terminalreporter.write_line(f"report: {self.folder / 'report.html'}")

    def pytest_sessionfinish(self) -> None:
        if not self.lines:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "report.html").write_text(self._page())
        if self.promises:
            self._write_results(self.folder / "results.json")
            if self.results is not None:
                self._write_results(self.results)

    def _write_results(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        results = {
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            **self.about,
            "tests": Counter(line.outcome for line in self.lines.values()),
            "promises": list(self.promises.values()),
        }
        file.write_text(json.dumps(results, indent=2) + "\n")

    def _page(self) -> str:
        counts = Counter(line.outcome for line in self.lines.values())
        counted = ", ".join(f'<span class="{name}">{count} {name}</span>' for name, count in counts.items())
        about = "".join(
            f"<tr><th>{escape(key)}</th><td>{escape(value)}</td></tr>" for key, value in self.about.items()
        )
        tests = "".join(_test(line) for line in self.lines.values())
        return (
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Gatehouse: end to end</title>'
            f"<style>{STYLE}</style><h1>Gatehouse: end to end</h1>"
            f"<p>{self.began:%Y-%m-%d %H:%M} UTC, {(datetime.now(UTC) - self.began).seconds} s: {counted}</p>"
            f"<table>{about}</table>{self._promise_table()}<h2>Tests</h2>{tests}</html>\n"
        )

    def _promise_table(self) -> str:
        rows = "".join(
            f'<tr><td>{escape(row["name"])}</td><td class="n">{row["measured"]:g} {escape(row["unit"])}</td>'
            f'<td class="n">{escape(row["floor"])}</td><td class="n">{row["rounds"]}</td>'
            f'<td class="{row["verdict"]}">{row["verdict"]}</td></tr>'
            for row in self.promises.values()
        )
        head = "<tr><th>promise</th><th>worst seen</th><th>floor</th><th>rounds</th><th>verdict</th></tr>"
        return f"<h2>Promises</h2><table>{head}{rows}</table>" if rows else ""


def _reason(report: pytest.TestReport) -> str:
    if report.skipped and isinstance(report.longrepr, tuple):
        return str(report.longrepr[2])
    return report.longreprtext


def _test(line: Line) -> str:
    name = line.node.partition("::")[2] or line.node
    title = escape(name.removeprefix("test_").replace("_", " "))
    head = f'<span class="{line.outcome}">{line.outcome}</span> {title} <small>{line.seconds:.2f} s</small>'
    plots = "".join(Path(plot).read_text() for plot in line.plots if Path(plot).exists())
    evidence = (
        f"<p>Logs and states of the parts: <code>{escape(line.evidence)}</code></p>" if line.evidence else ""
    )
    text = f"<pre>{escape(line.text)}</pre>" if line.text else ""
    opened = " open" if plots or line.outcome in ("failed", "error") else ""
    body = f"<small>{escape(line.node)}</small>{text}{evidence}{plots}"
    return f"<details{opened}><summary>{head}</summary>{body}</details>"
