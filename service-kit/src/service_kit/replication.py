"""Proof that a primary was not left behind by a failover, out of the offsets that its replicas acknowledge."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Replication(NamedTuple):
    """A server's answer to `INFO replication`."""

    is_primary: bool
    history: str  # `master_replid`: every promotion and every restart begins another
    offset: int
    acknowledged: int  # the highest offset that an online replica acknowledges; -1 without one
    counts_replicas: bool  # whether `min-replicas-to-write` holds writes back

    @classmethod
    def read(cls, info: Mapping[str, Any]) -> "Replication":
        """From redis-py's dictionary. A member that is missing proves nothing."""
        replicas = [
            value for name, value in info.items() if name.startswith("slave") and isinstance(value, dict)
        ]
        return cls(
            is_primary=info.get("role") == "master",
            history=str(info.get("master_replid", "")),
            offset=int(info.get("master_repl_offset", 0)),
            acknowledged=max(
                (int(each["offset"]) for each in replicas if each.get("state") == "online"), default=-1
            ),
            counts_replicas="min_slaves_good_slaves" in info,
        )


class _Round(NamedTuple):
    began: float
    offset: int


class AcknowledgedOffsets:
    """When a primary's answer was certainly not that of one left behind.

    A round proves nothing by itself: the server may have been left behind before it. But once a replica acknowledges
    more than the server's offset in that round, it was still following after it. With one or two replicas nobody else
    could acknowledge a write without that replica, so the round saw everything acknowledged before its beginning.
    Acknowledgements that waited in the socket of a frozen server prove no more: they are not above its offset.
    """

    def __init__(self) -> None:
        # The oldest unproved round, and the latest: newer ones never postpone the proof of an older one.
        self._waiting: list[_Round] = []

    def note(self, began: float, offset: int) -> None:
        """A round that knew the whole stream; `offset` is the server's, read last."""
        if self._waiting and (len(self._waiting) == 2 or self._waiting[-1].offset == offset):
            self._waiting.pop()
        self._waiting.append(_Round(began, offset))

    def prove(self, acknowledged: int) -> float | None:
        """The beginning of the latest round that an acknowledged offset proves."""
        began = None
        while self._waiting and self._waiting[0].offset < acknowledged:
            began = self._waiting.pop(0).began
        return began

    def clear(self) -> None:
        """Forget the rounds: they were of another history."""
        self._waiting.clear()
