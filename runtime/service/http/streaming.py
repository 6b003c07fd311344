"""Endless responses, which end when a client stops reading."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import anyio
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from .places import Places

TRANSPORT = "vlj_edge.transport"  # key in a request's scope for its connection, set in auth.py


class StreamingResponse(Response):
    """Sends pieces until there are no more, the client disconnects, or has read nothing for `patience` seconds.

    A place is held from before the first byte until the end, whatever ends it; if there is none, the response is 503.

    anyio repeats a cancellation until the task ends. In Python 3.10 and 3.11, asyncio's wait_for() loses one that comes
    when what it waits for is just done.

    Args:
        pieces: called once, when there is a place.
    """

    def __init__(
        self, pieces: Callable[[], AsyncGenerator[bytes, None]], media_type: str, patience: float, places: Places
    ) -> None:
        super().__init__(media_type=media_type, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._pieces, self._patience, self._places = pieces, patience, places

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        with self._places.one():
            async with aclosing(self._pieces()) as pieces, anyio.create_task_group() as group:

                async def wait_for_disconnect() -> None:
                    while (await receive())["type"] != "http.disconnect":
                        pass
                    group.cancel_scope.cancel()

                group.start_soon(wait_for_disconnect)
                await self._send(pieces, scope, send)
                group.cancel_scope.cancel()

    async def _send(self, pieces: AsyncGenerator[bytes, None], scope: Scope, send: Send) -> None:
        async def send_soon(message: Message) -> None:
            with anyio.fail_after(self._patience):
                await send(message)

        try:
            await send_soon({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async for piece in pieces:
                await send_soon({"type": "http.response.body", "body": piece, "more_body": True})
            await send_soon({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:
            # An orderly close would wait for ever, since the rest is never sent.
            transport = scope.get(TRANSPORT)
            if transport is not None:
                transport.abort()
