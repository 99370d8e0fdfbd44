"""Give the audit's triggers to whoever migrates: the user who serves may make no trigger, nor drop one.

Revision ID: 0004_triggers_of_the_owner
Revises: 0003_append_only_audit
"""

from alembic import op
from sqlalchemy import text

revision = "0004_triggers_of_the_owner"
down_revision = "0003_append_only_audit"
branch_labels = None
depends_on = None
oldest_code = "0001_people"


def upgrade() -> None:
    """A trigger acts with the rights of who made it; made by a user who has lost them, it refuses every change."""
    context = op.get_context()
    if context.dialect.name != "mysql" or context.as_sql:  # to know which, it takes a database
        return
    found = op.get_bind().execute(
        text(
            "SELECT trigger_name, action_timing, event_manipulation, event_object_table, action_statement"
            " FROM information_schema.triggers"
            " WHERE trigger_schema = DATABASE() AND definer <> CURRENT_USER()"
        )
    )
    for name, timing, event, table, statement in found.all():
        op.execute(f"DROP TRIGGER `{name}`")
        op.get_bind().exec_driver_sql(
            f"CREATE TRIGGER `{name}` {timing} {event} ON `{table}` FOR EACH ROW {statement}"
        )


def downgrade() -> None:
    """Whoever downgrades owns them: nothing to give back."""
