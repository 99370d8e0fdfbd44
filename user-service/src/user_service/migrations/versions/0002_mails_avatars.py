"""Mails that wait, links that were mailed, changes of address, and pictures.

Revision ID: 0002_mails_avatars
Revises: 0001_people
"""

import sqlalchemy as sa
from alembic import op

from user_service.columns import MYSQL, Digest, Id, Moment, Serial

revision = "0002_mails_avatars"
down_revision = "0001_people"
branch_labels = None
depends_on = None
oldest_code = "0001_people"


def upgrade() -> None:
    op.create_table(
        "mail_outbox",
        sa.Column("id", Serial, autoincrement=True, nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("user_id", Id(), nullable=True),
        sa.Column("email", sa.String(length=320), nullable=True),
        sa.Column("email_key", sa.String(length=320), nullable=True),
        sa.Column("sessions_cv", sa.Integer(), nullable=True),
        sa.Column("data", sa.JSON(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("next_attempt_at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_mail_outbox")),
        **MYSQL,
    )
    op.create_index(op.f("ix_mail_outbox_next_attempt_at"), "mail_outbox", ["next_attempt_at"])
    op.create_index(op.f("ix_mail_outbox_user_id"), "mail_outbox", ["user_id"])

    op.create_table(
        "mailed_links",
        sa.Column("digest", Digest(), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("user_id", Id(), nullable=True),
        sa.Column("email", sa.String(length=320), nullable=False),
        sa.Column("email_key", sa.String(length=320), nullable=False),
        sa.Column("sessions_cv", sa.Integer(), nullable=True),
        sa.Column("data", sa.JSON(), nullable=True),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("expires_at", Moment(), nullable=False),
        sa.Column("used_at", Moment(), nullable=True),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_mailed_links")),
        **MYSQL,
    )
    op.create_index(op.f("ix_mailed_links_email_key_created_at"), "mailed_links", ["email_key", "created_at"])
    op.create_index(op.f("ix_mailed_links_expires_at"), "mailed_links", ["expires_at"])
    op.create_index(op.f("ix_mailed_links_user_id"), "mailed_links", ["user_id"])

    op.create_table(
        "address_changes",
        sa.Column("id", Serial, autoincrement=True, nullable=False),
        sa.Column("user_id", Id(), nullable=False),
        sa.Column("old_email", sa.String(length=320), nullable=False),
        sa.Column("old_email_key", sa.String(length=320), nullable=False),
        sa.Column("changed_at", Moment(), nullable=False),
        sa.Column("undo_until", Moment(), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_address_changes_user_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_address_changes")),
        **MYSQL,
    )
    op.create_index(op.f("ix_address_changes_old_email_key"), "address_changes", ["old_email_key"])
    op.create_index(op.f("ix_address_changes_user_id_id"), "address_changes", ["user_id", "id"])

    op.create_table(
        "avatars",
        sa.Column("user_id", Id(), nullable=False),
        sa.Column("name", sa.String(length=96), nullable=False),
        sa.Column("etag", sa.String(length=64), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("updated_at", Moment(), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_avatars_user_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_avatars")),
        **MYSQL,
    )


def downgrade() -> None:
    op.drop_table("avatars")
    op.drop_table("address_changes")
    op.drop_table("mailed_links")
    op.drop_table("mail_outbox")
