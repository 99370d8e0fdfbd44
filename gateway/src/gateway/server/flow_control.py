"""A client's connection as bytes: written to, held back, and closed so that the client gets the last word or knows."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Final, cast

from gateway.clock import Clock

NEVER: Final = float("inf")
_LINGER_SECONDS: Final = 2.0
_NO_LINGER: Final = struct.pack("ii", 1, 0)


class FlowControl(asyncio.Protocol):
    """What every client's connection can do, whatever is spoken on it."""

    write: Callable[[bytes], None]  # the transport's own

    def __init__(self, clock: Clock, unread_seconds: float) -> None:
        self.full = False  # the client does not read what was written
        self.deadline = NEVER  # by the clock; whoever keeps the time calls expire()
        self._clock = clock
        self._unread_seconds = unread_seconds
        self._unread = 0  # bytes that the client had not taken at the last look, once we are closing
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._held = False  # reading is paused
        self._half_closed = False  # the client closed its sending half
        self._closing = False  # the last answer was written: what still comes is discarded

    def wait(self, seconds: float) -> None:
        """Sets the time until which something has to come."""
        self.deadline = self._clock.now + seconds

    def pause_reading(self) -> None:
        """Reads no more from the client for now."""
        if not self._held and not self._transport.is_closing():
            self._held = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._held and not self._transport.is_closing():
            self._held = False
            self._transport.resume_reading()

    def buffer_no_writes(self, at_once: bool) -> None:
        """Whether the client counts as full as soon as anything waits for it."""
        if at_once:
            self._transport.set_write_buffer_limits(high=0)
        else:
            self._transport.set_write_buffer_limits()

    def end(self) -> None:
        """Says that nothing more comes from us; a client that is gone need not hear it."""
        if self._transport.can_write_eof():
            with contextlib.suppress(OSError):
                self._transport.write_eof()

    def abort(self) -> None:
        """Ends the connection without a word."""
        self._abort()

    def _linger(self) -> None:
        """Closes our half and discards what still comes: closing at once could cost the client the answer."""
        if self._closing:
            return
        self._closing = True
        if self._half_closed or not self._transport.can_write_eof():
            self._transport.close()
        else:
            self.end()
            self.resume_reading()
        self._wait_to_be_read()

    def _wait_to_be_read(self) -> None:
        self._unread = self._transport.get_write_buffer_size()
        self.wait(self._unread_seconds if self._unread else _LINGER_SECONDS)

    def _lingered(self) -> None:
        """The moment to close has passed; a client that took something of the answer meanwhile gets another one."""
        if self._transport.get_write_buffer_size() < self._unread:
            self._wait_to_be_read()
        else:
            self._abort()

    def _reset(self) -> None:
        """Where the connection's end is the answer's end, only a reset tells that it broke off."""
        with contextlib.suppress(OSError):
            peer = self._transport.get_extra_info("socket")
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self._abort()

    def _abort(self) -> None:
        self._closing = True
        self._transport.abort()
