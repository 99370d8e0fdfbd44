"""The fixtures of service_kit.testing, and the mark of tests that measure time; loaded by pytest itself."""

import gc
import warnings
from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from service_kit import testing

NEEDS_QUIET = "needs a quiet machine"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "quiet: measures time, so a failure on a machine that is busy with other things is no verdict",
    )
    if config.pluginmanager.hasplugin("hypothesispytest"):
        from hypothesis import HealthCheck, settings  # only some projects have it

        # How long an example takes is the machine's business.
        settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
        settings.load_profile("any machine")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    if item.get_closest_marker("quiet") is None:
        return (yield)
    ran_before, waited_before = _on_cores()
    try:
        return (yield)
    except Exception as failure:
        ran, waited = _on_cores()
        if waited - waited_before <= ran - ran_before:
            raise
        reason = f"{NEEDS_QUIET}: it waited for a core longer than it had one ({failure!r:.200})"
    with warnings.catch_warnings():
        # What the test left open is no fault of the test that runs when it is collected.
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    pytest.skip(reason)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A skip for want of quiet is said, for the run is incomplete then."""
    for report in terminalreporter.getreports("skipped"):
        if isinstance(report.longrepr, tuple) and NEEDS_QUIET in report.longrepr[2]:
            reason = report.longrepr[2].removeprefix("Skipped: ").replace("\n", " ")
            terminalreporter.write_line(f"INCOMPLETE: {report.nodeid} {reason}")


def _on_cores() -> tuple[int, int]:
    """For how long this thread was on a core, and for how long it wanted one and had none; nothing but on Linux."""
    with suppress(OSError):
        ran, waited, _ = map(int, Path("/proc/thread-self/schedstat").read_text().split())
        return ran, waited
    return 0, 0


@pytest.fixture(scope="session")
def issuer() -> testing.TestIssuer:
    """One issuer for the whole run."""
    return testing.TestIssuer()


@pytest.fixture
def redis_server() -> Iterator[testing.RedisServer]:
    """A server of one's own."""
    with testing.redis_server() as server:
        yield server


@pytest.fixture
def free_port() -> int:
    """A port nobody listens on."""
    return testing.free_port()
