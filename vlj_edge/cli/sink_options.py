"""The options of narrate and serve for destinations of texts besides the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import VljEdgeError, errors_at
from .outputs import output_file
from .say import tell

if TYPE_CHECKING:
    from vlj_edge.runtime.sinks.base import Sink
    from vlj_edge.runtime.sinks.queue import SinkQueue


class TextsLost(VljEdgeError):
    """Texts were not delivered, whether a signal has ended the command or not."""


_OPTIONS = (
    click.option("--log", type=output_file, help="Append each text to this file, as a JSON line."),
    click.option(
        "--log-bytes", type=click.IntRange(1), help="Bytes at which a new --log file is begun; five old ones are kept."
    ),
    click.option("--mqtt", envvar="VLJ_EDGE_MQTT", help="Publish to 'mqtt://[USER:${PASSWORD}@]HOST[:PORT]/TOPIC'."),
    click.option("--webhook", envvar="VLJ_EDGE_WEBHOOK", help="POST each text to this address, as JSON."),
    click.option("--say", help="Command that speaks its stdin, such as 'espeak-ng --stdin'."),
)


def sink_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a command, which gets them as log, log_bytes, mqtt, webhook and say."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def check_sinks(log: Path | None, log_bytes: int | None) -> None:
    """Raise click.UsageError if --log-bytes is given without --log."""
    if log_bytes is not None and log is None:
        raise click.UsageError("--log-bytes is for --log: name the file")


def open_sinks(
    log: Path | None,
    log_bytes: int | None,
    mqtt: str | None,
    webhook: str | None,
    say: str | None,
    notify: str | None = None,
    place: Callable[[str], str | None] = lambda name: None,
) -> list[SinkQueue]:
    """Open a sink for each option that was given, in a queue of its own.

    Args:
        place: returns where the value of an option stands, for errors; None: on the command line.

    Raises:
        VljEdgeError: a sink cannot be opened, or the package it needs is not installed.
    """
    from vlj_edge.runtime.sinks.queue import SinkQueue, close_all

    check_sinks(log, log_bytes)
    queues: list[SinkQueue] = []

    def add(name: str, sink: Callable[[], Sink], **how: Any) -> None:
        where = place(name)
        with nullcontext() if where is None else errors_at(where):
            queues.append(SinkQueue(name, sink(), **how))

    try:
        if log is not None:
            from vlj_edge.runtime.sinks.files import JsonLinesFile

            add("log", partial(JsonLinesFile, log, log_bytes), retry=True)
        if mqtt is not None:
            from vlj_edge.runtime.sinks.mqtt import Mqtt

            add("mqtt", partial(Mqtt, mqtt), retry=True)
        if webhook is not None:
            from vlj_edge.runtime.sinks.webhook import Webhook

            add("webhook", partial(Webhook, webhook), retry=True)
        if notify is not None:
            from vlj_edge.runtime.sinks.notify import Notify

            add("notify", partial(Notify, notify), retry=True)
        if say is not None:
            from vlj_edge.runtime.sinks.speech import Speech

            add("say", partial(Speech, say), capacity=1)  # an old text is not worth speaking
    except BaseException:
        close_all(queues)
        raise
    return queues


@contextmanager
def opened_sinks(
    write: Callable[[str], None] | None = None,
    place: Callable[[str], str | None] = lambda name: None,
    **options: Any,
) -> Iterator[list[SinkQueue]]:
    """Open the sinks of the options; at the end close them, and those that were added to the list, at the same time.

    Args:
        write: called with a line for each sink that missed texts; None: a warning on stderr.
        place, options: of open_sinks().

    Raises:
        VljEdgeError: a sink cannot be opened.
        TextsLost: at the end of what has not failed itself, a sink has missed texts.
    """
    from vlj_edge.runtime.sinks.queue import close_all

    sinks, lost = open_sinks(**options, place=place), 0
    try:
        yield sinks
    finally:
        close_all(sinks)
        lost = warn_of_missed_events(sinks, write or (lambda line: tell(f"warning: {line}")))
    if lost:
        raise TextsLost(f"texts were not delivered ({lost}): see above")


def warn_of_missed_events(queues: list[SinkQueue], write: Callable[[str], None]) -> int:
    """Write a line for each sink that missed texts; return how many were missed by sinks that failed.

    (--say passes over old texts while it speaks, which is no failure.)
    """
    lost = 0
    for queue in queues:
        state = queue.state()
        missed = state["missed"] + state["queued"]  # after close() nothing is delivered any more
        if missed:
            reason = f": {state['last_error']}" if state["last_error"] else ""
            write(f"{state['name']} missed {missed} of the texts{reason}")
            lost += missed if state["name"] != "say" or state["last_error"] else 0
    return lost
