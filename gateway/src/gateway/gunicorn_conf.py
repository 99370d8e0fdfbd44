"""`gunicorn -c python:gateway.gunicorn_conf 'gateway.main:serve()'` runs the gateway."""

from gateway.config import Settings
from service_kit.settings import load
from service_kit.worker import gunicorn_options

globals().update(gunicorn_options(load(Settings), "gateway", "gateway.worker.Worker"))
