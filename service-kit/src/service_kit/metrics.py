"""Prometheus metrics that add up across the workers of one service."""

from fastapi import APIRouter
from starlette.types import ASGIApp, Receive, Scope, Send


def router() -> APIRouter:
    """`/metrics`, all workers added up."""
    raise NotImplementedError


class RequestMetrics:
    """Pure ASGI: duration of each request by route template, method and status."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise NotImplementedError
