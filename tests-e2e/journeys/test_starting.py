"""What somebody reads who has started the system with `make run`."""

from __future__ import annotations

import pytest

from gatehouse_e2e.systems import Embedded, System

BANNER = "Gatehouse is up: "
STARTING = ("Starting gunicorn", "Booting worker", "Application startup complete")


@pytest.fixture
def lines(system: System) -> list[str]:
    if not isinstance(system, Embedded):
        pytest.skip("it is about the system that `make run` starts")
    return system.logs()["system"].splitlines()


def test_what_a_start_says_comes_before_the_banner(lines: list[str]) -> None:
    (banner,) = [number for number, line in enumerate(lines) if line.startswith(BANNER)]
    for text in STARTING:
        assert any(text in line for line in lines[:banner])
        assert not [line for line in lines[banner:] if text in line]


def test_a_healthy_first_start_warns_of_nothing(lines: list[str]) -> None:
    (banner,) = [number for number, line in enumerate(lines) if line.startswith(BANNER)]
    assert not [line for line in lines[:banner] if "WARNING" in line or "ERROR" in line]


def test_its_lines_are_short(lines: list[str]) -> None:
    (banner,) = [number for number, line in enumerate(lines) if line.startswith(BANNER)]
    assert max(map(len, lines[:banner])) <= 140
