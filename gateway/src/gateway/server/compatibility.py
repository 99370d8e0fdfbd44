"""Holds uvicorn, its worker and httptools to what the server relies on, before anything is served."""

import inspect
from importlib.metadata import requires, version
from typing import Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState
from uvicorn_worker import UvicornWorker

_TOGETHER: Final = ("uvicorn", "uvicorn-worker", "httptools")
_CONSTRUCTOR: Final = ["config", "server_state", "app_state", "_loop"]
_STATE: Final = ("connections", "tasks", "default_headers", "total_requests")
_PARSER: Final = ("feed_data", "should_keep_alive", "should_upgrade")


class IncompatibleVersion(Exception):
    """What is installed is not what the gateway was written for."""


def check() -> None:
    """Refuses what would otherwise show as odd answers under load."""
    pinned = _pins()
    for name in _TOGETHER:
        if version(name) != pinned.get(name):
            raise IncompatibleVersion(
                f"{name} {version(name)} is installed, and the gateway was written for {pinned.get(name)}"
            )
    constructor = list(inspect.signature(HttpToolsProtocol).parameters)
    if constructor != _CONSTRUCTOR:
        raise IncompatibleVersion(
            f"uvicorn makes its HTTP protocols from {constructor}, not from {_CONSTRUCTOR}"
        )
    for owner, names in (
        (ServerState(), _STATE),
        (httptools.HttpRequestParser, _PARSER),
        (UvicornWorker, ("CONFIG_KWARGS", "_serve")),
    ):
        missing = [name for name in names if not hasattr(owner, name)]
        if missing:
            raise IncompatibleVersion(f"{owner!r} has no {', '.join(missing)}")


def _pins() -> dict[str, str]:
    """The exact versions of pyproject.toml, as the installed package says them."""
    found = (requirement.partition(";")[0].partition("==") for requirement in requires("gateway") or ())
    return {name.partition("[")[0].strip(): pin.strip() for name, _, pin in found if pin}
