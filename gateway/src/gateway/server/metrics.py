"""What a worker counted, as Prometheus metrics; folded when somebody asks, all workers added up."""

import json
import logging
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from typing import Any, Final, NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.routing.watcher import RouteWatcher
from gateway.server.access_log import BUCKETS
from gateway.server.worker_state import WorkerState
from service_kit.authenticator import Authenticator

_log = logging.getLogger("gateway.metrics")
KEEP_SECONDS: Final = 1.0
_DURATION: Final = "gateway_request_duration_seconds"
_COUNTERS: Final = {
    "gateway_refusals": ("Requests that the gateway answered itself with a problem.", ("code",)),
    "gateway_token_memo_hits": ("Tokens that were known from an earlier request.", ()),
    "gateway_token_memo_misses": ("Tokens that had to be read and verified.", ()),
    "gateway_response_revocations": (
        "Responses of a service that said what has ended: applied, or why that was ignored.",
        ("service", "result"),
    ),
    "gateway_retries": ("Requests that were sent a second time.", ("service",)),
    "gateway_routes_read": ("How often changed routes were read, and how it went.", ("result",)),
}
_GAUGES: Final = {
    "gateway_connections": ("Open client connections.", ()),
    "gateway_upstream_connections": ("Open connections to a service.", ("service", "state")),
    "gateway_upstream_outstanding": ("Requests that were given to a service and are not over.", ("service",)),
    "gateway_upstream_waiting": ("Requests that wait for a connection.", ("service",)),
    "gateway_upstream_limit": (
        "Requests that may wait for a service's answer at once; fewer while it is slower than usual.",
        ("service",),
    ),
    "gateway_upstream_ejected": ("Addresses of a service that are left alone for a while.", ("service",)),
    "gateway_upstream_unready": (
        "Addresses of a service that have not said, or not again, that they are ready.",
        ("service",),
    ),
    "gateway_upstream_addresses": (
        "Addresses of a service by the release that they run, counted by each worker.",
        ("service", "release"),
    ),
    "gateway_breakers_open": ("Workers that stopped asking a service.", ("service",)),
    "gateway_revocations": ("Revocations held in memory.", ()),
    "gateway_routes_refused": (
        "Workers that cannot use the files of a service, and the service that has one of its paths.",
        ("service", "overlaps"),
    ),
}
_STALENESS: Final = "gateway_revocations_staleness_seconds"

Labels = tuple[str, ...]


class Counts(NamedTuple):
    """One worker's numbers, by metric and labels."""

    counters: dict[str, dict[Labels, float]]
    gauges: dict[str, dict[Labels, float]]
    durations: dict[Labels, tuple[float, list[int]]]  # the sum, and requests by bucket
    staleness: float


class Metrics(Collector):
    """Each worker leaves its counts in a file once a second; whichever is asked adds all of them to its own."""

    def __init__(
        self, state: WorkerState, authenticator: Authenticator, watch: RouteWatcher, folder: Path | None
    ) -> None:
        self._state = state
        self._authenticator = authenticator
        self._watch = watch
        self._file = folder / f"gateway-{os.getpid()}.json" if folder else None
        self._failing = False
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def describe(self) -> Iterable[Metric]:
        """Nothing in advance: the registry would collect to find out."""
        return ()

    def keep(self, leaving: bool = False) -> None:
        """Leaves the counts for the other workers. Who leaves has no connections any more, but did serve requests."""
        if self._file is None:
            return
        counts = self._counts()
        if leaving:
            counts = counts._replace(gauges={}, staleness=0.0)
        new = self._file.with_suffix(".new")
        try:
            new.write_text(_to_json(counts))
            new.replace(self._file)
        except OSError as error:
            if not self._failing:
                _log.warning("counts cannot be left for the other workers: %s", error)
            self._failing = True
        else:
            self._failing = False

    def collect(self) -> Iterator[Metric]:
        workers = [self._counts(), *self._others()]
        for name, (text, labels) in _COUNTERS.items():
            yield _filled(
                CounterMetricFamily(name, text, labels=labels),
                [worker.counters.get(name, {}) for worker in workers],
            )
        for name, (text, labels) in _GAUGES.items():
            yield _filled(
                GaugeMetricFamily(name, text, labels=labels),
                [worker.gauges.get(name, {}) for worker in workers],
            )
        yield GaugeMetricFamily(
            _STALENESS,
            "Seconds since it was proven that every revocation is held; the worst worker's.",
            value=max(worker.staleness for worker in workers),
        )
        yield _histogram([worker.durations for worker in workers])

    def _counts(self) -> Counts:
        state, verifier = self._state, self._authenticator.verifier
        gauges: dict[str, dict[Labels, float]] = {name: {} for name in _GAUGES}
        releases = gauges["gateway_upstream_addresses"]
        for upstream in state.upstreams:
            service, pools = (upstream.name,), upstream.addresses.every
            idle = sum(pool.idle for pool in pools)
            gauges["gateway_upstream_connections"][*service, "idle"] = idle
            gauges["gateway_upstream_connections"][*service, "busy"] = sum(pool.open for pool in pools) - idle
            gauges["gateway_upstream_outstanding"][service] = upstream.outstanding
            gauges["gateway_upstream_waiting"][service] = sum(len(pool.waiting) for pool in pools)
            gauges["gateway_upstream_limit"][service] = upstream.concurrency.limit
            ejected = sum(pool.ejected_until > state.clock.now for pool in pools)
            gauges["gateway_upstream_ejected"][service] = ejected
            gauges["gateway_upstream_unready"][service] = sum(not pool.ready for pool in pools)
            for pool in pools:
                label = (upstream.name, pool.release)
                releases[label] = releases.get(label, 0) + 1
            gauges["gateway_breakers_open"][service] = int(upstream.breaker.open)
        gauges["gateway_connections"][()] = len(state.open_connections)
        gauges["gateway_revocations"][()] = len(self._authenticator.revocations)
        gauges["gateway_routes_refused"] |= self._watch.refused
        counters: dict[str, dict[Labels, float]] = {
            "gateway_refusals": {(code,): count for code, count in state.access_log.refusals.items()},
            "gateway_token_memo_hits": {(): verifier.hits},
            "gateway_token_memo_misses": {(): verifier.misses},
            "gateway_response_revocations": dict(state.response_revocations.counts),
            "gateway_retries": {(upstream.name,): upstream.budget.total for upstream in state.upstreams},
            "gateway_routes_read": {("used",): self._watch.used, ("refused",): self._watch.refusals},
        }
        staleness = self._authenticator.revocations.staleness(time.time())
        return Counts(counters, gauges, _durations(state), staleness)

    def _others(self) -> Iterator[Counts]:
        if self._file is None:
            return
        for file in self._file.parent.glob("gateway-*.json"):
            if file == self._file:
                continue
            with suppress(OSError, ValueError, KeyError):
                counts = _from_json(file.read_text())
                if not _is_alive(int(file.stem.rpartition("-")[2])):
                    counts = counts._replace(gauges={}, staleness=0.0)
                yield counts


def _durations(state: WorkerState) -> dict[Labels, tuple[float, list[int]]]:
    found: dict[Labels, tuple[float, list[int]]] = {}
    for (service, route, method, status), series in state.access_log.series.items():
        labels = (service, route, method.decode(), f"{status // 100}xx")
        _add(found, labels, series.seconds, series.buckets)
    return found


def _add(
    found: dict[Labels, tuple[float, list[int]]], labels: Labels, seconds: float, buckets: list[int]
) -> None:
    before = found.get(labels)
    if before is not None:
        seconds += before[0]
        buckets = [one + other for one, other in zip(before[1], buckets, strict=True)]
    found[labels] = seconds, buckets


def _filled(family: CounterMetricFamily | GaugeMetricFamily, workers: list[dict[Labels, float]]) -> Metric:
    total: dict[Labels, float] = {}
    for counts in workers:
        for labels, value in counts.items():
            total[labels] = total.get(labels, 0.0) + value
    for labels, value in total.items():
        family.add_metric(labels, value)
    return family


def _histogram(workers: list[dict[Labels, tuple[float, list[int]]]]) -> HistogramMetricFamily:
    family = HistogramMetricFamily(
        _DURATION,
        "Time from a request's head to the end of its answer.",
        labels=("service", "route", "method", "status"),
    )
    total: dict[Labels, tuple[float, list[int]]] = {}
    for durations in workers:
        for labels, (seconds, buckets) in durations.items():
            _add(total, labels, seconds, buckets)
    bounds = [*(str(bound) for bound in BUCKETS), "+Inf"]
    for labels, (seconds, buckets) in total.items():
        family.add_metric(labels, list(zip(bounds, accumulate(buckets), strict=True)), seconds)
    return family


def _to_json(counts: Counts) -> str:
    def rows(named: dict[str, dict[Labels, float]]) -> dict[str, Any]:
        return {name: list(values.items()) for name, values in named.items()}

    durations = [(labels, seconds, buckets) for labels, (seconds, buckets) in counts.durations.items()]
    return json.dumps([rows(counts.counters), rows(counts.gauges), durations, counts.staleness])


def _from_json(text: str) -> Counts:
    def unrows(named: dict[str, Any]) -> dict[str, dict[Labels, float]]:
        return {name: {tuple(labels): value for labels, value in rows} for name, rows in named.items()}

    counters, gauges, durations, staleness = json.loads(text)
    known = {tuple(labels): (seconds, buckets) for labels, seconds, buckets in durations}
    return Counts(unrows(counters), unrows(gauges), known, staleness)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
