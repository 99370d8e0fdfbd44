"""The operator's commands: `python -m auth_service keys …` and `… clients …`."""

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from auth_service import audit
from auth_service.clients.exceptions import ClientFault
from auth_service.clients.models import hash_secret, new_secret
from auth_service.clients.service import Clients
from auth_service.config import Settings
from auth_service.exceptions import Unavailable
from auth_service.keys.exceptions import KeyNotInRing, KeysUnavailable
from auth_service.keys.models import Policy, Ring, TooEarly
from auth_service.keys.service import KeyRing
from auth_service.main import make_clients, make_keys, make_records, make_store
from auth_service.records import Records
from auth_service.store import Store
from service_kit.settings import load


def main() -> None:
    arguments = parser().parse_args()
    try:
        asyncio.run(run(load(Settings), arguments))
    except TooEarly as refusal:
        sys.exit(
            f"refused: verifiers may not know the next key yet. It will be safe at {moment(refusal.safe_at)}."
        )
    except KeyNotInRing as refusal:
        sys.exit(f"refused: no key {refusal} is in the ring.")
    except ClientFault as refusal:
        sys.exit(f"refused: {refusal}.")
    except KeysUnavailable as failure:
        sys.exit(f"failed: the key ring cannot be used: {failure.why}.")
    except Unavailable as failure:
        sys.exit(
            f"failed: {failure.title}. The command may have taken effect: look at `list` before you repeat it."
        )


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(prog="python -m auth_service", description=__doc__)
    areas = root.add_subparsers(required=True, metavar="keys|clients")

    keys = areas.add_parser("keys", help="the signing keys").add_subparsers(required=True, metavar="COMMAND")
    keys.add_parser("list", help="the ring, and when each step is safe").set_defaults(command=list_keys)
    keys.add_parser("rotate", help="let the next key sign from now on").set_defaults(
        command=rotate_keys, audit_event=("keys", "rotated")
    )
    revoke = keys.add_parser("revoke", help="drop a leaked key everywhere, at once: its tokens are refused")
    revoke.add_argument("kid")
    revoke.set_defaults(command=revoke_key, audit_event=("keys", "revoked"))

    clients = areas.add_parser("clients", help="the OAuth clients").add_subparsers(
        required=True, metavar="COMMAND"
    )
    clients.add_parser("list", help="every client").set_defaults(command=list_clients)
    add = clients.add_parser("add", help="register a client and print its secret, once")
    add.add_argument("client_id")
    add.add_argument("--scope", action="append", default=[], help="a scope it may ask for; repeat")
    add.add_argument("--audience", action="append", default=[], help="a service it may ask for; repeat")
    add.set_defaults(command=add_client, audit_event=("clients", "added"))
    for name, command, audit_event, text in (
        ("add-secret", add_secret, "secret_added", "print a second secret, valid beside the first"),
        ("drop-secret", drop_secret, "secret_dropped", "let the older of two secrets go"),
        ("remove", remove_client, "removed", "forget a client"),
    ):
        each = clients.add_parser(name, help=text)
        each.add_argument("client_id")
        each.set_defaults(command=command, audit_event=("clients", audit_event))
    clients.add_parser("new-secret", help="a secret and its hash, for a client in the settings").set_defaults(
        command=print_secret
    )
    return root


async def run(settings: Settings, arguments: argparse.Namespace) -> None:
    store = make_store(settings)
    try:
        async with audited(store, make_records(settings, "command"), arguments):
            await arguments.command(arguments, make_keys(settings, store), make_clients(settings, store))
    finally:
        await store.close()


@asynccontextmanager
async def audited(store: Store, records: Records, arguments: argparse.Namespace) -> AsyncIterator[None]:
    """Leaves an event of what a command has changed, or was refused."""
    options = vars(arguments)
    if "audit_event" not in options:
        yield
        return
    event, done = arguments.audit_event
    about = {"key": options.get("kid", ""), "client": options.get("client_id", "")}
    try:
        yield
    except (TooEarly, KeyNotInRing, ClientFault) as refusal:
        await audit.leave(store, records, event, "refused", refusal.code, **about)
        raise
    await audit.leave(store, records, event, done, "command", **about)


async def list_keys(_: argparse.Namespace, keys: KeyRing, __: Clients) -> None:
    print(table(await keys.load(), keys.policy))


async def rotate_keys(_: argparse.Namespace, keys: KeyRing, __: Clients) -> None:
    print(table(await keys.rotate(), keys.policy))


async def revoke_key(arguments: argparse.Namespace, keys: KeyRing, _: Clients) -> None:
    print(table(await keys.revoke(arguments.kid), keys.policy))


async def list_clients(_: argparse.Namespace, __: KeyRing, clients: Clients) -> None:
    for client in await clients.all():
        kind = "public" if client.public else f"{len(client.secret_hashes)} secret(s)"
        print(
            f"{client.id:24} {kind:12} scopes: {' '.join(sorted(client.scopes)) or '-'}"
            f"  audiences: {' '.join(sorted(client.audiences)) or '-'}"
        )


async def add_client(arguments: argparse.Namespace, _: KeyRing, clients: Clients) -> None:
    print(await clients.register(arguments.client_id, set(arguments.scope), set(arguments.audience)))


async def add_secret(arguments: argparse.Namespace, _: KeyRing, clients: Clients) -> None:
    print(await clients.add_secret(arguments.client_id))


async def drop_secret(arguments: argparse.Namespace, _: KeyRing, clients: Clients) -> None:
    await clients.drop_older_secret(arguments.client_id)


async def remove_client(arguments: argparse.Namespace, _: KeyRing, clients: Clients) -> None:
    await clients.remove(arguments.client_id)


async def print_secret(_: argparse.Namespace, __: KeyRing, ___: Clients) -> None:
    secret = new_secret()
    print(f"secret: {secret}\nhash:   {hash_secret(secret)}")


def table(ring: Ring, policy: Policy) -> str:
    """The ring, one key a line, and what comes next."""
    lines = []
    for key in ring.keys:
        note = {
            "next": f"may sign from {moment(ring.rotation_safe_at(policy))}",
            "current": f"signs; rotation due {moment(ring.rotation_due_at(policy))}",
            "retired": f"leaves the ring {moment(ring.gone_at(key, policy) or 0)}",
        }[key.state]
        lines.append(f"{key.kid}  {key.state:8} published {moment(key.published_at)}  {note}")
    return "\n".join(lines)


def moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
