"""Where the workers' limits meet: one GCRA a key on redis-limits, settled by one script, never in a request's path."""

import secrets
from collections.abc import Sequence
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

from gateway.rate_limit.leases import Claim, Grant, Settlement, Unreachable
from service_kit.redis_client import connect_once

_SECONDS: Final = 0.2  # less than one period: an answer that comes later is of no use
_WORKERS: Final = "gateway:workers"
_WORKERS_MAX: Final = 1000  # each admits its share

# The key holds GCRA's theoretical arrival time in microseconds, at which the allowance is whole again. The rules are
# service_kit.gcra's, in integers that a double holds exactly. What was spent before it could be asked for is charged
# even if it is too much, but never blocks for longer than a burst; nor does a clock of the server's that was set back.
_SYNC: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local debt, refund, wanted = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local latest = now + burst * interval
local held = redis.pcall('GET', KEYS[1])  -- another type, or no number: somebody else's, and written over
local tat = math.min(math.max(type(held) == 'string' and tonumber(held) or 0, now), latest)
tat = math.max(now, tat - refund * interval)
tat = math.min(tat + debt * interval, math.max(tat, latest))
local granted = math.max(0, math.min(wanted, math.floor((latest - tat) / interval)))
tat = tat + granted * interval
if tat > now then
  redis.call('SET', KEYS[1], string.format('%.0f', tat), 'PX', math.ceil((tat - now) / 1000))
else
  redis.call('DEL', KEYS[1])
end
return {granted, string.format('%.0f', tat - now)}
"""

# Who has not been heard of for two seconds is gone.
_COUNT: Final = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'zset' and kind ~= 'none' then redis.call('DEL', KEYS[1]) end
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - 2)
redis.call('ZREMRANGEBYSCORE', KEYS[1], now + 2, '+inf')
redis.call('EXPIRE', KEYS[1], 5)
return redis.call('ZCARD', KEYS[1])
"""


class RedisLimitStore:
    """The store of leases."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._worker = secrets.token_hex(8)
        self._sync = ""  # the scripts' names at the server, once it has them
        self._count = ""

    async def sync(self, claims: Sequence[Claim]) -> Settlement:
        try:
            if not self._sync:
                self._sync = str(await self._redis.script_load(_SYNC))
                self._count = str(await self._redis.script_load(_COUNT))
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.evalsha(self._count, 1, _WORKERS, self._worker)
            for claim in claims:
                pipeline.evalsha(
                    self._sync,
                    1,
                    f"limit:{claim.key}",
                    *claim[1:],
                )
            workers, *responses = await pipeline.execute()
            return Settlement(
                [Grant(int(granted), int(whole)) for granted, whole in responses],
                min(max(int(workers), 1), _WORKERS_MAX),
            )
        except NoScriptError:
            self._sync = ""  # a new server: it gets them the next time
            raise Unreachable("it was started anew") from None
        except (RedisError, OSError, TimeoutError) as error:
            raise Unreachable(str(error)) from None
        except (TypeError, ValueError):
            raise Unreachable("what it says cannot be read") from None

    async def close(self) -> None:
        await self._redis.aclose()


def connect(url: str, user: str, password: str | None) -> Redis:
    """A client that would rather fail than be late, and is asked again soon enough."""
    return connect_once(
        url, user, password, connect_seconds=_SECONDS, seconds=_SECONDS, decode_responses=True
    )
