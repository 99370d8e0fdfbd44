"""The gunicorn worker: uvicorn with our limits, which drains before it stops."""

from typing import Any

from uvicorn_worker import UvicornWorker

from service_kit.settings import ServiceSettings


class Worker(UvicornWorker):
    """Subclass it and override `http` to load another HTTP protocol class."""


def gunicorn_options(
    settings: ServiceSettings, service: str = "service", worker_class: str = "service_kit.worker.Worker"
) -> dict[str, Any]:
    """What a service's gunicorn_conf.py puts into its globals: `globals().update(gunicorn_options(settings, "x"))`."""
    raise NotImplementedError
