"""Commands for operators: `python -m user_service.cli admin EMAIL`."""

import argparse
import asyncio
import sys

from sqlalchemy.ext.asyncio import AsyncConnection

from service_kit.problems import Problem
from service_kit.settings import load
from user_service.audit.models import Origin
from user_service.config import DatabaseSettings
from user_service.database import Database, create_engine
from user_service.users import repository
from user_service.users.changes import write
from user_service.users.email import InvalidEmail, parse_email
from user_service.users.exceptions import UserNotFound
from user_service.users.models import ADMIN

BY_COMMAND = Origin("command")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m user_service.cli", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    admin = verbs.add_parser("admin", help="make a registered person an administrator")
    admin.add_argument("email")
    chosen = parser.parse_args(arguments)
    try:
        print(asyncio.run(make_admin(chosen.email)))
    except InvalidEmail as error:
        return _refuse(str(error))
    except Problem as problem:
        return _refuse(f"{problem.title} ({problem.code})")
    return 0


async def make_admin(email: str) -> str:
    """Grant the role; what was done, in one line."""
    key = parse_email(email).key
    settings = load(DatabaseSettings)
    database = Database(create_engine(settings.url(), pool_size=1))

    async def work(connection: AsyncConnection) -> str:
        found = await repository.find_by_email_key(connection, key)
        if found is None:
            raise UserNotFound
        before = await repository.lock(connection, found.id)
        if ADMIN in before.roles:
            return f"{before.id} is an administrator already"
        after = before.with_roles(tuple(sorted({*before.roles, ADMIN})))
        await write(connection, BY_COMMAND, before, after, "user.roles_changed", granted=[ADMIN], taken=[])
        return f"{before.id} is an administrator now"

    try:
        return await database.transaction(work)
    finally:
        await database.close()


def _refuse(why: str) -> int:
    print(f"user-service: {why}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
