"""For tests of services: an issuer, a real Redis server, free ports."""

from service_kit.testing.issuer import TestIssuer
from service_kit.testing.network import Host, Network, network
from service_kit.testing.ports import free_port
from service_kit.testing.redis import RedisServer, redis_server

__all__ = ["Host", "Network", "RedisServer", "TestIssuer", "free_port", "network", "redis_server"]
