"""Allowances (GCRA): how often, how many at once, and what an answer says about it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Allowance:
    """`burst` at once, one more every `interval` milliseconds."""

    name: str
    key: str
    burst: int
    interval: int

    @property
    def window(self) -> int:
        return max(1, self.burst * self.interval // 1000)


@dataclass(frozen=True, slots=True)
class Verdict:
    """`wait` milliseconds (0: admitted), and the scarcest allowance's state for the RateLimit fields."""

    wait: int
    scarcest: Allowance
    left: int
    reset: int
    in_memory: bool = False

    def headers(self) -> dict[str, str]:
        """draft-ietf-httpapi-ratelimit-headers, and Retry-After once refused."""
        name = self.scarcest.name
        fields = {
            "ratelimit-policy": f'"{name}";q={self.scarcest.burst};w={self.scarcest.window}',
            "ratelimit": f'"{name}";r={max(self.left, 0)};t={-(-self.reset // 1000)}',
        }
        return fields | ({"retry-after": str(-(-self.wait // 1000))} if self.wait else {})
