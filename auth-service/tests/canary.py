"""Listens to every log line of the whole suite for what must never be in one."""

import logging
import re

from people import People

JWT = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]+")
REFRESH_TOKEN = re.compile(r"[\w-]{22}\.\d+\.\d+\.[\w-]{43}")
ADDRESS = re.compile(r"[^\s@=<]+@(?:[\w-]+\.)+[a-z]+", re.IGNORECASE)
OURS = ("auth_service", "service_kit", "access", "uvicorn")


class Canary(logging.Handler):
    """Keeps the kinds of secrets it heard, not the secrets."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.heard: list[str] = []
        self.lines = 0
        self._format = logging.Formatter("%(message)s")

    def emit(self, record: logging.LogRecord) -> None:
        self.lines += 1
        extras = [
            str(value) for name, value in vars(record).items() if name not in ("args", "msg", "exc_info")
        ]
        text = "\n".join([self._format.format(record), *extras])
        if People.PASSWORD in text:
            self.heard.append(f"a password in a line of {record.name}")
        for kind, pattern in (
            ("an access token", JWT),
            ("a refresh token", REFRESH_TOKEN),
            ("an address", ADDRESS),
        ):
            if pattern.search(text):
                self.heard.append(f"{kind} in a line of {record.name}")

    def listen(self) -> None:
        logging.getLogger().addHandler(self)
        for name in OURS:
            logging.getLogger(name).setLevel(logging.DEBUG)
