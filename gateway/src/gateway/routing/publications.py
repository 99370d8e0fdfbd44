"""What each service has published in its folder of ROUTES_DIR: read for itself, so that a fault is its own."""

import logging
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, ValidationError, model_validator

from gateway.routing.endpoints import INTERNAL_PORT, PUBLIC_PORT, Endpoints, parse_address
from gateway.routing.files import FILE_BYTES_MAX, Defaults, load_file, read_bytes, read_toml
from gateway.routing.routes import OWN, Many, Route, Routes, RoutesRefused, Strict

_log = logging.getLogger("gateway.routes")
UPSTREAMS_FILE: Final = "upstreams.toml"
_STAMP_FILE: Final = "published"
_STAMP_BYTES_MAX: Final = 64
_SERVICES_MAX: Final = 500
_FILES_MAX: Final = 200
_ROUTES_MAX: Final = 2000
_ADDRESSES_MAX: Final = 64
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")

Fingerprint = tuple[tuple[str, int, int, int, int], ...]


class UpstreamsEntry(Strict):
    """upstreams.toml, which tools alone write: host:port of each bind, in the same order."""

    stable: Annotated[Many[str], Field(max_length=_ADDRESSES_MAX)] = ()
    internal: Annotated[Many[str], Field(max_length=_ADDRESSES_MAX)] = ()

    @model_validator(mode="after")
    def _paired(self) -> "UpstreamsEntry":
        if self.internal and len(self.internal) != max(1, len(self.stable)):
            raise ValueError("internal lists one address for each of stable")
        return self


@dataclass(frozen=True, slots=True, eq=False)
class Publication:
    """One state of a service's folder. What cannot be used, routes or endpoints, is None, for the reason `fault`."""

    service: str
    fingerprint: Fingerprint
    since: datetime | None = None  # when it was published first
    routes: tuple[Route, ...] | None = None
    endpoints: Endpoints | None = None
    fault: str = ""


def fingerprints(folder: Path) -> dict[str, Fingerprint]:
    """What tells one state of each service's files from another. A name that begins with a dot is still being written."""
    try:
        places = sorted(place for place in folder.iterdir() if _is_published(place.name))
        found = {place.name: _fingerprint(place) for place in places[: _SERVICES_MAX + 1]}
    except OSError as error:
        raise RoutesRefused(f"{error.filename}: {error.strerror} (ROUTES_DIR)") from None
    if len(places) > _SERVICES_MAX:
        raise RoutesRefused(f"{folder}: more than {_SERVICES_MAX} services")
    return {name: fingerprint for name, fingerprint in found.items() if fingerprint}


def _is_published(name: str) -> bool:
    """Whether a name is meant for us; one that no log, metric or page can show is nobody's."""
    return name.isprintable() and not name.startswith(".")


def _fingerprint(place: Path) -> Fingerprint:
    """Empty for what holds no file that the gateway reads."""
    if place.is_dir():
        return tuple(filter(None, map(_state_of, _files(place))))
    return tuple(filter(None, [_state_of(place)])) if place.suffix == ".toml" else ()


def _files(folder: Path) -> list[Path]:
    try:
        files = sorted(folder.iterdir())
    except FileNotFoundError:
        return []  # gone since its name was read
    except OSError:
        return [folder]  # reading it says why
    return list(
        islice((file for file in files if file.name == _STAMP_FILE or _is_toml(file)), _FILES_MAX + 2)
    )


def _is_toml(file: Path) -> bool:
    return file.suffix == ".toml" and not file.name.startswith(".")


def _state_of(file: Path) -> tuple[str, int, int, int, int] | None:
    try:
        stat = file.stat()
    except FileNotFoundError:
        return None
    except OSError:
        return file.name, 0, 0, 0, 0  # reading it says why
    return file.name, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size


def read_publication(place: Path, fingerprint: Fingerprint, defaults: Defaults) -> Publication:
    """The state that the service's folder has now."""
    since = _read_stamp(place / _STAMP_FILE)
    routes, endpoints, fault = None, None, ""
    try:
        endpoints = _read_endpoints(place)
    except RoutesRefused as refused:
        fault = str(refused)
    try:
        routes = _read_routes(place, defaults)
    except RoutesRefused as refused:
        fault = str(refused)
    except Exception as error:  # noqa: BLE001 - one team cannot stop the others
        _log.exception("the routes of %s cannot be read", place.name)
        fault = f"{place}: {error!r}"
    return Publication(place.name, fingerprint, since, routes, endpoints, fault)


def _read_routes(place: Path, defaults: Defaults) -> tuple[Route, ...]:
    if not place.is_dir():
        raise RoutesRefused(f"{place}: a routes file lies in a folder that is named like its service")
    if not _NAME.fullmatch(place.name) or place.name == OWN:
        raise RoutesRefused(f"{str(place)!r}: no service can have this name")
    try:
        files = sorted(file for file in place.iterdir() if _is_toml(file) and file.name != UPSTREAMS_FILE)
        size = sum(file.stat().st_size for file in files if file.is_file())
    except OSError as error:
        raise RoutesRefused(f"{place}: {error.strerror}") from None
    if len(files) > _FILES_MAX:
        raise RoutesRefused(f"{place}: more than {_FILES_MAX} files of routes")
    if size > FILE_BYTES_MAX:
        raise RoutesRefused(f"{place}: more than {FILE_BYTES_MAX} bytes of routes")
    found = (route for file in files for route in load_file(file, defaults))
    routes = tuple(islice(found, _ROUTES_MAX + 1))
    if len(routes) > _ROUTES_MAX:
        raise RoutesRefused(f"{place}: more than {_ROUTES_MAX} routes")
    Routes(routes)  # refuses those that overlap among themselves
    return routes


def _read_endpoints(place: Path) -> Endpoints:
    """What tools wrote of where the service is; without it at the host that is named like it."""
    file = place / UPSTREAMS_FILE
    try:
        said = UpstreamsEntry.model_validate(read_toml(read_bytes(file, FILE_BYTES_MAX).decode()))
        public = [parse_address(one, PUBLIC_PORT) for one in said.stable or (place.name,)]
        return Endpoints.of(public, [parse_address(one, INTERNAL_PORT) for one in said.internal])
    except (FileNotFoundError, NotADirectoryError):
        return Endpoints.of([(place.name, PUBLIC_PORT)])
    except OSError as error:
        raise RoutesRefused(f"{file}: {error.strerror}") from None
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        raise RoutesRefused(f"{file}: {where}: {fault['msg']}".replace(": : ", ": ")) from None
    except (ValueError, RecursionError) as error:
        raise RoutesRefused(f"{file}: {error}") from None


def _read_stamp(file: Path) -> datetime | None:
    """RFC 3339 on one line. It decides an order and nothing else: who has none comes after those who have one."""
    try:
        stamp = datetime.fromisoformat(read_bytes(file, _STAMP_BYTES_MAX).decode("ascii").strip())
        return stamp.astimezone(UTC) if stamp.tzinfo is not None else None
    except (OSError, ValueError, OverflowError):
        return None
