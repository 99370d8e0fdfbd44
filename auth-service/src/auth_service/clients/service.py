"""The registered clients: those of the settings, and those that a command has put into the store, sealed."""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Final

from auth_service.clients.exceptions import ClientFault, ClientForged, InvalidClient
from auth_service.clients.models import FIRST_PARTY, Client, hash_secret, new_secret
from auth_service.config import CLIENT_ID, check_client_id, check_scopes
from auth_service.exceptions import Unavailable
from auth_service.records import RecordForged, Records
from auth_service.store import Script, Store

STORED: Final = "auth:clients"
REPLACE = Script("clients/replace.lua")

logger = logging.getLogger(__name__)


class Clients:
    def __init__(self, store: Store, records: Records, configured: Mapping[str, Client]) -> None:
        self._store = store
        self._records = records
        self._configured = {FIRST_PARTY.id: FIRST_PARTY, **configured}

    async def find(self, client_id: str) -> Client | None:
        """Raises ClientForged if the store's record is none of ours."""
        if client_id in self._configured:
            return self._configured[client_id]
        if not CLIENT_ID.fullmatch(client_id):
            return None
        text = await self._text(client_id)
        return self._read(client_id, text) if text is not None else None

    async def authenticate(self, client_id: str, secret: str | None) -> Client:
        """A public client has no secret to show; a confidential one must show one of its own."""
        client = await self.find(client_id)
        if client is None or (client.public != (secret is None)):
            raise InvalidClient
        if secret is not None and not client.knows(secret):
            raise InvalidClient
        return client

    async def all(self) -> list[Client]:
        known: dict[str, Client] = {}
        for client_id, text in (await self._texts()).items():
            with suppress(ClientForged):
                known[client_id] = self._read(client_id, text)
        return sorted({**known, **self._configured}.values(), key=lambda client: client.id)

    async def register(self, client_id: str, scopes: set[str], audiences: set[str]) -> str:
        """A new client's secret, said once: the store keeps its hash. A record that is none of ours is replaced."""
        try:
            check_client_id(client_id)
            check_scopes(scopes)
        except ValueError as fault:
            raise ClientFault(str(fault)) from None
        if client_id in self._configured:
            raise ClientFault(f"{client_id} is defined by the settings")
        text = await self._text(client_id)
        with suppress(ClientForged):
            if text is not None and self._read(client_id, text):
                raise ClientFault(
                    f"{client_id} exists: remove it first, or give it a second secret with add-secret"
                )
        secret = new_secret()
        await self._write(
            Client(client_id, (hash_secret(secret),), frozenset(scopes), frozenset(audiences)), text
        )
        return secret

    async def add_secret(self, client_id: str) -> str:
        """A second secret, valid beside the first until that is dropped."""
        client, text = await self._stored(client_id)
        if len(client.secret_hashes) > 1:
            raise ClientFault(f"{client_id} has two secrets: drop the older one first")
        secret = new_secret()
        await self._write(replace(client, secret_hashes=(*client.secret_hashes, hash_secret(secret))), text)
        return secret

    async def drop_older_secret(self, client_id: str) -> None:
        client, text = await self._stored(client_id)
        if len(client.secret_hashes) < 2:
            raise ClientFault(f"{client_id} has one secret only: add the new one first")
        await self._write(replace(client, secret_hashes=client.secret_hashes[-1:]), text)

    async def remove(self, client_id: str) -> None:
        async with self._store.connection() as redis:
            if not await redis.hdel(STORED, client_id):
                raise ClientFault(f"{client_id} is not a client of the store")

    async def run(self, every: float = 60.0) -> None:
        """Moves clients under the first key-encryption key, also those that a command still writes under the former."""
        while True:
            try:
                await self.reseal()
            except Unavailable as failure:
                logger.warning("the clients could not be read: %s", failure.code)
            await asyncio.sleep(every)

    async def reseal(self) -> None:
        for client_id, text in (await self._texts()).items():
            with suppress(RecordForged, ClientFault):  # the latter: somebody else was first
                if self._records.open(client_id, text).outdated:
                    await self._write(self._read(client_id, text), text)

    async def _text(self, client_id: str) -> str | None:
        async with self._store.connection() as redis:
            text: str | None = await redis.hget(STORED, client_id)
        return text

    async def _texts(self) -> dict[str, str]:
        async with self._store.connection() as redis:
            texts: dict[str, str] = await redis.hgetall(STORED)
        return texts

    def _read(self, client_id: str, text: str) -> Client:
        try:
            return Client.from_json(client_id, self._records.open(client_id, text).text)
        except RecordForged as forged:
            raise ClientForged from forged

    async def _stored(self, client_id: str) -> tuple[Client, str]:
        text = await self._text(client_id)
        with suppress(ClientForged):
            if text is not None:
                return self._read(client_id, text), text
        raise ClientFault(f"{client_id} is not a client of the store")

    async def _write(self, client: Client, read: str | None) -> None:
        """In place of the record that was read."""
        sealed = self._records.seal(client.id, client.to_json())
        if not await self._store.run(REPLACE, client=client.id, read=read, text=sealed):
            raise ClientFault(f"{client.id} was changed by another command meanwhile")
