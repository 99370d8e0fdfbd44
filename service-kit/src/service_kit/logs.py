"""One log line per event, JSON in containers and readable on a terminal, for us, uvicorn and gunicorn alike."""

import fcntl
import json
import logging
import os
import sys
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Final

from starlette.types import Scope

from service_kit.observer import RequestObserver
from service_kit.settings import ServiceSettings
from service_kit.tracing import request_id, trace_id

_JOINED = (
    "uvicorn",
    "uvicorn.error",
    "uvicorn.access",
    "uvicorn.asgi",
    "gunicorn",
    "gunicorn.error",
    "gunicorn.access",
)
_access = logging.getLogger("access")
_PROBES: Final = {"/healthz", "/readyz", "/metrics"}  # asked every few seconds

# What a record has by itself; whatever else it has was given as `extra`.
_PLAIN: Final = frozenset(vars(logging.makeLogRecord({}))) | {
    "message",
    "asctime",
    "taskName",
    "color_message",
}

# What moves a terminal's cursor or begins another line: the control characters of ASCII and Latin-1, U+2028, U+2029.
_CONTROLS: Final = {code: repr(chr(code))[1:-1] for code in (*range(32), *range(127, 160), 0x2028, 0x2029)}


class Finished(str):
    """A message that is whole lines already, each with all its fields: written as it is."""

    __slots__ = ()


class Fields(logging.Formatter):
    """What every line carries, whatever its form."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        return record.msg if isinstance(record.msg, Finished) else self.line(record)

    def line(self, record: logging.LogRecord) -> str:
        """The record in this form."""
        raise NotImplementedError

    def fields(self, record: logging.LogRecord) -> dict[str, object]:
        """The line's members; what was given as `extra` and a traceback are among them, so that they stay with it."""
        members: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "service": self._service,
            "process": record.process,
            "thread": record.threadName,
            "path": f"{_short(record.pathname)}:{record.lineno}",
            "logger": record.name,
            "message": record.getMessage(),
            "request_id": request_id(),
            "trace_id": trace_id(),
        }
        if record.exc_info:
            members["exception"] = self.formatException(record.exc_info)
        return extras(record) | members


class Json(Fields):
    """One JSON object a line: control characters in a value are escaped and cannot forge another line."""

    _encode = json.JSONEncoder(default=str).encode  # json.dumps would make an encoder for each line

    def line(self, record: logging.LogRecord) -> str:
        return self._encode({name: value for name, value in self.fields(record).items() if value is not None})


class Text(Fields):
    """For people at a terminal."""

    def line(self, record: logging.LogRecord) -> str:
        said = self.fields(record)
        more = [f"{name}={value}" for name, value in extras(record).items() if value not in (None, "")]
        line = self.first_line(said, _one_line(" ".join((str(said["message"]), *more))))
        # Indented, since what an exception says may itself have lines that look like ours.
        rest = str(said.get("exception", "")).split("\n") if "exception" in said else []
        return "\n".join((line, *(f"    {_one_line(each)}" for each in rest)))

    def first_line(self, said: dict[str, object], message: str) -> str:
        """All but a traceback."""
        ids = f" request_id={said['request_id']} trace_id={said['trace_id']}" if said["request_id"] else ""
        return (
            f"{said['time']} {said['level']:<7} {said['service']} [{said['process']} {said['thread']}] "
            f"{said['path']} {said['logger']}: {message}{ids}"
        )


class Short(Text):
    """What is needed at a glance: the time, the level unless it is INFO, the message."""

    def first_line(self, said: dict[str, object], message: str) -> str:
        level = "" if said["level"] == "INFO" else f"{said['level']} "
        return f"{str(said['time'])[11:19]} {level}{message}"


_FORMS: Final[dict[str, type[Fields]]] = {"json": Json, "text": Text, "short": Short}


def extras(record: logging.LogRecord) -> dict[str, object]:
    """What was given as `extra`, each under its own name; the line's own members win over one of the same name."""
    given = {name: value for name, value in vars(record).items() if name not in _PLAIN}
    return {name: nameless(value) if isinstance(value, str) else value for name, value in given.items()}


def _one_line(text: str) -> str:
    return text.translate(_CONTROLS).encode("utf-8", "backslashreplace").decode("utf-8")


class SharedRotatingFile(RotatingFileHandler):
    """One file of several workers: whichever finds it full rotates it, the others go on in the new one."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            with Path(f"{self.baseFilename}.lock").open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                self._follow()
                super().emit(record)
        except OSError:
            self.handleError(record)  # a disk that fails must not fail what was logged about

    def _follow(self) -> None:
        if self.stream is not None:
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(self.stream.fileno()), Path(self.baseFilename).stat()):
                    # Behind what the others wrote too: the position is taken for the file's size.
                    self.stream.seek(0, os.SEEK_END)
                    return
            self.stream.close()
        self.stream = self._open()


def configure(settings: ServiceSettings, service: str) -> None:
    """Send every logger's lines to standard output (and a rotating file if one is set). May be called again."""
    form = settings.log_format
    if form == "auto":
        form = "text" if sys.stdout.isatty() else "json"
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stdout)]
    if settings.log_file:
        handlers.append(
            SharedRotatingFile(
                settings.log_file, maxBytes=settings.log_file_bytes, backupCount=settings.log_file_backups
            )
        )
    formatter = _FORMS[form](service)
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    for handler in handlers:
        handler.setFormatter(formatter)
        root.addHandler(handler)
    root.setLevel(settings.log_level)
    for name in _JOINED:
        joined = logging.getLogger(name)
        joined.handlers.clear()
        joined.propagate = True
    logging.captureWarnings(capture=True)
    # Both tell of every request that these libraries make or serve; ours is the one line per request.
    for name in ("httpx", "httpcore", "uvicorn.access"):
        logging.getLogger(name).setLevel(logging.WARNING)


class AccessLogMiddleware(RequestObserver):
    """One line per request, without the query; a probe that succeeds is one for LOG_LEVEL=DEBUG."""

    def record(self, scope: Scope, status: int, seconds: float) -> None:
        level = logging.DEBUG if status < 400 and scope["path"] in _PROBES else logging.INFO
        _access.log(level, "%s %r %d %.4f s", scope["method"], nameless(scope["path"]), status, seconds)


def nameless(path: str) -> str:
    """The path of a request, or any text, as it may be logged: whoever puts an e-mail address into one shall not find
    it there."""
    if "@" not in path and "%40" not in path:
        return path
    return "/".join("(address)" if "@" in part or "%40" in part else part for part in path.split("/"))


@lru_cache(1024)
def _short(path: str) -> str:
    """The file as it is imported: from below the folder of packages that holds it."""
    folders = (folder for folder in sys.path if folder and path.startswith(f"{folder}/"))
    return path.removeprefix(f"{max(folders, key=len, default='')}/")
