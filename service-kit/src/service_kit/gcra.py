"""The generic cell rate algorithm (ITU-T I.371) as a virtual schedule: one integer an allowance, its theoretical arrival
time (`tat`).

Times and emission intervals are integers of one unit, of the caller's choice. With floats
`(now + n * interval) - now` rounds by how late it is, and so an allowance had one more or one less. The Lua scripts that
keep an allowance in Redis follow the same rules.
"""


def spend(tat: int, now: int, cost: int) -> int:
    """The theoretical arrival time once this is admitted; the caller keeps it unless it is later than `latest`. A
    request costs one emission interval."""
    return (tat if tat > now else now) + cost


def refund(tat: int, now: int, cost: int) -> int:
    """The theoretical arrival time once this counts as not spent."""
    return max(now, tat - cost)


def latest(now: int, emission_interval: int, burst: int) -> int:
    """The latest theoretical arrival time that is admitted now: `burst` at once, and one more each emission interval."""
    return now + burst * emission_interval


def wait(tat: int, now: int, emission_interval: int, burst: int) -> int:
    """How long until what would lead to this theoretical arrival time may be admitted."""
    return max(0, tat - latest(now, emission_interval, burst))


def remaining(tat: int, now: int, emission_interval: int, burst: int) -> int:
    """How many more may be admitted now; negative for one that may not."""
    return burst - -((now - tat) // emission_interval)
