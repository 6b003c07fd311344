"""vlj-edge serve: cameras in, a page to watch, an API, and texts to other systems; for weeks."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import bundle_option, report_backend, verbose_option
from .sink_options import open_outlets, tell_missed, with_outlets

if TYPE_CHECKING:
    from vlj_edge.runtime.model import Model
    from vlj_edge.runtime.service.channel import See, SourceSettings
    from vlj_edge.runtime.service.config import Config
    from vlj_edge.runtime.service.http.broadcast import Broadcaster
    from vlj_edge.runtime.service.station import Station

_FILE = click.Path(path_type=Path, dir_okay=False)
_LOCAL = ("127.0.0.1", "localhost", "::1")
_ENDING = 3  # seconds for open connections, once the server is to end


@click.command()
@click.argument("sources", metavar="[SOURCE...]", nargs=-1)
@click.option("--config", type=_FILE, help="Read sources and options from this TOML file; read again on SIGHUP.")
@click.option("--host", help="Address to listen at; others than this machine's own need a token.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="[default: 8765]")
@click.option("--token", envvar="VLJ_EDGE_TOKEN", help="What a browser or program must know.")
@click.option("--token-file", type=_FILE, help="The token is in this file.")
@bundle_option
@click.option("--query", help="What the model is asked; the bundle's own question when not named.")
@click.option("--store", help="Keep what is seen in this store, and search it from the page.")
@click.option("--profile", type=_FILE, help="Where the page saves settings; read at the start.")
@click.option("--log-format", type=click.Choice(["text", "json"]), help="Of what is logged on stderr.  [default: text]")
@with_outlets
@verbose_option
def serve(sources: tuple[str, ...], config: Path | None, verbose: bool, **given: Any) -> None:
    """Narrate SOURCEs (as NAME=SOURCE, or an address alone) for good, and show it on a page.

    Sources that are not there are waited for. SIGTERM ends it once the text at work is finished.
    """
    from vlj_edge.runtime.model import Model
    from vlj_edge.runtime.service.config import Config, read_config

    from ..bundle import nano_bundle
    from ..errors import require

    for module in ("fastapi", "uvicorn", "prometheus_client"):
        require(module, "serve")
    read = read_config(config) if config is not None else Config()
    options = read.options | {name: value for name, value in given.items() if value is not None}
    if not sources and not read.sources:
        raise click.UsageError("name a SOURCE, or a --config with [[source]]")
    token = _token(options)
    model = Model(Path(options["bundle"]) if "bundle" in options else nano_bundle())
    report_backend(model.backend, verbose)
    _log(options.get("log_format", "text"))
    _run(model, sources, config, options, token)


def _run(
    model: Model, sources: tuple[str, ...], config: Path | None, options: dict[str, Any], token: str | None
) -> None:
    from vlj_edge.runtime.service.http.app import LOCAL, Broadcaster, Options, build_app
    from vlj_edge.runtime.service.station import Station

    def wanted() -> list[SourceSettings]:
        return _wanted(model, sources, config, options)

    log = Path(options["log"]) if "log" in options else None
    outlets = open_outlets(log, *(options.get(name) for name in ("log_bytes", "mqtt", "webhook", "say")))
    with ExitStack() as cleanup:
        cleanup.callback(tell_missed, outlets)
        for outlet in outlets:
            cleanup.callback(outlet.close)
        attached, see = _attached(model, options, cleanup)
        hub = Broadcaster()
        station = Station(model, wanted(), outlets, heard=hub.heard, keep_trying=True, see=see)
        host = options.get("host", "127.0.0.1")
        hosts = LOCAL if host in _LOCAL else ("*",)
        app = build_app(station, hub, Options(token=token, hosts=hosts, **attached))
        _reload_on_hangup(station, wanted)
        _serve(app, host, options.get("port", 8765), station, hub)


def _serve(app: Any, host: str, port: int, station: Station, hub: Broadcaster) -> None:
    """Until SIGTERM or Ctrl-C."""
    import uvicorn

    from vlj_edge.runtime.service.systemd import notify, watchdog

    stopping = threading.Event()
    settings = uvicorn.Config(app, host, port, log_config=None, access_log=False, timeout_graceful_shutdown=_ENDING)
    server = _server(settings, hub)
    station.start()
    try:
        watchdog(lambda: station.sick() is None, stopping)
        notify("READY=1")
        logging.info("http://%s:%s", host, port)
        with suppress(KeyboardInterrupt):  # it raises again what it has ended for, and that is how this ends well
            server.run()
    finally:
        notify("STOPPING=1")
        stopping.set()
        station.stop()


def _server(settings: Any, hub: Broadcaster) -> Any:
    """A server whose pages let go of it when it is to end."""
    import uvicorn

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: Any) -> None:
            threading.Thread(target=hub.close).start()  # it waits for a lock, which a handler must not
            super().handle_exit(sig, frame)

    return Server(settings)


def _wanted(
    model: Model, sources: tuple[str, ...], config: Path | None, options: dict[str, Any]
) -> list[SourceSettings]:
    """Of the command line and of the file, as it is now, with the settings that were saved."""
    from vlj_edge.runtime.service.config import Config, read_config, read_profile, with_profile

    from .narrate import named

    read: Config = read_config(config) if config is not None else Config()
    query = options.get("query")
    standard = model.manifest.gates
    found = [*named(sources, query), *(source.wanted(standard, query) for source in read.sources)]
    saved = read_profile(Path(options["profile"])) if "profile" in options else {}
    found = [with_profile(each, saved, standard) for each in found]
    for each in found:
        model.validate(each.query, each.gates)
    return found


def _attached(model: Model, options: dict[str, Any], cleanup: ExitStack) -> tuple[dict[str, Any], See]:
    """What the page may use besides: the store, and where settings are saved; and what keeps windows in that store."""
    found: dict[str, Any] = {}
    see: See = lambda wanted, clock, look: None  # noqa: E731
    if "store" in options:
        from vlj_edge.runtime.library import Store
        from vlj_edge.runtime.service.recorder import Recorder

        default = model.manifest.default_query
        asked = options.get("query") or default  # what cameras are asked: other embeddings cannot be compared
        remember = Recorder(Store(options["store"], model.manifest, asked, write=True), default)
        cleanup.callback(remember.close)
        found["store"], see = Store(options["store"], model.manifest), remember.see
    if "profile" in options:
        from vlj_edge.runtime.service.config import save_profile

        path = Path(options["profile"])

        def save(sources: list[SourceSettings]) -> str:
            save_profile(path, sources)
            return path.name

        found["save"] = save
    return found, see


def _token(options: dict[str, Any]) -> str | None:
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
        raise VljEdgeError(f"{host} can be reached by others: add --token-file FILE, or leave --host out")
    return token


def _reload_on_hangup(station: Station, wanted: Any) -> None:
    """SIGHUP: other sources and settings, as the file has them now. One that is wrong changes nothing."""
    from ..errors import VljEdgeError

    def reload() -> None:
        try:
            station.become(wanted())
            logging.info("settings were read again: %s", ", ".join(station.channels))
        except VljEdgeError as error:
            logging.error("settings were not read again: %s", error)

    # not in the handler itself, which strikes anywhere
    signal.signal(signal.SIGHUP, lambda *_: threading.Thread(target=reload, daemon=True).start())


def _log(form: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    if form == "json":
        handler.setFormatter(_JsonLines())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=os.environ.get("VLJ_EDGE_LOG", "INFO"), handlers=[handler], force=True)
    logging.getLogger("uvicorn.error").setLevel("WARNING")


class _JsonLines(logging.Formatter):
    """One object a line."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(
            {"time": record.created, "level": record.levelname, "message": record.getMessage()}, ensure_ascii=False
        )
