"""`gunicorn -c python:user_service.gunicorn_conf 'user_service.main:serve()'` runs the service."""

from service_kit.settings import load
from service_kit.worker import gunicorn_options
from user_service.config import Settings

globals().update(gunicorn_options(load(Settings), "user-service"))
