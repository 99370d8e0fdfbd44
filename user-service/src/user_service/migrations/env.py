"""What alembic runs for every command: one connection, one lock on it, then the migrations."""

import asyncio
from typing import Any

from alembic import context
from sqlalchemy import Connection, delete, event, insert, inspect, text

from user_service.database import single_engine
from user_service.migrations import LOCK_NAME, TABLES, LockTaken
from user_service.migrations.models import SchemaFloorRow
from user_service.migrations.online import online
from user_service.migrations.releases import belongs_to_models

# DDL waits no longer than this for running transactions, so that it never queues all others behind it.
METADATA_LOCK_SECONDS = 5


def migrate(connection: Connection) -> None:
    if connection.dialect.name == "mysql":
        lock(connection)
        event.listen(connection, "before_cursor_execute", keep_serving, retval=True)
    context.configure(
        connection=connection,
        target_metadata=TABLES,
        user_module_prefix="",
        compare_type=True,
        compare_server_default=True,
        include_object=belongs_to_models,
        render_as_batch=connection.dialect.name == "sqlite",
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()
    write_floor(connection)
    connection.commit()


def lock(connection: Connection) -> None:
    """Keep other migrators out. The lock lives and dies with this connection, which runs the migrations."""
    seconds = context.config.attributes["lock_seconds"]
    connection.execute(text(f"SET SESSION lock_wait_timeout = {METADATA_LOCK_SECONDS}"))
    taken = connection.execute(text(f"SELECT GET_LOCK({LOCK_NAME}, {seconds})")).scalar()
    connection.commit()
    if taken != 1:
        raise LockTaken


def keep_serving(
    _connection: Connection, _cursor: Any, statement: str, parameters: Any, *_rest: Any
) -> tuple[str, Any]:
    return online(statement), parameters


def write_floor(connection: Connection) -> None:
    """Say in the database which code it still serves, as the newest applied migration declares it."""
    revision = context.get_context().get_current_revision()
    if revision is None or not inspect(connection).has_table(SchemaFloorRow.__tablename__):
        return
    floor = context.script.get_revision(revision).module.oldest_code
    connection.execute(delete(SchemaFloorRow))
    connection.execute(insert(SchemaFloorRow).values(id=1, revision=floor))


async def run() -> None:
    engine = single_engine(context.config.attributes["url"])
    try:
        async with engine.connect() as connection:
            await connection.run_sync(migrate)
    finally:
        await engine.dispose()


asyncio.run(run())
