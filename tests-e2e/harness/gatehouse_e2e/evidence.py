"""What a test measured: promise rows and load histories, judged once its body is through."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .history import History, Latencies, violations
from .plots import percentiles, timeline

SHOWN_VIOLATIONS = 12


@dataclass(slots=True)
class Row:
    """One promise: `measured` is the maximum (or minimum, for a floor from below) of all rounds."""

    name: str
    measured: float
    unit: str
    at_most: float | None = None
    at_least: float | None = None
    rounds: int = 1

    @property
    def kept(self) -> bool:
        return (self.at_most is None or self.measured <= self.at_most) and (
            self.at_least is None or self.measured >= self.at_least
        )

    @property
    def floor(self) -> str:
        return f"<= {self.at_most:g}" if self.at_most is not None else f">= {self.at_least:g}"

    def merge(self, value: float) -> None:
        self.rounds += 1
        self.measured = max(self.measured, value) if self.at_most is not None else min(self.measured, value)

    def as_result(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "floor": self.floor,
            "measured": round(self.measured, 4),
            "unit": self.unit,
            "rounds": self.rounds,
            "verdict": "kept" if self.kept else "missed",
        }


@dataclass(slots=True)
class Evidence:
    """Collected by one test through the fixtures `promise` and `load`."""

    rows: dict[str, Row] = field(default_factory=dict)
    histories: list[tuple[str, History]] = field(default_factory=list)
    measured: list[tuple[str, History]] = field(default_factory=list)  # loads whose latencies are the result
    complaints: list[str] = field(default_factory=list)

    def promise(
        self,
        name: str,
        measured: float,
        *,
        at_most: float | None = None,
        at_least: float | None = None,
        unit: str = "s",
    ) -> None:
        """Keep a figure; over several rounds the worst one counts. A missed floor fails the test."""
        if (at_most is None) == (at_least is None):
            raise ValueError("a promise has one floor: at_most or at_least")
        if name in self.rows:
            self.rows[name].merge(measured)
        else:
            self.rows[name] = Row(name, measured, unit, at_most, at_least)

    def judgement(self) -> str:
        """Why the test fails although its body went through; empty when nothing is wrong."""
        lines = [f"promise missed: {row.as_result()}" for row in self.rows.values() if not row.kept]
        lines += self.complaints
        for title, history in self.histories:
            found = violations(history)
            lines += [f"{title}: {line}" for line in found[:SHOWN_VIOLATIONS]]
            if len(found) > SHOWN_VIOLATIONS:
                lines.append(f"{title}: and {len(found) - SHOWN_VIOLATIONS} more")
        return "\n".join(lines)

    def properties(self, node: str, folder: Path) -> list[tuple[str, str]]:
        """The rows, and the plots written to `folder`, in the form that travels with pytest's report."""
        found = [("promise", json.dumps(row.as_result())) for row in self.rows.values()]
        for number, (title, history) in enumerate(self.histories):
            if plot := timeline(history, title):
                found.append(("plot", _write(folder / f"{file_name(node)}-{number}.svg", plot)))
                records = "".join(json.dumps(asdict(one)) + "\n" for one in history.select())
                _write(folder / f"{file_name(node)}-{number}.jsonl", records)
                spans = json.dumps([asdict(span) for span in history.spans], indent=1)
                _write(folder / f"{file_name(node)}-{number}.spans.json", spans + "\n")
        for number, (title, history) in enumerate(self.measured):
            found += [
                ("latency", json.dumps({"load": title, **asdict(Latencies.of(history, operation))}))
                for operation in history.operations()
            ]
            if plot := percentiles(history, title):
                found.append(("plot", _write(folder / f"{file_name(node)}-percentiles-{number}.svg", plot)))
        return found


def _write(file: Path, text: str) -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return str(file)


def file_name(node: str) -> str:
    """A test's node id as a file name."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", node.partition("::")[2] or node).strip("-")
