"""`gunicorn -c python:gateway.gunicorn_conf 'gateway.main:serve()'` runs the gateway."""

from functools import partial
from typing import Any

from gateway import foundation
from gateway.config import Settings
from gateway.main import read_routes
from gateway.reload import unless_refused
from gateway.routes import RoutesRefused
from service_kit.settings import load
from service_kit.worker import gunicorn_options

_settings = load(Settings)
_options = gunicorn_options(_settings, "gateway", "gateway.worker.Worker")


def on_starting(server: Any) -> None:
    """The master refuses what no worker could start with, in one line; at each HUP again."""
    try:
        foundation.check()
        read_routes(_settings)
    except (foundation.Unfit, RoutesRefused) as reason:
        raise SystemExit(f"the gateway cannot start: {reason}") from None
    _options["on_starting"](server)
    server.handle_hup = unless_refused(
        server.handle_hup, partial(read_routes, _settings), _settings.routes_dir
    )


globals().update(_options | {"on_starting": on_starting})
