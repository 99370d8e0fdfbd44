"""For tests of services: an issuer, a real Redis server, free ports."""

from service_kit.testing.issuer import TestIssuer
from service_kit.testing.ports import free_port
from service_kit.testing.redis import RedisServer, redis_server

__all__ = ["RedisServer", "TestIssuer", "free_port", "redis_server"]
