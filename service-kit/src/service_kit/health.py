"""Alive and ready, on the internal bind."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

from fastapi import APIRouter
from fastapi.responses import JSONResponse

# None when well, else the reason in a few words.
Check = Callable[[], Awaitable[str | None]]

logger = logging.getLogger(__name__)


class Draining:
    """Whether this worker is about to stop; one per process, set by the gunicorn worker on SIGTERM."""

    def __init__(self) -> None:
        self.begun = False  # the service as a whole is not ready: nobody comes after this worker
        self.leaving = False  # whoever is answered is asked to come to another worker next time


draining = Draining()


class Release:
    """What this process runs; set by the gunicorn master, before it forks."""

    def __init__(self) -> None:
        self.name = ""  # service/version+revision


release = Release()


def router(checks: Mapping[str, Check], deadline: float = 1.0) -> APIRouter:
    """`/healthz`: the process is alive. `/readyz`: it may get traffic: every check passes within one deadline
    and the worker is not draining. It says of which release it is, since a name leads to several during a roll. What
    changes is logged too: whoever probes may show no more than the status."""
    routes = APIRouter()
    running: dict[str, asyncio.Future[str | None]] = {}
    logged: dict[str, str] = {}

    @routes.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "alive"}

    @routes.get("/readyz")
    async def readyz() -> JSONResponse:
        reasons = {"worker": "draining"} if draining.begun else await _reasons(checks, running, deadline)
        if reasons != logged:
            why = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
            logger.info("%s", f"not ready: {why}" if why else "ready")
            logged.clear()
            logged.update(reasons)
        headers = {"X-Release": release.name} if release.name else None
        if not reasons:
            return JSONResponse({"status": "ready"}, headers=headers)
        return JSONResponse(
            {"status": "not ready", "reasons": reasons}, HTTPStatus.SERVICE_UNAVAILABLE, headers
        )

    return routes


async def _reasons(
    checks: Mapping[str, Check], running: dict[str, asyncio.Future[str | None]], deadline: float
) -> dict[str, str]:
    """What is not well. A client's own timeouts do not bound a check, so one outer deadline does; and one that hangs
    on even when it is cancelled is waited for again, not begun again."""
    for name, check in checks.items():
        if name not in running or running[name].done():
            running[name] = asyncio.ensure_future(check())
    asked = dict(running)
    if asked:
        _, late = await asyncio.wait(asked.values(), timeout=deadline)
        for task in late:
            task.cancel()
    return {name: reason for name, task in asked.items() if (reason := _reason(task)) is not None}


def _reason(task: asyncio.Future[str | None]) -> str | None:
    if not task.done() or task.cancelled():
        return "no answer in time"
    error = task.exception()
    return task.result() if error is None else type(error).__name__
