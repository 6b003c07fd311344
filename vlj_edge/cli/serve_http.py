"""The server of `vlj-edge serve`: who may reach it, where it listens, and how it starts and ends with its station."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vlj_edge.runtime.service.http.broadcast import Broadcaster
    from vlj_edge.runtime.service.station import Station

_LOCAL = ("127.0.0.1", "localhost", "::1")
_SHUTDOWN_SECONDS = 3  # for open connections
_Texts = tuple[str, ...]


def read_token(options: dict[str, Any]) -> str | None:
    """Return the secret that requests must present; None if there is none, which only a server of this machine may do.

    Raises:
        VljEdgeError: it cannot be read, is short, or is missing where other machines reach the server.
    """
    from ..errors import VljEdgeError, WrongCall

    token: str | None = options.get("token")
    if token is None and "token_file" in options:
        path = Path(options["token_file"])
        try:
            token = path.read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            raise VljEdgeError(f"{path} cannot be read ({error}): check the path and its permissions") from error
    if token is not None and len(token) < 16:
        kind = VljEdgeError if "token_file" in options else WrongCall
        raise kind("the token has fewer than 16 characters: make one with openssl rand -hex 16")
    host = options.get("host", "127.0.0.1")
    if host not in _LOCAL and token is None:
        raise WrongCall(f"{host} can be reached by other machines: add --token-file FILE, or leave --host out")
    return token


def names_and_proxies(options: dict[str, Any], token: str | None) -> tuple[_Texts, _Texts, _Texts]:
    """Return names that a request may call this server by: its own, and those of a proxy; and the trusted proxies."""
    from vlj_edge.runtime.service.http.app import LOCAL_HOSTS
    from vlj_edge.runtime.service.http.forwarded import LOOPBACK, check_hosts, check_networks

    from ..errors import WrongCall

    host, allowed = options.get("host", "127.0.0.1"), check_hosts(options.get("allowed_host", ()))
    proxies = check_networks(options.get("trusted_proxy", ())) or (LOOPBACK if allowed else ())
    if "*" in allowed and token is None:
        raise WrongCall("--allowed-host '*' lets any web page in the browser in: add --token-file FILE")
    if allowed and token is None:
        logging.warning("%s: whoever reaches the proxy can change settings here: add --token-file", ", ".join(allowed))
    hosts = LOCAL_HOSTS if host in _LOCAL or allowed else ("*",)
    if host not in _LOCAL:
        hosts += (f"[{host}]" if ":" in host else host,)
    return hosts, allowed, proxies


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens there, at a free port if `port` is 0."""
    from ..errors import VljEdgeError

    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        reason = (error.strerror or str(error)).partition(" (while")[0]  # the rest repeats the address
        raise VljEdgeError(f"cannot listen at {host}:{port}: {reason}: choose another --port or --host") from error


def serve_until_stopped(
    app: Any,
    host: str,
    listening: socket.socket,
    station: Station,
    broadcaster: Broadcaster,
    on_ready: Callable[[], None],
) -> None:
    """Run station and server until SIGTERM, Ctrl-C, or none of the first sources could be opened.

    Args:
        on_ready: called once the sources are started and requests are answered.
    """
    import uvicorn

    from vlj_edge.runtime.service.http.connections import server_config
    from vlj_edge.runtime.service.systemd import notify, start_watchdog

    from ..errors import VljEdgeError

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: Any) -> None:
            # In a thread, since it waits for a lock, which a signal handler must not.
            threading.Thread(target=broadcaster.close).start()
            super().handle_exit(sig, frame)

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            on_ready()
            notify("READY=1")
            logging.info("http://%s:%s", f"[{host}]" if ":" in host else host, listening.getsockname()[1])

        async def on_tick(self, counter: int) -> bool:
            return nothing_opened() or await super().on_tick(counter)

    at_start = station.channels

    def nothing_opened() -> bool:
        # Only the first sources: a mistake in a configuration that is read again must not end a service.
        return station.channels is at_start and all(channel.never_opened() for channel in at_start.values())

    stopping, failed = threading.Event(), False
    server = Server(server_config(app, log_config=None, access_log=False, timeout_graceful_shutdown=_SHUTDOWN_SECONDS))
    try:
        station.start()
        start_watchdog(lambda: station.stuck_source() is None, stopping)
        with suppress(KeyboardInterrupt):  # uvicorn raises the signal again once it has shut down
            server.run([listening])
        failed = nothing_opened()  # before the sources are stopped, after which none is waited for
    finally:
        notify("STOPPING=1")
        stopping.set()
        station.stop()
    if failed:
        raise VljEdgeError("no source could be opened: see above")
