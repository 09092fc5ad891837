"""The routes that applications call for every page, answered before FastAPI's stack.

FastAPI describes them and answers everything else. Its middleware, routing, `Request` and `Response` took a third of
the gateway's own CPU time for an answer, and these routes need none of it: `serving.request.parse` reads their bodies.
"""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from fastapi import FastAPI, Response
from starlette.types import Receive, Scope, Send

from serving.gateway.arrival import arrival_of
from serving.gateway.head import Headers
from serving.gateway.request_log import Line

JSON = (b"content-type", b"application/json")


class Answered(NamedTuple):
    """What a client gets: the body is JSON, and the headers are further ones."""

    status: int
    body: bytes
    headers: Headers = []  # noqa: RUF012

    def response(self) -> Response:
        """The same, for a route of FastAPI."""
        headers = {name.decode(): value.decode() for name, value in self.headers}
        return Response(self.body, status_code=self.status, headers=headers, media_type="application/json")


Handler = Callable[[Scope, Receive], Awaitable[Answered]]


class Application(FastAPI):
    """FastAPI's application, with POST requests to some paths answered before its stack."""

    def __init__(self, *, failed: Callable[[Exception], Answered], **of_fastapi: Any) -> None:
        super().__init__(**of_fastapi)
        self.hot: dict[str, Handler] = {}
        """Path -> what answers POST requests to it."""
        self._failed = failed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it to FastAPI."""
        if scope["type"] == "http" and scope["method"] == "POST":
            handler = self.hot.get(scope["path"])
            if handler is not None:
                await self._answer(handler, scope, receive, send)
                return
        await super().__call__(scope, receive, send)

    async def _answer(self, handler: Handler, scope: Scope, receive: Receive, send: Send) -> None:
        with Line(scope, route=scope["path"]) as line:
            error: Exception | None = None
            try:
                status, body, headers = await handler(scope, receive)
            except Exception as found:
                # Raised again behind the answer, so that the server logs it with its traceback.
                error = found
                status, body, headers = self._failed(found)
            line.status = status
            whole = [JSON, *headers, *line.ids.headers()]
            arrival = arrival_of(scope)
            if arrival is None or not arrival.reply(status, whole, body):
                whole.append((b"content-length", b"%d" % len(body)))
                await send({"type": "http.response.start", "status": status, "headers": whole})
                await send({"type": "http.response.body", "body": body})
            if error is not None:
                raise error
