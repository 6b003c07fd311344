"""vlj-edge serve: narrates sources for weeks, with a page to watch, an API, and texts sent to other systems."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import VljEdgeError, require
from .budget_options import BudgetOptions, budget_options
from .hangups import Hangups
from .options import (
    SOURCE,
    EngineOptions,
    bundle_option,
    engine_options,
    file_type,
    gates_option,
    query_option,
    use_key_file_of,
)
from .outputs import output_file
from .part_options import PartOptions, part_options
from .say import JsonLogLines, LogLines
from .serve_http import listen, names_and_proxies, read_token, serve_until_stopped
from .serve_settings import ServeSettings, apply_again
from .sink_options import opened_sinks, sink_options
from .words_options import words_options

if TYPE_CHECKING:
    from vlj_edge.runtime.engines.select import SelectedBackend
    from vlj_edge.runtime.model import Model
    from vlj_edge.runtime.service.channel_context import OnReport
    from vlj_edge.runtime.service.settings import SourceSettings
    from vlj_edge.runtime.sinks.queue import SinkQueue

_LIMIT = click.FloatRange(min=0)
_KEEP_DAYS, _KEEP_GB = 30.0, 10.0


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
@gates_option
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
@click.option("--learned", type=output_file, help="File that keeps what the gates learn of each camera over a restart.")
@click.option("--log-format", type=click.Choice(["text", "json"]), help="Format of the log on stderr.  [default: text]")
@click.option(
    "--notify", envvar="VLJ_EDGE_NOTIFY", help="POST each alert there as ntfy takes it: https://ntfy.sh/TOPIC."
)
@click.option(
    "--alert-folder", help="Keep alerts in this folder: their state, pictures, and what is not delivered at the end."
)
@sink_options
@part_options
@budget_options
@words_options
@engine_options
def serve(
    sources: tuple[str, ...],
    config: Path | None,
    part: PartOptions,
    budget: BudgetOptions,
    words: dict[str, Any],
    engine_options: EngineOptions,
    **given: Any,
) -> None:
    """Narrate SOURCEs (as NAME=SOURCE, or an address alone) until stopped, and show them on a page.

    Recordings are played in real time. Cameras and files that are not there yet are waited for. SIGTERM ends it once
    the text being decoded is finished. --start and the options after it apply to the SOURCEs here, not to those of
    --config.
    """
    given |= {"backend": engine_options.backend, "engines": engine_options.engines, "threads": engine_options.threads}
    given["tokens"] = engine_options.tokens
    given = {name: value for name, value in given.items() if value not in (None, ())}
    given |= budget.given | words
    settings = ServeSettings(sources, config, given, part)
    with Hangups() as hangups, suppress(KeyboardInterrupt):  # from before the imports, which take a while
        for module in ("fastapi", "uvicorn", "prometheus_client"):
            require(module, "serve")
        options = settings.options()
        token = read_token(options)
        _set_up_logging(options.get("log_format", "text"), engine_options.verbose)
        with _load_model(options, settings.place) as model:
            _run(model, settings, options, token, hangups)


def _load_model(options: dict[str, Any], place: Callable[[str], str | None]) -> Model:
    from vlj_edge.runtime.model import Model

    from ..bundle import nano_bundle
    from ..bundle.signature import KEY_FILE

    if "key_file" in options and KEY_FILE not in os.environ:  # of a configuration
        use_key_file_of(place("key_file") or "--key-file", options["key_file"])
    engines = Path(options["engines"]) if "engines" in options else None
    if engines is not None and not engines.is_dir():  # of a configuration
        raise VljEdgeError(f"engines = {engines}: there is no such folder: name one that vlj-edge build wrote")
    bundle = Path(options["bundle"]) if "bundle" in options else nano_bundle()
    tokens = options.get("tokens")
    return Model(
        bundle, options.get("backend"), options.get("threads"), engines, gates=options.get("gates"), tokens=tokens
    )


def _run(model: Model, settings: ServeSettings, options: dict[str, Any], token: str | None, hangups: Hangups) -> None:
    """Check everything, then listen, open what gets texts, start the sources, and serve until stopped."""
    from vlj_edge.runtime.alerts.journal import AlertJournal
    from vlj_edge.runtime.service.http.app import Broadcaster, ServerOptions, build_app
    from vlj_edge.runtime.service.learned import LearnedNoise
    from vlj_edge.runtime.service.state_log import log_error
    from vlj_edge.runtime.service.station import Station

    names = names_and_proxies(options, token)
    sources = settings.sources(model, options)  # first: it refuses a log that is one of them
    host = options.get("host", "127.0.0.1")
    with ExitStack() as cleanup:
        on_report = _open_recorder(model, options, cleanup)
        broadcaster = Broadcaster()
        journal = AlertJournal(Path(options["alert_folder"]) if "alert_folder" in options else None)
        cleanup.callback(journal.close)
        learned = LearnedNoise(model.manifest, Path(options["learned"]) if "learned" in options else None)
        station = Station(
            model,
            sources,
            on_event=broadcaster.publish_event,
            keep_trying=True,
            real_time=True,
            on_report=on_report,
            on_error=log_error,
            learned=learned,
            alerts=settings.alerts(),
            on_alert=broadcaster.publish_alert,
            journal=journal,
        )
        listening = cleanup.enter_context(listen(host, options.get("port", 8765)))
        cleanup.enter_context(learned)
        station.sinks += cleanup.enter_context(_opened_sinks(options, settings.place))
        app = build_app(
            station, broadcaster, ServerOptions(token, *names, **_page_options(model, options, settings.configured))
        )

        def ready() -> None:
            _log_backend(model.backend)
            if model.manifest.labels.caveat:
                logging.info(model.manifest.labels.caveat)
            hangups.answer(partial(apply_again, station, partial(settings.sources, model, options), settings.alerts))

        serve_until_stopped(app, host, listening, station, broadcaster, ready)


def _opened_sinks(
    options: dict[str, Any], place: Callable[[str], str | None]
) -> AbstractContextManager[list[SinkQueue]]:
    given = {name: options.get(name) for name in ("log_bytes", "mqtt", "webhook", "notify", "say")}
    log = Path(options["log"]) if "log" in options else None
    return opened_sinks(partial(logging.warning, "%s"), place, log=log, **given)


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


def _page_options(model: Model, options: dict[str, Any], configured: dict[str, SourceSettings]) -> dict[str, Any]:
    """Return the store that the page searches, and the function that saves what differs from the configuration, if
    there are any."""
    found: dict[str, Any] = {}
    if "store" in options:
        from vlj_edge.runtime.library import Store

        found["store"] = Store(options["store"], model.manifest)
    if "profile" in options:
        from vlj_edge.runtime.service.config import save_profile

        path = Path(options["profile"])

        def save(sources: list[SourceSettings]) -> str:
            save_profile(path, sources, configured)
            return path.name

        found["save"] = save
    return found


def _log_backend(backend: SelectedBackend) -> None:
    """Log what the models run on, and why; as a warning if that is slower than it could be."""
    about = f"backend: {backend.description} ({backend.reason})"
    if backend.warning is None:
        logging.info(about)
    else:
        logging.warning("%s: %s", about, backend.warning, extra={"reason": backend.warning})


def _set_up_logging(form: str, verbose: bool) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(lambda record: verbose or not record.name.endswith(".picture_decoder"))
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
