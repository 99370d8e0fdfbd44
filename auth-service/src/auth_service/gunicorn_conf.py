"""`gunicorn -c python:auth_service.gunicorn_conf 'auth_service.main:serve()'` runs the service."""

from auth_service.config import Settings
from service_kit.settings import load
from service_kit.worker import gunicorn_options

globals().update(gunicorn_options(load(Settings), "auth-service"))
