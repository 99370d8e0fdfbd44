"""`gunicorn -c python:gateway.gunicorn_conf 'gateway.main:serve()'` runs the gateway."""

from contextlib import suppress
from typing import Any

from gateway import main, tcp
from gateway.config import Settings
from gateway.policy.shared_revocations import SharedRevocations
from gateway.routing.route_table import RouteTable
from gateway.routing.routes import RoutesRefused
from gateway.routing.watcher import MasterRouteWatcher, unless_refused
from gateway.server import compatibility
from service_kit.settings import load
from service_kit.worker import gunicorn_options

_settings = load(Settings)
_options = gunicorn_options(_settings, "gateway", "gateway.server.worker.Worker")
main.shared = SharedRevocations()


def _read_routes() -> RouteTable:
    main.known = main.read_routes(_settings, main.known)
    return main.known


def on_starting(server: Any) -> None:
    """The master refuses what no worker could start with, in one line; at each HUP again."""
    try:
        compatibility.check()
        _read_routes()
    except (compatibility.IncompatibleVersion, RoutesRefused) as reason:
        raise SystemExit(f"the gateway cannot start: {reason}") from None
    _options["on_starting"](server)
    folder = _settings.routes_dir
    server.handle_hup = unless_refused(server.handle_hup, _read_routes, folder)
    server.manage_workers = MasterRouteWatcher(folder, _read_routes).before(server.manage_workers)


def pre_fork(_server: Any, _worker: Any) -> None:
    """The workers may have read newer routes than the master."""
    with suppress(RoutesRefused):
        _read_routes()


def when_ready(server: Any) -> None:
    """The connections inherit what their listener is set to."""
    for listener in server.LISTENERS:
        tcp.tune_listener(listener.sock, _settings.vanished_seconds)


globals().update(_options | {"on_starting": on_starting, "pre_fork": pre_fork, "when_ready": when_ready})
