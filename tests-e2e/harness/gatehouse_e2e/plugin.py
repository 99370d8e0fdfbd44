"""The pytest plugin: options, the system under test, and the fixtures a suite is written with.

Everything here works in a team's own repository too: depend on gatehouse-e2e, then
`pytest --system https://staging.example` or `pytest --system compose --checkout path/to/gatehouse`.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import pytest

from .api import Api, Person
from .compose import Compose, engine_missing, remove_images_of_vanished_checkouts, remove_leftovers
from .evidence import Evidence, file_name
from .history import History
from .load import Load, Share
from .mails import Mails
from .people import People
from .report import NEEDS_QUIET, Report
from .steady import Steady
from .systems import Embedded, NotHere, System
from .toxics import ToxicControl
from .waiting import NeverHappened, until
from .wire import RawClient

CHECKOUT = Path(__file__).resolve().parents[3]
SYSTEM = pytest.StashKey[System]()
EVIDENCE = pytest.StashKey[Evidence]()
REPORT_LOCK = pytest.StashKey[int]()
MARKERS = (
    "breaks: breaks a part of the system; needs containers of its own, and skips elsewhere with the reason",
    "full: a long row of the fault table; runs with --full only",
)
# Ctrl-C, and what a CI job that is ended says.
ENDINGS = (signal.SIGINT, signal.SIGTERM)
# Floors in seconds are for a machine that does nothing else; the quick set allows this many times as long.
QUICK_ALLOWANCE = 4
# Programs that want to run, for each core; a run's own containers and load are far below.
BUSY = 6
NO_SYSTEM = "no system to test: give --system compose, --system embedded or --system https://..."


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("gatehouse", "Gatehouse end to end")
    group.addoption("--system", metavar="KIND", help="compose, embedded, or the base URL of a running system")
    group.addoption("--full", action="store_true", help="the long rows too, and every fault more often")
    group.addoption(
        "--report-dir", metavar="DIR", default="report", help="where the report goes (default: report)"
    )
    group.addoption("--checkout", metavar="DIR", default=str(CHECKOUT), help="a Gatehouse checkout to start")


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def _report_folder(config: pytest.Config) -> Path:
    folder = Path(str(config.getoption("report_dir")))
    return folder if folder.is_absolute() else config.rootpath / folder


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """The report is one run's alone: who comes while another writes there gets a folder beside it."""
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    if _is_worker(config) or not config.getoption("system") or config.option.collectonly:
        return
    folder = _report_folder(config)
    folder.mkdir(parents=True, exist_ok=True)
    config.stash[REPORT_LOCK] = lock = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        folder = folder.with_name(f"{folder.name}-{os.getpid()}")
    config.option.report_dir = str(folder)
    config.option.xmlpath = config.option.xmlpath or str(folder / "junit.xml")


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Bring the system up before the first test, and before parallel workers exist: they share it."""
    config = session.config
    kind = config.getoption("system")
    if _is_worker(config) and kind:
        config.stash[SYSTEM] = _attach(kind, config.workerinput["system"])  # type: ignore[attr-defined]
        return
    if not kind or config.option.collectonly:
        return
    for ending in ENDINGS:
        signal.signal(ending, _end_once)
    system = _start(config, kind)
    config.stash[SYSTEM] = system
    whole = config.getoption("full") and not any(".py" in asked for asked in config.args)
    results = config.rootpath / "results" / "latest.json" if whole else None
    about = {
        "system": kind if kind in ("compose", "embedded") else system.url,
        "full": str(bool(config.getoption("full"))).lower(),
    }
    config.pluginmanager.register(Report(_report_folder(config), results, about), "gatehouse-report")


def _end_once(number: int, frame: FrameType | None) -> None:
    """The first ends the run. What impatience sends after it, and uv once more, must not end the cleaning up."""
    for ending in ENDINGS:
        signal.signal(ending, signal.SIG_IGN)
    raise KeyboardInterrupt


def _say(config: pytest.Config) -> Callable[[str], None]:
    capture = config.pluginmanager.getplugin("capturemanager")

    def say(line: str) -> None:
        with capture.global_and_fixture_disabled():
            print(line, flush=True)

    return say


def _start(config: pytest.Config, kind: str) -> System:
    checkout = Path(str(config.getoption("checkout"))).resolve()
    if kind in ("compose", "embedded") and not (checkout / "deploy/embedded/run.py").exists():
        pytest.exit(
            f"--system {kind}: {checkout} is no checkout of Gatehouse: give --checkout DIR", returncode=4
        )
    try:
        if kind == "embedded":
            return Embedded.start(checkout)
        if kind == "compose":
            if reason := engine_missing():
                pytest.exit(f"--system compose: {reason}", returncode=4)
            remove_leftovers()
            remove_images_of_vanished_checkouts()
            return Compose.start(checkout, _say(config), _report_folder(config) / "containers" / "start")
    except (RuntimeError, AssertionError) as error:
        pytest.exit(f"--system {kind} did not start: {error}", returncode=3)
    if not kind.startswith(("http://", "https://")):
        pytest.exit(f"--system {kind}: neither compose nor embedded nor a base URL", returncode=4)
    return System(kind.rstrip("/"))


def _describe(system: System) -> dict[str, Any]:
    """What a parallel worker needs to find the same system again."""
    found: dict[str, Any] = {"url": system.url, "plain_url": system.plain_url, "mail_url": system.mail_url}
    found["believes_addresses"] = system.believes_addresses
    if isinstance(system, Embedded):
        found |= {"checkout": str(system.checkout), "folder": str(system.folder)}
    if isinstance(system, Compose):
        found |= {
            "checkout": str(system.checkout),
            "project": system.project,
            "environment": system.environment,
        }
        found["files"] = [str(file) for file in system.files]
    return found


def _attach(kind: str, told: dict[str, Any]) -> System:
    told |= {name: Path(told[name]) for name in ("checkout", "folder") if name in told}
    if kind == "embedded":
        return Embedded(**told)
    if kind == "compose":
        told["files"] = tuple(Path(file) for file in told["files"])
        return Compose(**told)
    return System(**told)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """pytest-xdist: tell a worker where the system is."""
    if SYSTEM in node.config.stash:
        node.workerinput["system"] = _describe(node.config.stash[SYSTEM])


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    if REPORT_LOCK in config.stash:
        os.close(config.stash[REPORT_LOCK])
        del config.stash[REPORT_LOCK]
    if SYSTEM in config.stash and not _is_worker(config):
        system = config.stash[SYSTEM]
        del config.stash[SYSTEM]
        system.stop()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("full") and not config.getoption("full"):
            item.add_marker(pytest.mark.skip(reason="a long row: runs with --full"))
        if item.get_closest_marker("breaks") and _is_worker(config):
            item.add_marker(
                pytest.mark.skip(reason="breaks the system the parallel workers share: run it without -n")
            )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Once the body went through, judge what it measured: a missed promise or a broken invariant fails it."""
    result = yield
    if judgement := item.stash.get(EVIDENCE, Evidence()).judgement():
        pytest.fail(judgement, pytrace=False)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Plots and promise rows go with the report; after a failure so do the parts' logs and states."""
    report: pytest.TestReport = yield  # type: ignore[assignment]
    if report.when == "call" and EVIDENCE in item.stash:
        report.user_properties += item.stash[EVIDENCE].properties(
            item.nodeid, _report_folder(item.config) / "plots"
        )
    folder = _report_folder(item.config) / "containers" / file_name(item.nodeid)
    if report.when == "setup":
        shutil.rmtree(folder, ignore_errors=True)  # of an earlier run
    if report.failed and SYSTEM in item.config.stash:
        item.config.stash[SYSTEM].keep_evidence(folder)
        if folder.exists():  # a deployed system's logs are out of reach
            report.user_properties.append(("evidence", str(folder)))
    return report  # type: ignore[return-value]


# Fixtures


@pytest.fixture(scope="session")
def system(pytestconfig: pytest.Config) -> System:
    """The system under test: `.url` always, and what else of it can be reached."""
    if SYSTEM not in pytestconfig.stash:
        pytest.skip(NO_SYSTEM)
    return pytestconfig.stash[SYSTEM]


@pytest.fixture(scope="session")
def people(system: System) -> Iterator[People]:
    """The user factory: `.signed_in()`, `.registered()`, `.stranger()`, `.api(person)`."""
    factory = People(system.url, in_turn=not system.believes_addresses)
    yield factory
    factory.close()


@pytest.fixture
def api(system: System, people: People) -> Iterator[Api]:
    """A typed client at an address nobody else has."""
    with Api(system.url, people.address(), in_turn=not system.believes_addresses) as client:
        yield client


@pytest.fixture
def person(people: People) -> Person:
    """Somebody registered and signed in, new for this test."""
    return people.signed_in()


@pytest.fixture(scope="session")
def first_admin(system: System, people: People) -> Person:
    """Made by a command on the system's side, which takes seconds; makes every other administrator."""
    chosen = people.registered()
    try:
        system.make_admin(chosen.email)
    except NotHere as reason:
        pytest.skip(str(reason))
    return chosen


@pytest.fixture
def admin(first_admin: Person, people: People) -> Person:
    """Somebody with the role admin, signed in, new for this test; skips where no command can make one."""
    people.sign_in(first_admin)
    chosen = people.registered()
    people.promote(first_admin, chosen)
    people.sign_in(chosen)
    return chosen


@pytest.fixture
def raw(system: System) -> Callable[[], RawClient]:
    """Opens a connection that sends exactly the bytes it is given: `with raw() as wire: wire.ask(b"...")`."""
    return lambda: RawClient(system.url)


@pytest.fixture(scope="session")
def mails(system: System) -> Iterator[Mails]:
    """Captured mail: `mails.wait(address, "reset").token`; skips where no catcher is in reach."""
    if system.mail_url is None:
        pytest.skip(f"no mail catcher in reach of {system.url}")
    reader = Mails(system.mail_url)
    yield reader
    reader.close()


@pytest.fixture
def parts(system: System) -> Iterator[Compose]:
    """The containers, to be broken: kill, pause, disconnect; what a test leaves broken is mended after it."""
    if not isinstance(system, Compose):
        pytest.skip(f"breaks containers, and {system.url} is not a compose project of ours: --system compose")
    yield system
    system.heal()


@pytest.fixture
def echo(system: System) -> None:
    """For tests that ask the tests' own service, which stands behind no other gateway than ours."""
    if not isinstance(system, Compose):
        pytest.skip(f"asks the tests' own service, and none stands behind {system.url}: --system compose")


@pytest.fixture(scope="module")
def edges(system: System, pytestconfig: pytest.Config) -> Iterator[ToxicControl]:
    """Toxics between the parts: the module's tests run with every connection through the toxic proxy."""
    if not isinstance(system, Compose):
        pytest.skip(f"puts a proxy between containers, and {system.url} is not a compose project of ours")
    with system.wired(_say(pytestconfig)) as control:
        yield control


@pytest.fixture
def rounds(pytestconfig: pytest.Config) -> int:
    """How often a fault is repeated: its maximum counts."""
    return 3 if pytestconfig.getoption("full") else 1


@pytest.fixture
def full(pytestconfig: pytest.Config) -> bool:
    return bool(pytestconfig.getoption("full"))


@pytest.fixture
def evidence(request: pytest.FixtureRequest) -> Evidence:
    node: pytest.Item = request.node
    return node.stash.setdefault(EVIDENCE, Evidence())


class PromiseFixture(Protocol):
    def __call__(
        self,
        name: str,
        measured: float,
        *,
        at_most: float | None = None,
        at_least: float | None = None,
        unit: str = "s",
    ) -> None: ...


@pytest.fixture
def promise(evidence: Evidence, full: bool) -> PromiseFixture:
    """Records one row of the promises: `promise("auth-service killed: back", 3.1, at_most=5)`."""
    if full:
        return evidence.promise

    def roughly(
        name: str,
        measured: float,
        *,
        at_most: float | None = None,
        at_least: float | None = None,
        unit: str = "s",
    ) -> None:
        """The quick set runs beside other work: how many is judged as ever, how long with an allowance."""
        if unit == "s" and at_most is not None:
            at_most *= QUICK_ALLOWANCE
        evidence.promise(name, measured, at_most=at_most, at_least=at_least, unit=unit)

    return roughly


class LoadFixture(Protocol):
    def __call__(
        self, *shares: Share, title: str = "load", deadline: float = 10, percentiles: bool = False
    ) -> Load: ...


@pytest.fixture
def load(system: System, evidence: Evidence) -> LoadFixture:
    """Open-loop load whose history is judged by the invariants and plotted; with `percentiles`, measured too."""

    def make(*shares: Share, title: str = "load", deadline: float = 10, percentiles: bool = False) -> Load:
        load = Load(system.url, shares, deadline)
        evidence.histories.append((title, load.history))
        if percentiles:
            evidence.measured.append((title, load.history))
        return load

    return make


class SteadyFixture(Protocol):
    def __call__(self, title: str, *more: Share, deadline: float = 10) -> AbstractContextManager[History]: ...


@pytest.fixture(scope="session")
def regulars(system: System, people: People) -> Steady:
    return Steady(system.url, people)


def _waiting() -> float:
    """Programs that want to run, for each core, over the last minute."""
    return os.getloadavg()[0] / (os.cpu_count() or 1)


def require_quiet(patience: float = 0) -> None:
    """Skip the test if the machine stays busy for so many seconds."""
    with suppress(NeverHappened):
        until(lambda: _waiting() <= BUSY, patience, "a quiet machine", every=1)
    if _waiting() > BUSY:
        pytest.skip(
            f"{NEEDS_QUIET}: {_waiting():.0f} programs wait for each core, and what is seen would tell of them alone"
        )


@pytest.fixture
def steady(regulars: Steady, evidence: Evidence, full: bool) -> SteadyFixture:
    """The load that every fault happens under: `with steady("MySQL killed") as seen:`."""
    require_quiet(120 if full else 0)

    def under(title: str, *more: Share, deadline: float = 10) -> AbstractContextManager[History]:
        return regulars.running(evidence, title, *more, deadline=deadline)

    return under


@pytest.fixture(scope="session")
def crowd(people: People) -> list[Person]:
    """A dozen people signed in, for load."""
    return [people.signed_in() for _ in range(12)]
