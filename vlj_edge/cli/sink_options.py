"""The options of narrate and serve for destinations of texts besides the terminal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .outputs import output_file
from .say import tell

if TYPE_CHECKING:
    from vlj_edge.runtime.sinks.queue import SinkQueue

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


def open_sinks(
    log: Path | None, log_bytes: int | None, mqtt: str | None, webhook: str | None, say: str | None
) -> list[SinkQueue]:
    """Open a sink for each option that was given, in a queue of its own.

    Raises:
        VljEdgeError: a sink cannot be opened, or the package it needs is not installed.
    """
    from vlj_edge.runtime.sinks.queue import SinkQueue

    if log_bytes is not None and log is None:
        raise click.UsageError("--log-bytes is for --log: name the file")
    queues: list[SinkQueue] = []
    try:
        if log is not None:
            from vlj_edge.runtime.sinks.files import JsonLinesFile

            queues.append(SinkQueue("log", JsonLinesFile(log, log_bytes), retry=True))
        if mqtt is not None:
            from vlj_edge.runtime.sinks.mqtt import Mqtt

            queues.append(SinkQueue("mqtt", Mqtt(mqtt), retry=True))
        if webhook is not None:
            from vlj_edge.runtime.sinks.webhook import Webhook

            queues.append(SinkQueue("webhook", Webhook(webhook), retry=True))
        if say is not None:
            from vlj_edge.runtime.sinks.speech import Speech

            queues.append(SinkQueue("say", Speech(say), capacity=1))  # an old text is not worth speaking
    except BaseException:
        for queue in queues:
            queue.close()
        raise
    return queues


def warn_of_missed_events(queues: list[SinkQueue]) -> int:
    """Print a warning on stderr for each sink that missed texts; return how many were missed by sinks that failed.

    (--say passes over old texts while it speaks, which is no failure.)
    """
    lost = 0
    for queue in queues:
        state = queue.state()
        missed = state["missed"] + state["queued"]  # after close() nothing is delivered any more
        if missed:
            reason = f": {state['last_error']}" if state["last_error"] else ""
            tell(f"warning: {state['name']} missed {missed} of the texts{reason}")
            lost += missed if state["name"] != "say" or state["last_error"] else 0
    return lost
