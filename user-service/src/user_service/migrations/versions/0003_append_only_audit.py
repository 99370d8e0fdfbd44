"""Let the database itself refuse to delete or rewrite the audit; a person in it can still become nobody.

Revision ID: 0003_append_only_audit
Revises: 0002_mails_avatars
"""

import logging

from alembic import op
from sqlalchemy.exc import OperationalError

revision = "0003_append_only_audit"
down_revision = "0002_mails_avatars"
branch_labels = None
depends_on = None
oldest_code = "0001_people"

log = logging.getLogger(__name__)

# MySQL's number for: this user may make no trigger while the binary log is on.
TRIGGERS_NOT_ALLOWED = 1419

REFUSAL = "the audit is append-only"
REWRITTEN = (
    "NEW.id <> OLD.id OR NEW.action <> OLD.action OR NEW.details <> OLD.details OR NEW.at <> OLD.at"
    " OR COALESCE(NEW.request_id, '') <> COALESCE(OLD.request_id, '')"
    " OR COALESCE(NEW.address, OLD.address, '') <> COALESCE(OLD.address, '')"
)
MYSQL = (
    "CREATE TRIGGER IF NOT EXISTS audit_keeps_rows BEFORE DELETE ON audit FOR EACH ROW"
    f" SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = '{REFUSAL}'",
    "CREATE TRIGGER IF NOT EXISTS audit_keeps_facts BEFORE UPDATE ON audit FOR EACH ROW"  # noqa: S608 - constants alone
    f" IF {REWRITTEN} THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = '{REFUSAL}'; END IF",
)
SQLITE = (
    f"CREATE TRIGGER IF NOT EXISTS audit_keeps_rows BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END",
    f"CREATE TRIGGER IF NOT EXISTS audit_keeps_facts BEFORE UPDATE ON audit WHEN {REWRITTEN}"
    f" BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END",
)


def upgrade() -> None:
    for statement in MYSQL if op.get_context().dialect.name == "mysql" else SQLITE:
        try:
            op.execute(statement)
        except OperationalError as error:
            if error.orig is None or error.orig.args[0] != TRIGGERS_NOT_ALLOWED:
                raise
            log.warning(
                "the audit is append-only by the code alone: this MySQL lets its user make no trigger; "
                "with log_bin_trust_function_creators = 1, downgrade to 0002_mails_avatars and upgrade again"
            )
            return


def downgrade() -> None:
    op.execute("DROP TRIGGER IF EXISTS audit_keeps_rows")
    op.execute("DROP TRIGGER IF EXISTS audit_keeps_facts")
