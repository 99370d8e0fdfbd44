"""What the run needs of the machine, and what it writes down about it."""

import os
import platform
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

PACKAGES = {"nginx": "nginx-light", "haproxy": "haproxy", "wrk": "wrk"}  # program: Debian package
LIBRARIES = ("fastapi", "uvicorn", "httpx", "pyjwt", "cryptography", "gunicorn", "uvloop", "httptools")


class Unfit(Exception):
    """This machine cannot run the suite; the text says what to do."""


def split_cores() -> tuple[frozenset[int], frozenset[int]]:
    """The one core that everything measured runs on, and those of load and upstream."""
    measured, *others = sorted(os.sched_getaffinity(0))
    if not others:
        raise Unfit("two cores are needed: one for what is measured, one for load and upstream")
    return frozenset([measured]), frozenset(others)


def raise_file_limit() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard < 10_000:
        raise Unfit(f"the hard limit of open files is {hard}; 2,000 requests at once need 10,000")


def use_debians_interpreter() -> None:
    """Starts the suite anew under Debian's Python where this is another: everything compared is as Debian builds it.

    Debian compiles it with profile-guided optimisation, as the images' interpreter is. One that pyenv compiled is
    not, and takes half as long again for every request. Also as in the images, libraries are compiled, and none is there
    for development alone: either would be started, and held, by what is measured.
    """
    debians = Path("/usr/bin/python3")
    if sys.base_prefix == "/usr" or "UV" not in os.environ or not debians.exists():
        return
    command = [os.environ["UV"], "run", "--locked", "--no-dev", "--python", str(debians)]
    command += ["python", "-m", "benchmarks"]
    os.chdir(Path(__file__).parents[1])
    environment = {**os.environ, "UV_PROJECT_ENVIRONMENT": ".venv-bench", "UV_COMPILE_BYTECODE": "1"}
    environment.pop("VIRTUAL_ENV", None)  # the other environment's: uv would warn
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    os.execve(command[0], [*command, *sys.argv[1:]], environment)


def install_peers() -> None:
    """The peers from Debian's packages; on a terminal it asks first."""
    missing = [package for program, package in PACKAGES.items() if shutil.which(program) is None]
    if not missing:
        return
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *missing]
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise Unfit(f"not installed, and only root on Debian can: {' '.join(command)}")
    print(f"the peers are Debian packages: {' '.join(command)}", flush=True)
    if sys.stdin.isatty() and input("install them now? [y/N] ").strip().lower() != "y":
        raise Unfit("the peers are not installed")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "--quiet"], check=True, env=environment)
    subprocess.run(command, check=True, env=environment)


def versions() -> dict[str, str]:
    return {
        "python": f"{platform.python_version()} ({sys.base_prefix})",
        **{program: _program_version(program) for program in PACKAGES},
        **{library: version(library) for library in LIBRARIES},
        "gateway": version("gateway"),
        "commit": _first_line(["git", "rev-parse", "--short", "HEAD"]),
    }


def describe() -> dict[str, str | int]:
    cpu = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "cpu": cpu[1] if cpu else platform.machine(),
        "cores": os.cpu_count() or 0,  # the suite itself keeps off the measured one
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30),
        "kernel": platform.release().partition("-")[0],
    }


def _program_version(program: str) -> str:
    found = re.search(r"\d+\.\d+\S*", _first_line([program, "-v"]))
    return found[0] if found else "unknown"


def _first_line(command: Iterable[str]) -> str:
    done = subprocess.run(list(command), capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).partition("\n")[0].strip() or "unknown"
