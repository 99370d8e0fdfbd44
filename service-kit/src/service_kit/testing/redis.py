"""A real Redis (or Valkey) server as a child process."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class RedisServer:
    """A running server; `url` has no credentials."""

    url: str
    port: int

    def restart(self) -> None:
        """Stop and start again on the same port with the same data."""
        raise NotImplementedError

    def pause(self) -> None:
        """SIGSTOP."""
        raise NotImplementedError

    def resume(self) -> None:
        """SIGCONT."""
        raise NotImplementedError

    def stop(self) -> None:
        """End the process; data written to the append-only file stays."""
        raise NotImplementedError

    def start(self) -> None:
        """Start it (again) and wait until it answers."""
        raise NotImplementedError


@contextmanager
def redis_server(*, appendonly: bool = False, acl: Sequence[str] = ()) -> Iterator[RedisServer]:
    """Start a server, yield it, stop it. `acl`: lines of an ACL file (`user follower on >secret …`)."""
    raise NotImplementedError
    yield
