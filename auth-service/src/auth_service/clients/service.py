"""The registered clients: those of the settings, and those that a command has put into the store."""

from collections.abc import Mapping
from dataclasses import replace

from auth_service.clients.exceptions import ClientFault, InvalidClient
from auth_service.clients.models import FIRST_PARTY, Client, hash_secret, new_secret
from auth_service.config import CLIENT_ID, check_client_id, check_scopes
from auth_service.store import Store

STORED = "auth:clients"


class Clients:
    def __init__(self, store: Store, configured: Mapping[str, Client]) -> None:
        self._store = store
        self._configured = {FIRST_PARTY.id: FIRST_PARTY, **configured}

    async def find(self, client_id: str) -> Client | None:
        if client_id in self._configured:
            return self._configured[client_id]
        if not CLIENT_ID.fullmatch(client_id):
            return None
        async with self._store.answering() as redis:
            text = await redis.hget(STORED, client_id)
        return Client.from_json(client_id, text) if text else None

    async def authenticate(self, client_id: str, secret: str | None) -> Client:
        """A public client has no secret to show; a confidential one must show one of its own."""
        client = await self.find(client_id)
        if client is None or (client.public != (secret is None)):
            raise InvalidClient
        if secret is not None and not client.knows(secret):
            raise InvalidClient
        return client

    async def all(self) -> list[Client]:
        async with self._store.answering() as redis:
            stored = await redis.hgetall(STORED)
        known = {client_id: Client.from_json(client_id, text) for client_id, text in stored.items()}
        return sorted({**known, **self._configured}.values(), key=lambda client: client.id)

    async def register(self, client_id: str, scopes: set[str], audiences: set[str]) -> str:
        """A new client's secret, said once: the store keeps its hash."""
        try:
            check_client_id(client_id)
            check_scopes(scopes)
        except ValueError as fault:
            raise ClientFault(str(fault)) from None
        if client_id in self._configured:
            raise ClientFault(f"{client_id} is defined by the settings")
        secret = new_secret()
        client = Client(client_id, (hash_secret(secret),), frozenset(scopes), frozenset(audiences))
        async with self._store.answering() as redis:
            if not await redis.hsetnx(STORED, client_id, client.to_json()):
                raise ClientFault(f"{client_id} exists")
        return secret

    async def add_secret(self, client_id: str) -> str:
        """A second secret, valid beside the first until that is dropped."""
        client = await self._stored(client_id)
        if len(client.secret_hashes) > 1:
            raise ClientFault(f"{client_id} has two secrets: drop the older one first")
        secret = new_secret()
        await self._save(replace(client, secret_hashes=(*client.secret_hashes, hash_secret(secret))))
        return secret

    async def drop_older_secret(self, client_id: str) -> None:
        client = await self._stored(client_id)
        if len(client.secret_hashes) < 2:
            raise ClientFault(f"{client_id} has one secret only: add the new one first")
        await self._save(replace(client, secret_hashes=client.secret_hashes[-1:]))

    async def remove(self, client_id: str) -> None:
        await self._stored(client_id)
        async with self._store.answering() as redis:
            await redis.hdel(STORED, client_id)

    async def _stored(self, client_id: str) -> Client:
        client = await self.find(client_id)
        if client is None or client_id in self._configured:
            raise ClientFault(f"{client_id} is not a client of the store")
        return client

    async def _save(self, client: Client) -> None:
        async with self._store.answering() as redis:
            await redis.hset(STORED, client.id, client.to_json())
