"""Peer: the endpoint that nginx's auth_request asks."""

from fastapi import Depends, FastAPI, Response

from benchmarks.peers.check import claims

app = FastAPI()


@app.get("/validate", status_code=204, dependencies=[Depends(claims)])
async def validate() -> Response:
    return Response(status_code=204)
