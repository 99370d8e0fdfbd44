#!/usr/bin/env python3
"""Bring one service to this folder's release without an unanswered request (`roll`), or all that is here (`up`)."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

from containers import Docker
from converging import up
from project import ENDINGS, Failed, Project, Refused, hear_nobody, say
from rolling import reason, roll


def main() -> None:
    """Everything of one project happens one at a time."""
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("roll", help="bring one service to this folder's release")
    verb.add_argument("service")
    verb.add_argument("--to", choices=["previous"], help="to what served before instead, without a build")
    verb = verbs.add_parser("up", help="start what does not run, and roll what has changed")
    verb.add_argument("services", nargs="*")
    said = parser.parse_args()
    for ending in ENDINGS:
        signal.signal(ending, interrupt)
    project = os.environ.get("PROJECT", "")
    try:
        with one_at_a_time(Docker(project).configuration()["name"]) as lock:
            here = Project(Docker(project, lock))
            if said.verb == "up":
                up(here, said.services)
            else:
                roll(here, said.service, to_previous=said.to == "previous")
    except (Refused, Failed) as error:
        sys.exit(str(error))
    except subprocess.CalledProcessError as error:
        sys.exit(reason(error))


@contextlib.contextmanager
def one_at_a_time(project: str) -> Iterator[int]:
    """Wait until nobody else changes the project, nor what a killed run started: that holds the lock on."""
    path = Path(tempfile.gettempdir()) / f"gatehouse-{project}.lock"
    try:
        lock = os.open(path, os.O_RDONLY)  # also if it is another user's
    except FileNotFoundError:
        lock = os.open(path, os.O_RDONLY | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{project}: another make up or make roll is at work, and goes first")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock
    finally:
        os.close(lock)


def interrupt(_: int, __: FrameType | None) -> NoReturn:
    hear_nobody()
    raise Failed("interrupted")


if __name__ == "__main__":
    main()
