"""The user factory: people nobody else has met, each at an address of their own."""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Callable
from typing import TypeVar

import httpx

from .api import Api, Person, Refused, checked

T = TypeVar("T")
PASSWORD_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"


class People:
    """Makes people on one system; two factories (parallel workers, two runs) never make the same one."""

    def __init__(self, url: str, *, in_turn: bool = False) -> None:
        self.url = url
        self._in_turn = in_turn
        self._run = secrets.token_hex(5)
        self._number = itertools.count()
        self._offset = secrets.randbelow(1 << 24)
        self._apis: dict[str, Api] = {}

    def address(self) -> str:
        """A private address not used before, in a prefix of its own, so that no limit is shared."""
        number = (self._offset + next(self._number)) % (1 << 16)
        return f"10.{number >> 8}.{number & 255}.{1 + self._offset % 250}"

    def stranger(self) -> Person:
        """Somebody who has not registered."""
        number = next(self._number)
        password = "".join(secrets.choice(PASSWORD_ALPHABET) for _ in range(20))
        email = f"e2e-{self._run}-{number}@people.example"
        return Person("", email, f"Person {number}", password, self.address())

    def registered(self) -> Person:
        person = self.stranger()
        self.register(person)
        return person

    def register(self, person: Person) -> None:
        api = self.api(person)
        key = secrets.token_hex(16)
        made = self.patiently(lambda: api.register(person.email, person.name, person.password, key))
        person.id = made["id"]

    def signed_in(self) -> Person:
        person = self.registered()
        self.sign_in(person)
        return person

    def sign_in(self, person: Person) -> None:
        api = self.api(person)
        person.tokens = self.patiently(lambda: api.sign_in(person.email, person.password))

    def promote(self, admin: Person, person: Person) -> None:
        """Give the role admin, by the hand of somebody who has it; the person's tokens of before end."""
        http, path = self.api(admin).http, f"/v1/users/{person.id}"
        etag = checked(http.get(path, headers=admin.tokens.bearer)).headers["etag"]
        headers = {**admin.tokens.bearer, "If-Match": etag}
        checked(http.put(f"{path}/roles", headers=headers, json={"roles": ["admin"]}))

    def api(self, person: Person) -> Api:
        """The person's own client."""
        if person.address not in self._apis:
            self._apis[person.address] = Api(self.url, person.address, in_turn=self._in_turn)
        return self._apis[person.address]

    def close(self) -> None:
        for api in self._apis.values():
            api.close()

    def patiently(self, ask: Callable[[], T]) -> T:
        """A system may be busy, or limit us when it does not believe our addresses: its Retry-After is kept to."""
        patience = time.monotonic() + 90
        while True:
            try:
                return ask()
            except httpx.TimeoutException:
                if time.monotonic() > patience:
                    raise
            except Refused as refused:
                told = refused.response.headers.get("retry-after")
                wait = float(told or 1)
                busy = told or refused.status in (429, 502, 503, 504)
                if not busy or time.monotonic() + wait > patience:
                    raise
                time.sleep(wait)
