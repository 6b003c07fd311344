"""vlj-edge serve: narrates sources for weeks, with a page to watch, an API, and texts sent to other systems."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import (
    SOURCE,
    bundle_option,
    file_type,
    query_option,
    report_backend,
    verbose_option,
)
from .outputs import all_written, output_file, refuse_overwriting_inputs
from .part_options import PartOptions, part_options
from .say import JsonLogLines, LogLines
from .sink_options import open_sinks, sink_options, warn_of_missed_events
from .source_names import parse_sources

if TYPE_CHECKING:
    from vlj_edge.runtime.model import Model
    from vlj_edge.runtime.service.channel import OnReport
    from vlj_edge.runtime.service.config import Config
    from vlj_edge.runtime.service.http.broadcast import Broadcaster
    from vlj_edge.runtime.service.settings import SourceSettings
    from vlj_edge.runtime.service.station import Station

_LOCAL = ("127.0.0.1", "localhost", "::1")
_LIMIT = click.FloatRange(min=0)
_KEEP_DAYS, _KEEP_GB = 30.0, 10.0
_SHUTDOWN_SECONDS = 3  # for open connections
_Texts = tuple[str, ...]


@click.command(short_help="Narrate cameras until stopped, with a page to watch and an API.", epilog=SOURCE)
@click.argument("sources", metavar="[SOURCE...]", nargs=-1)
@click.option("--config", type=file_type, help="Read sources and options from this TOML file; read again on SIGHUP.")
@click.option(
    "--host", help="Address to listen at; one that other machines can reach needs a token.  [default: 127.0.0.1]"
)
@click.option("--port", type=click.IntRange(0, 65535), help="[default: 8765]")
@click.option(
    "--token",
    envvar="VLJ_EDGE_TOKEN",
    help="Secret that a browser or program must present; other users see it here: use --token-file.",
)
@click.option(
    "--allowed-host",
    multiple=True,
    help="Name by which a proxy in front makes it reachable, such as edge.example; may be repeated.",
)
@click.option(
    "--trusted-proxy",
    multiple=True,
    help="IP address or network of a proxy whose forwarded headers count.  [default with --allowed-host: this machine]",
)
@click.option("--token-file", envvar="VLJ_EDGE_TOKEN_FILE", type=file_type, help="Read the token from this file.")
@bundle_option
@query_option
@click.option("--loop", is_flag=True, default=None, help="Repeat recordings.  [default: its source ends]")
@click.option("--store", help="Keep embeddings in this library, and search it from the page.")
@click.option(
    "--keep-days", type=_LIMIT, help="Forget what was recorded in --store longer ago; 0: never.  [default: 30]"
)
@click.option(
    "--keep-gb",
    type=_LIMIT,
    help="Forget the oldest recorded in --store beyond this size; 0: never.  [default: 10]",
)
@click.option("--profile", type=output_file, help="File in which the page saves settings; read at the start.")
@click.option("--log-format", type=click.Choice(["text", "json"]), help="Format of the log on stderr.  [default: text]")
@sink_options
@part_options
@verbose_option
def serve(sources: tuple[str, ...], config: Path | None, verbose: bool, part: PartOptions, **given: Any) -> None:
    """Narrate SOURCEs (as NAME=SOURCE, or an address alone) until stopped, and show them on a page.

    Recordings are played in real time. Cameras that are not there yet are waited for. SIGTERM ends it once the text
    being decoded is finished. --start and the options after it apply to the SOURCEs here, not to those of --config.
    """
    from vlj_edge.runtime.model import Model
    from vlj_edge.runtime.service.config import Config, read_config

    from ..bundle import nano_bundle
    from ..errors import require

    for module in ("fastapi", "uvicorn", "prometheus_client"):
        require(module, "serve")
    file = read_config(config) if config is not None else Config()
    options = file.options | {name: value for name, value in given.items() if value not in (None, ())}
    if not sources and not file.source_names:
        raise click.UsageError("name a SOURCE, or a --config with [[source]]")
    if not sources and part != PartOptions():
        raise click.UsageError(
            "--start and the options after it are for a SOURCE here: name one, or set them in --config"
        )
    token = _read_token(options)
    with Model(Path(options["bundle"]) if "bundle" in options else nano_bundle()) as model:
        report_backend(model.backend, verbose)
        _set_up_logging(options.get("log_format", "text"))
        _run(
            model,
            partial(_read_sources, model, sources, config, options, part),
            options,
            token,
        )


def _run(
    model: Model, read_sources: Callable[[], list[SourceSettings]], options: dict[str, Any], token: str | None
) -> None:
    from vlj_edge.runtime.service.http.app import Broadcaster, ServerOptions, build_app
    from vlj_edge.runtime.service.station import Station

    names = _names_and_proxies(options, token)
    sources = read_sources()  # first: it refuses a log that is one of them
    log = Path(options["log"]) if "log" in options else None
    sinks = open_sinks(log, *(options.get(name) for name in ("log_bytes", "mqtt", "webhook", "say")))
    with ExitStack() as cleanup:
        cleanup.callback(warn_of_missed_events, sinks)
        for sink in sinks:
            cleanup.callback(sink.close)
        on_report = _open_recorder(model, options, cleanup)
        broadcaster = Broadcaster()
        station = Station(
            model,
            sources,
            sinks,
            on_event=broadcaster.publish_event,
            keep_trying=True,
            real_time=True,
            on_report=on_report,
            on_error=partial(logging.error, "%s: %s"),
        )
        host = options.get("host", "127.0.0.1")
        app = build_app(station, broadcaster, ServerOptions(token, *names, **_page_options(model, options)))
        _reload_on_hangup(station, read_sources)
        with _listen(host, options.get("port", 8765)) as listening:
            _serve_until_stopped(app, host, listening, station, broadcaster)


def _names_and_proxies(options: dict[str, Any], token: str | None) -> tuple[_Texts, _Texts, _Texts]:
    """Return names that a request may call this server by: its own, and those of a proxy; and the trusted proxies."""
    from vlj_edge.runtime.service.http.app import LOCAL_HOSTS
    from vlj_edge.runtime.service.http.forwarded import LOOPBACK, check_hosts, check_networks

    from ..errors import VljEdgeError

    host, allowed = options.get("host", "127.0.0.1"), check_hosts(options.get("allowed_host", ()))
    proxies = check_networks(options.get("trusted_proxy", ())) or (LOOPBACK if allowed else ())
    if "*" in allowed and token is None:
        raise VljEdgeError("--allowed-host '*' lets any web page in the browser in: add --token-file FILE")
    if allowed and token is None:
        logging.warning("%s: whoever reaches the proxy can change settings here: add --token-file", ", ".join(allowed))
    hosts = LOCAL_HOSTS if host in _LOCAL or allowed else ("*",)
    if host not in _LOCAL:
        hosts += (f"[{host}]" if ":" in host else host,)
    return hosts, allowed, proxies


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens there, at a free port if `port` is 0."""
    from ..errors import VljEdgeError

    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        reason = (error.strerror or str(error)).partition(" (while")[0]  # the rest repeats the address
        raise VljEdgeError(f"cannot listen at {host}:{port}: {reason}: choose another --port or --host") from error


def _serve_until_stopped(
    app: Any, host: str, listening: socket.socket, station: Station, broadcaster: Broadcaster
) -> None:
    """Run station and server until SIGTERM, Ctrl-C, or none of the first sources could be opened."""
    import uvicorn

    from vlj_edge.runtime.service.http.connections import server_config
    from vlj_edge.runtime.service.systemd import notify, start_watchdog

    from ..errors import VljEdgeError

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: Any) -> None:
            # In a thread, since it waits for a lock, which a signal handler must not.
            threading.Thread(target=broadcaster.close).start()
            super().handle_exit(sig, frame)

        async def on_tick(self, counter: int) -> bool:
            return nothing_opened() or await super().on_tick(counter)

    at_start = station.channels

    def nothing_opened() -> bool:
        # Only the first sources: a mistake in a configuration that is read again must not end a service.
        return station.channels is at_start and all(channel.never_opened() for channel in at_start.values())

    stopping = threading.Event()
    server = Server(server_config(app, log_config=None, access_log=False, timeout_graceful_shutdown=_SHUTDOWN_SECONDS))
    station.start()
    try:
        start_watchdog(lambda: station.stuck_source() is None, stopping)
        notify("READY=1")
        logging.info("http://%s:%s", f"[{host}]" if ":" in host else host, listening.getsockname()[1])
        with suppress(KeyboardInterrupt):  # uvicorn raises the signal again once it has shut down
            server.run([listening])
    finally:
        notify("STOPPING=1")
        stopping.set()
        station.stop()
    if nothing_opened():
        raise VljEdgeError("no source could be opened: see above")


def _read_sources(
    model: Model,
    arguments: tuple[str, ...],
    config: Path | None,
    options: dict[str, Any],
    part: PartOptions,
) -> list[SourceSettings]:
    """Return the sources of the command line and of the current file, with the settings that were saved."""
    from vlj_edge.runtime.model import check_settings
    from vlj_edge.runtime.service.config import Config, read_config, read_profile, with_profile

    file: Config = read_config(config) if config is not None else Config()
    query, loop = options.get("query"), options.get("loop", False)
    read = (arguments, config, *(options.get(name) for name in ("bundle", "token_file", "store")))
    outputs = [(name, Path(options[name])) for name in ("log", "profile") if name in options]
    written = [(f"--{name}", each) for name, path in outputs for each in all_written(name, path, options)]
    found = [*parse_sources(arguments, query, part, loop), *file.sources(model.manifest.gates, query, loop)]
    refuse_overwriting_inputs(written, [*read, *(settings.uri for settings in found)])
    saved = read_profile(Path(options["profile"])) if "profile" in options else {}
    found = [with_profile(settings, saved) for settings in found]
    for settings in found:
        check_settings(model, settings.query, settings.gates)
    return found


def _open_recorder(model: Model, options: dict[str, Any], cleanup: ExitStack) -> OnReport:
    """Return the function that receives window reports (a recorder that writes to --store), if any."""
    if "store" not in options:
        return lambda window: None
    from vlj_edge.runtime.library import Store
    from vlj_edge.runtime.service.recorder import Recorder, Retention

    default_query = model.manifest.default_query
    query = options.get("query") or default_query  # embeddings of different queries cannot be compared
    retention = Retention(options.get("keep_days", _KEEP_DAYS) or None, options.get("keep_gb", _KEEP_GB) or None)
    recorder = Recorder(Store(options["store"], model.manifest, query, write=True), default_query, retention)
    cleanup.callback(recorder.close)
    return recorder.add


def _page_options(model: Model, options: dict[str, Any]) -> dict[str, Any]:
    """Return the store that the page searches, and the function that saves its settings, if there are any."""
    found: dict[str, Any] = {}
    if "store" in options:
        from vlj_edge.runtime.library import Store

        found["store"] = Store(options["store"], model.manifest)
    if "profile" in options:
        from vlj_edge.runtime.service.config import save_profile

        path = Path(options["profile"])

        def save(sources: list[SourceSettings]) -> str:
            save_profile(path, sources)
            return path.name

        found["save"] = save
    return found


def _read_token(options: dict[str, Any]) -> str | None:
    from ..errors import VljEdgeError

    token: str | None = options.get("token")
    if token is None and "token_file" in options:
        path = Path(options["token_file"])
        try:
            token = path.read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            raise VljEdgeError(f"{path} cannot be read ({error}): check the path and its permissions") from error
    if token is not None and len(token) < 16:
        raise VljEdgeError("the token has fewer than 16 characters: make one with openssl rand -hex 16")
    host = options.get("host", "127.0.0.1")
    if host not in _LOCAL and token is None:
        raise VljEdgeError(f"{host} can be reached by other machines: add --token-file FILE, or leave --host out")
    return token


def _reload_on_hangup(station: Station, read_sources: Callable[[], list[SourceSettings]]) -> None:
    """On SIGHUP apply the current configuration; if anything in it is wrong, nothing changes."""
    from ..errors import VljEdgeError

    def reload() -> None:
        try:
            station.reconfigure(read_sources())
            logging.info("settings were read again: %s", ", ".join(station.channels))
        except VljEdgeError as error:
            logging.error("settings were not read again: %s", error)

    # In a thread: a signal handler may interrupt code that holds a lock.
    signal.signal(signal.SIGHUP, lambda *_: threading.Thread(target=reload, daemon=True).start())


def _set_up_logging(form: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    if form == "json":
        handler.setFormatter(JsonLogLines())
    else:
        handler.setFormatter(LogLines("%(asctime)s %(levelname)s %(message)s"))
    level = os.environ.get("VLJ_EDGE_LOG", "INFO")
    if level not in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"):
        raise click.UsageError(f"VLJ_EDGE_LOG is '{level}': set it to DEBUG, INFO, WARNING or ERROR")
    logging.basicConfig(level=level, handlers=[handler], force=True)
    ours = logging.getLogger("vlj_edge")  # its lines go to the log, with time and level, in --log-format
    ours.handlers.clear()
    ours.propagate = True
    ours.setLevel(logging.NOTSET)
    logging.getLogger("uvicorn.error").setLevel("WARNING")
