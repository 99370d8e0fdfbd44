"""`gunicorn -c python:example_service.gunicorn_conf 'example_service.main:serve()'` runs the service."""

from example_service.config import Settings
from service_kit.settings import load
from service_kit.worker import gunicorn_options

globals().update(gunicorn_options(load(Settings), "example-service"))
