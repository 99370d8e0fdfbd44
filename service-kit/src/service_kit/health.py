"""Alive and ready, on the internal bind."""

from collections.abc import Awaitable, Callable, Mapping

from fastapi import APIRouter

# None when well, else the reason in a few words.
Check = Callable[[], Awaitable[str | None]]


def router(checks: Mapping[str, Check], deadline: float = 1.0) -> APIRouter:
    """`/healthz`: the process is alive. `/readyz`: it may get traffic: every check passes within one deadline
    and the worker is not draining."""
    raise NotImplementedError
