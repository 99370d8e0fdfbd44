"""The parts list: what the service is made of, and how the parts are put together."""

from typing import Final

from fastapi import FastAPI
from starlette.types import ASGIApp

from example_service import __version__
from example_service.config import Settings
from example_service.items import router as items
from service_kit import application, logs
from service_kit.authenticator import Authenticator
from service_kit.settings import load

NAME: Final = "example-service"
TITLE: Final = "Example service"
ROUTERS: Final = (items.router,)


def create_app(settings: Settings, authenticator: Authenticator) -> ASGIApp:
    """The service on its two ports."""
    internal = application.internal_api(TITLE, __version__, {"tokens": authenticator.check})
    return application.serve_both(public_api(), internal, settings, authenticator)


def public_api() -> FastAPI:
    """What the gateway may forward to; its OpenAPI document is the service's contract."""
    return application.public_api(TITLE, __version__, ROUTERS)


def serve() -> ASGIApp:
    """What gunicorn calls in each worker."""
    settings = load(Settings)
    logs.configure(settings, NAME)
    return create_app(settings, Authenticator(settings, NAME))
