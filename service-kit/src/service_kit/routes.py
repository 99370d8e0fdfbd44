"""`python -m service_kit.routes publish orders` brings a service's routes to where the gateway reads them.

The gateway reads `ROUTES_DIR/<service>/`: the team's `*.toml`, and beside them what tools alone write: `upstreams.toml`
(where the service is) and `published` (when it first was: who came first keeps a path). Standard library only.
"""

import argparse
import ctypes
import errno
import fcntl
import json
import os
import re
import shutil
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

# Of tools: a team's file of either name is refused, and publishing leaves both as they are.
UPSTREAMS: Final = "upstreams.toml"
STAMP: Final = "published"

_SERVICE: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_ADDRESS: Final = re.compile(r"[A-Za-z0-9._-]{1,253}:[0-9]{1,5}|\[[0-9A-Fa-f:]+\]:[0-9]{1,5}")
_MOST_FILES: Final = 200
_MOST_BYTES: Final = 1024 * 1024
_LOCK_SECONDS: Final = 30.0
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


class Refused(Exception):
    """Nothing was changed; says why in one line."""


def publish(
    service: str, source: Path, routes_dir: Path, addresses: Mapping[str, Sequence[str]] | None = None
) -> bool:
    """Replace the service's files at once, unless they are the same: then False.

    `addresses`, of `stable` and `internal`, replace what `upstreams.toml` says; without them it stays, and is made
    for a host that is named like the service where there is none.
    """
    folder = _folder(service, routes_dir)
    files = _team_files(source)
    with _locked(routes_dir):
        files[UPSTREAMS] = _upstreams(service, folder, addresses)
        files[STAMP] = _kept(folder / STAMP) or f"{_now()}\n".encode()
        if _contents(folder) == files:
            return False
        draft = routes_dir / f".{service}.new"
        _remove(draft)
        draft.mkdir(mode=0o755)
        for name, content in files.items():
            with (draft / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            (draft / name).chmod(0o644)  # whatever the umask: the gateway is another user
        draft.chmod(0o755)
        _replace(draft, folder)
    return True


def withdraw(service: str, routes_dir: Path) -> bool:
    """Take the service's folder away at once; False if there is none."""
    folder = _folder(service, routes_dir)
    with _locked(routes_dir):
        if not folder.exists():
            return False
        gone = routes_dir / f".{service}.new"
        _remove(gone)
        folder.rename(gone)
        _remove(gone)
    return True


def _folder(service: str, routes_dir: Path) -> Path:
    if not _SERVICE.fullmatch(service):
        raise Refused(f"{service!r} is no service's name: lower-case letters, digits and hyphens")
    if not routes_dir.is_dir():
        raise Refused(f"{routes_dir}: there is no such folder (ROUTES_DIR)")
    return routes_dir / service


def _team_files(source: Path) -> dict[str, bytes]:
    """What the team wrote. Whether the gateway can use it is the gateway's to say; half a file is not published."""
    if not source.is_dir():
        raise Refused(f"{source}: there is no such folder of routes")
    files: dict[str, bytes] = {}
    size = 0
    for file in sorted(source.glob("*.toml")):
        if file.name.startswith("."):
            continue  # an editor's
        if file.name == UPSTREAMS:
            raise Refused(f"{file}: tools write {UPSTREAMS}, give this file another name")
        size += file.stat().st_size
        if len(files) == _MOST_FILES or size > _MOST_BYTES:
            raise Refused(f"{source}: more than {_MOST_FILES} files, or than {_MOST_BYTES} bytes in all")
        try:
            content = file.read_bytes()
            tomllib.loads(content.decode())
        except (OSError, ValueError) as error:
            raise Refused(f"{file}: {' '.join(str(error).split())}") from None
        files[file.name] = content
    if not files:
        raise Refused(f"{source}: there is no *.toml in it")
    return files


def _upstreams(service: str, folder: Path, addresses: Mapping[str, Sequence[str]] | None) -> bytes:
    if addresses is None and (kept := _kept(folder / UPSTREAMS)) is not None:
        return kept
    said = {"stable": [f"{service}:8000"], "internal": [f"{service}:9000"], **(addresses or {})}
    for address in (address for several in said.values() for address in several):
        if not _ADDRESS.fullmatch(address):
            raise Refused(f"{address!r} is no address: host:port")
    # A list of plain strings is spelled alike in TOML and JSON.
    return "".join(f"{name} = {json.dumps(several)}\n" for name, several in said.items()).encode()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _kept(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return None


def _contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()} if folder.is_dir() else {}


def _remove(folder: Path) -> None:
    with suppress(FileNotFoundError):
        shutil.rmtree(folder)


def _replace(draft: Path, folder: Path) -> None:
    """Never a moment without the one or the other, where the kernel can exchange two names.

    The former stays under a name that nobody reads, until the next: whoever is listing it would miss files.
    """
    if not folder.exists():
        draft.rename(folder)
    elif not _exchange(draft, folder):
        former = draft.with_suffix(".old")
        _remove(former)
        folder.rename(former)
        draft.rename(folder)


def _exchange(one: Path, other: Path) -> bool:
    """renameat2(2), which Python does not offer."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False  # another system, or an older C library
    if renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    if (number := ctypes.get_errno()) in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        return False  # a file system that cannot
    raise OSError(number, os.strerror(number), str(other))


@contextmanager
def _locked(routes_dir: Path) -> Iterator[None]:
    """One writer at a time: two that publish one service would take each other's draft away."""
    with (routes_dir / ".lock").open("a") as lock:
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Refused(
                        f"{routes_dir}: somebody has been writing for {_LOCK_SECONDS:g} s"
                    ) from None
                time.sleep(0.05)
        yield


def main(arguments: Sequence[str]) -> int:
    """0: done, or so already; 1: refused, in one line; 2: called wrongly."""
    parser = argparse.ArgumentParser(
        prog="python -m service_kit.routes", description=(__doc__ or "").partition("\n")[0]
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("publish", help="put a service's routes where the gateway reads them")
    verb.add_argument(
        "--from", dest="source", type=Path, default=Path("/opt/routes"), help="the team's *.toml"
    )
    verb.add_argument(
        "--stable", action="append", metavar="HOST:PORT", help="where the service is, each address"
    )
    verb.add_argument(
        "--internal", action="append", metavar="HOST:PORT", help="its internal port, each address"
    )
    for one in (verb, verbs.add_parser("withdraw", help="take a service's routes away")):
        one.add_argument("service")
        one.add_argument(
            "--routes-dir", type=Path, default=os.environ.get("ROUTES_DIR") or "/etc/gateway/routes.d"
        )
    asked = parser.parse_args(arguments)
    routes_dir = Path(asked.routes_dir)
    try:
        if asked.verb == "withdraw":
            done = "withdrawn" if withdraw(asked.service, routes_dir) else "has no routes here"
        else:
            if (asked.stable is None) != (asked.internal is None):
                raise Refused("--stable and --internal go together")
            addresses = {"stable": asked.stable, "internal": asked.internal} if asked.stable else None
            changed = publish(asked.service, asked.source, routes_dir, addresses)
            done = "published" if changed else "published already, nothing changed"
    except (Refused, OSError) as refused:
        print(f"routes of {asked.service} refused: {refused}", file=sys.stderr)  # noqa: T201 - a command
        return 1
    print(f"routes of {asked.service}: {done}")  # noqa: T201 - a command
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
