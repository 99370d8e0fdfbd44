"""Which code the present schema still serves: what lets an old binary start on a newer database."""

from sqlalchemy import SmallInteger, String
from sqlalchemy.orm import Mapped, mapped_column

from user_service.columns import MYSQL, Base


class SchemaFloorRow(Base):
    """One row: the newest revision that the oldest working code has to know."""

    __tablename__ = "schema_floor"
    __table_args__ = MYSQL

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    revision: Mapped[str] = mapped_column(String(32))
