"""What an operator asks the table of routes: is it good, what is in it, and what would happen to this request."""

import argparse
import sys
from collections.abc import Iterator, Sequence

from gateway.config import RouteSettings
from gateway.http1 import request_head
from gateway.main import read_routes
from gateway.routing.route_table import RouteTable
from gateway.routing.routes import OWN, Limit, Route, Routes, RoutesRefused
from service_kit.problems import Problem
from service_kit.settings import load


def main(arguments: Sequence[str]) -> int:
    """0: good, or forwarded; 1: refused; 2: asked wrongly."""
    parser = argparse.ArgumentParser(prog="python -m gateway", description=__doc__)
    topics = parser.add_subparsers(dest="topic", required=True)
    routes = topics.add_parser("routes", help="the table of ROUTES_DIR")
    verbs = routes.add_subparsers(dest="verb", required=True)
    verbs.add_parser("check", help="whether the files can be used")
    verbs.add_parser("list", help="every route")
    explain = verbs.add_parser("explain", help="what would happen to a request, and why")
    explain.add_argument("method")
    explain.add_argument("path", help="with or without a query, as a client would send it")
    options = parser.parse_args(arguments)
    settings = load(RouteSettings)
    try:
        found = read_routes(settings)
    except RoutesRefused as refused:
        print(f"refused: {refused}", file=sys.stderr)
        return 1
    table = found.routes
    for service, refusal in found.refused.items():
        print(f"refused: {service}: {refusal.reason}", file=sys.stderr)
    if options.verb == "check":
        print(f"{len(_services(table))} routes of {settings.routes_dir} can be used")
        return 1 if found.refused else 0
    if options.verb == "list":
        for line in _list(table):
            print(line)
        return 0
    forwarded, lines = _explain(found, settings, options.method, options.path)
    print("\n".join(lines))
    return 0 if forwarded else 1


def _services(table: Routes) -> list[Route]:
    return sorted(
        (route for route in table if route.service != OWN), key=lambda route: (route.path, route.name)
    )


def _list(table: Routes) -> Iterator[str]:
    rows = [
        (",".join(sorted(route.methods)), route.path, route.service, _who(route), route.source)
        for route in _services(table)
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def _explain(found: RouteTable, settings: RouteSettings, method: str, target: str) -> tuple[bool, list[str]]:
    table = found.routes
    lines = [f"{method} {target}"]
    try:
        head = request_head.read(
            f"{method} {target} HTTP/1.1\r\nHost: localhost".encode("latin-1", "replace")
        )
        route = table.match(head.method, head.path)
    except Problem as problem:
        refusal = f"refused    {int(problem.status)} {problem.code}: {problem.title}"
        lines.append(f"{refusal}. {problem.detail}" if problem.detail else refusal)
        for name, value in (problem.headers or {}).items():
            lines.append(f"           {name}: {value}")
        return False, lines
    lines.append(f"route      {route.name}: {' '.join(sorted(route.methods))} {route.path}")
    lines.append(f"declared   {route.source}")
    if route.service == OWN:
        return True, [*lines, "answer     by the gateway itself"]
    endpoints = settings.endpoints_of(route.service, found.endpoints.get(route.service))
    upstreams = ", ".join(f"{host}:{port}" for host, port in endpoints.public)
    sent = route.rewritten(head.target).decode()
    lines.append(f"upstream   {route.service} at {upstreams}, as {method} {sent}")
    lines.append(f"access     {_who(route)}")
    lines += _bounds(route)
    # HEAD is answered by a route for GET.
    method_of_route = head.method if head.method.decode() in route.methods else b"GET"
    for other in _also_matching(table, method_of_route, head.path, route):
        lines.append(
            f"why        {route.path} is more exact than {other.path} ({other.name}, {other.source})"
        )
    return True, lines


def _who(route: Route) -> str:
    """What a caller has to bring."""
    if route.public:
        return "everybody; a token is passed on unread"
    needed = [f"scope {scope}" for scope in sorted(route.scopes)]
    if route.roles:
        needed.append("role " + " or ".join(sorted(route.roles)))
    return "a valid token" + (f" with {' and '.join(needed)}" if needed else "")


def _bounds(route: Route) -> list[str]:
    lines = [
        f"deadlines  first byte after {route.first_byte_seconds:g} s, then never idle for {route.idle_seconds:g} s",
        f"body       at most {route.body_max_bytes} bytes",
    ]
    if route.media is not None and route.media.consumes:
        lines[-1] += f", of {' or '.join(route.media.consumes)}"
    if route.media is not None and route.media.produces:
        lines.append(f"answers    {' or '.join(route.media.produces)}")
    if route.limit is not None:
        lines.append(f"limit      {_limit(route.limit)}")
    if route.websocket:
        lines.append("websocket  may switch")
    if route.cors is not None:
        lines.append(f"cors       {', '.join(route.cors.origins)}")
    return lines


def _limit(limit: Limit) -> str:
    burst = limit.burst or limit.rate
    return f"{limit.rate} in {limit.per_seconds:g} s, {burst} at once, for each {limit.by}"


def _also_matching(table: Routes, method: bytes, path: bytes, chosen: Route) -> Iterator[Route]:
    """The less exact routes of the same method that would have it if this one were not there."""
    rest = [route for route in table if route is not chosen and method.decode() in route.methods]
    while (route := Routes(rest).find(method, path)) is not None:
        yield route
        rest.remove(route)
