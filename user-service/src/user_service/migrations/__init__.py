"""Alembic, shipped inside the package and run without the web framework."""

from pathlib import Path
from typing import Final

from alembic.config import Config
from sqlalchemy import MetaData
from sqlalchemy.engine import URL

from user_service.audit import models as _audit
from user_service.avatars import models as _avatars
from user_service.columns import Base
from user_service.events import models as _events
from user_service.mail import models as _mail
from user_service.migrations import models as _migrations
from user_service.users import models as _users

# Naming the modules here is what puts their tables into the metadata.
MODELS: Final = (_audit, _avatars, _events, _mail, _migrations, _users)
TABLES: Final[MetaData] = Base.metadata
# GET_LOCK takes 64 characters, and a database's name alone may have as many.
LOCK_NAME: Final = "CONCAT('user-service:migrations:', LEFT(SHA2(DATABASE(), 256), 32))"


class LockTaken(Exception):
    """Another migrator held the lock for longer than this one waits."""


def alembic_config(url: URL, lock_seconds: int = 60) -> Config:
    """Alembic's configuration without a file, so that nothing reconfigures logging.

    Another migrator's DDL on a large table may take long; readers and writers never wait for its lock.
    """
    config = Config()
    config.set_main_option("file_template", "%%(rev)s")
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["url"] = url
    config.attributes["lock_seconds"] = lock_seconds
    return config
