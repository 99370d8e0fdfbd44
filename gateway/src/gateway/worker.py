"""The gunicorn worker that loads our own HTTP protocol into uvicorn."""

from typing import Any, ClassVar

from gateway.edge import Edge
from service_kit.worker import Worker as KitWorker


class Worker(KitWorker):
    """As every service's, but that connections are ours from their first byte."""

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = KitWorker.CONFIG_KWARGS | {"http": Edge}
