"""`python -m benchmarks users|async|changes`: measure, print a table, leave results and a plot."""

import argparse
import os
import sys
from pathlib import Path

import uvloop

from benchmarks import changes, pauses, people, plot, report, running

HERE = Path(__file__).parent
WITH_STORES = HERE.parents[1] / "deploy" / "compose" / "with-stores"
PEOPLE, MANY_PEOPLE = 100_000, 1_000_000


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("suite", choices=["users", "async", "changes"])
    parser.add_argument("--rounds", type=int, default=5, help="at least three count (default: 5)")
    parser.add_argument("--full", action="store_true", help=f"users: {MANY_PEOPLE:,} people, not {PEOPLE:,}")
    elsewhere = parser.add_argument_group(
        "changes", "on a running system, with an administrator's credentials"
    )
    elsewhere.add_argument("--url", default="http://localhost:8080")
    elsewhere.add_argument("--admin", help="e-mail; its password is read from the variable ADMIN_PASSWORD")
    chosen = parser.parse_args()
    if chosen.suite == "changes":
        rounds = max(chosen.rounds, 100)
        password = os.environ["ADMIN_PASSWORD"]
        changes.show(uvloop.run(changes.measure(chosen.url, chosen.admin, password, rounds)))
        return 0
    if chosen.suite == "async":
        measured = pauses.measure(chosen.rounds)
        report.print_pauses(measured)
        report.write(measured, HERE / "results" / "async.json")
        plot.pauses()
        return 0
    if "TEST_MYSQL_URL" not in os.environ:
        # Comes back here with a MySQL of its own, which is removed at the end.
        os.execv(WITH_STORES, [str(WITH_STORES), sys.executable, "-m", "benchmarks", *sys.argv[1:]])
    count = MANY_PEOPLE if chosen.full else PEOPLE
    load = os.getloadavg()[0]
    server = os.environ["TEST_MYSQL_URL"]
    measured = uvloop.run(people.measure(server, count, chosen.rounds)) | {"load_before": load}
    report.print_people(measured)
    measured["running"] = uvloop.run(running.measure(people.database(server), chosen.rounds))
    measured["figures"] = people.summary(measured) | running.summary(measured["running"])
    report.print_verdicts(measured["figures"])
    report.write(measured, HERE / "results" / "latest.json")
    plot.people()
    return 0


if __name__ == "__main__":
    sys.exit(main())
