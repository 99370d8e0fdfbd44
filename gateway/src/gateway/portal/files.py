"""The files of the gateway's pages: read once, and one copy for however many ask."""

from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Final, NamedTuple

_OURS: Final = "gateway.portal"
_OFFLINE: Final = "fastapi_offline"
_FILES: Final = {
    "docs.css": (_OURS, "text/css"),
    "home.css": (_OURS, "text/css"),
    "start.js": (_OURS, "text/javascript"),
    "favicon.png": (_OFFLINE, "image/png"),
    "swagger-ui.css": (_OFFLINE, "text/css"),
    "swagger-ui-bundle.js": (_OFFLINE, "text/javascript"),
}


class File(NamedTuple):
    content: bytes
    media_type: str
    version: str


@cache
def _read(name: str) -> File:
    package, media_type = _FILES[name]
    content = files(package).joinpath("static", name).read_bytes()
    return File(content, media_type, sha256(content).hexdigest()[:32])


def find(name: str) -> File | None:
    return _read(name) if name in _FILES else None
