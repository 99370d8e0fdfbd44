"""Peer: the gateway that tutorials build: FastAPI, httpx.AsyncClient, the token decoded at each request."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from fastapi import Depends, FastAPI, Request, Response

from benchmarks.peers.check import claims


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with httpx.AsyncClient(base_url=os.environ["UPSTREAM"]) as client:
        app.state.client = client
        yield


app = FastAPI(lifespan=lifespan)


@app.api_route(
    "/{path:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE"], dependencies=[Depends(claims)]
)
async def forward(path: str, request: Request) -> Response:
    client: httpx.AsyncClient = request.app.state.client
    headers = [(name, value) for name, value in request.headers.items() if name not in ("host", "connection")]
    response = await client.request(
        request.method, path, params=request.query_params, headers=headers, content=await request.body()
    )
    return Response(response.content, response.status_code, media_type=response.headers.get("content-type"))
