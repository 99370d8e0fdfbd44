"""A service of its own for every test: SQLite by default, MySQL where the test asks for it."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest
from argon2 import PasswordHasher
from service_kit.testing import TestIssuer
from service_kit.tokens import Caller
from sqlalchemy import text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import create_async_engine

from user_service.credentials.passwords import Passwords
from user_service.database import Database, create_engine
from user_service.migrations.__main__ import upgrade

PASSWORD = "correct horse battery staple"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Whatever touches the database runs on SQLite, and with `-m containers` on MySQL too."""
    if "database_url" in metafunc.fixturenames:
        metafunc.parametrize(
            "database_kind", ["sqlite", pytest.param("mysql", marks=pytest.mark.containers)], scope="function"
        )
