"""Endless responses, which end when a client stops reading."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

TRANSPORT = "vlj_edge.transport"  # key in a request's scope for its connection, set in auth.py


class StreamingResponse(Response):
    """Sends pieces until there are no more, the client disconnects, or has read nothing for `patience` seconds.

    Args:
        at_end: always called at the end.
    """

    def __init__(
        self,
        pieces: AsyncGenerator[bytes, None],
        media_type: str,
        patience: float,
        at_end: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(media_type=media_type, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._pieces, self._patience, self._at_end = pieces, patience, at_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        left = asyncio.ensure_future(_wait_for_disconnect(receive))
        sent = asyncio.ensure_future(self._send(scope, send))
        try:
            await asyncio.wait({left, sent}, return_when=asyncio.FIRST_COMPLETED)
            if sent.done():
                sent.result()
        finally:
            for task in (left, sent):
                task.cancel()
            await asyncio.gather(left, sent, return_exceptions=True)
            with suppress(RuntimeError):  # it is still running where this task was itself cancelled
                await self._pieces.aclose()
            self._at_end()

    async def _send(self, scope: Scope, send: Send) -> None:
        start = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        try:
            await asyncio.wait_for(send(start), self._patience)
            async for piece in self._pieces:
                body = {"type": "http.response.body", "body": piece, "more_body": True}
                await asyncio.wait_for(send(body), self._patience)
        except asyncio.TimeoutError:
            # An orderly close would wait for ever, since the rest is never sent.
            transport = scope.get(TRANSPORT)
            if transport is not None:
                transport.abort()
            return
        await asyncio.wait_for(send({"type": "http.response.body", "body": b"", "more_body": False}), self._patience)


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
