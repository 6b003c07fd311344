"""A reverse proxy that adds TLS, as nginx or Caddy would: one request a connection, bodies as they come."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

Rewrite = Callable[[dict[str, str]], dict[str, str]]


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """Make a certificate for a host and its key."""
    files = folder / "certificate.pem", folder / "key.pem"
    made = ["-newkey", "rsa:2048", "-nodes", "-keyout", str(files[1]), "-out", str(files[0]), "-subj", f"/CN={name}"]
    names = ["-addext", f"subjectAltName=DNS:{name}"]
    subprocess.run(["openssl", "req", "-x509", "-days", "2", *made, *names], check=True, capture_output=True)
    return files


class ReverseProxy:
    """Passes requests on to a port of this machine.

    Args:
        rewrite: takes the headers of a request, their names in lower case, and returns those that are passed on.
    """

    def __init__(self, to: int, files: tuple[Path, Path], rewrite: Rewrite) -> None:
        self._to, self._rewrite, self.port = to, rewrite, 0
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(*files)
        self._started = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._started.wait(60)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(60)

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._stopping, self._handling = asyncio.Event(), set[asyncio.Task[None]]()
        server = await asyncio.start_server(self._start, "127.0.0.1", 0, ssl=self._context)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._stopping.wait()
        server.close()
        for task in self._handling:
            task.cancel()
        await asyncio.gather(*self._handling, return_exceptions=True)

    def _start(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._handling.add(asyncio.ensure_future(self._handle(reader, writer)))

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}
            headers = self._rewrite(headers) | {"connection": "close"}
            inner, outer = await asyncio.open_connection("127.0.0.1", self._to)
            head = [first, *(f"{name}: {value}" for name, value in headers.items()), "", ""]
            outer.write("\r\n".join(head).encode())
            sending = asyncio.ensure_future(self._pump(reader, outer))
            try:
                await self._pump(inner, writer)
            finally:
                sending.cancel()
                outer.close()
        writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
