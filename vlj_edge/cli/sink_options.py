"""Where texts go besides the terminal: the options that narrate and serve share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from vlj_edge.runtime.sinks.queue import SinkQueue

_OPTIONS = (
    click.option(
        "--log", type=click.Path(path_type=Path, dir_okay=False), help="Append each text to this file, as a JSON line."
    ),
    click.option("--log-bytes", type=click.IntRange(1), help="Begin a new --log at this size, and keep five old ones."),
    click.option("--mqtt", envvar="VLJ_EDGE_MQTT", help="Publish to mqtt://[USER:PASSWORD@]HOST[:PORT]/TOPIC."),
    click.option("--webhook", envvar="VLJ_EDGE_WEBHOOK", help="POST each text to this address, as JSON."),
    click.option("--say", help="A command that speaks what it gets on stdin, such as 'espeak-ng --stdin'."),
)


def with_outlets(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a command; it gets log, log_bytes, mqtt, webhook and say."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def open_outlets(
    log: Path | None, log_bytes: int | None, mqtt: str | None, webhook: str | None, say: str | None
) -> list[SinkQueue]:
    """An outlet for each that is named.

    Raises:
        VljEdgeError: one that cannot be opened, or whose package is not installed.
    """
    from vlj_edge.runtime.sinks.queue import SinkQueue

    if log_bytes is not None and log is None:
        raise click.UsageError("--log-bytes is for --log: name the file")
    outlets: list[SinkQueue] = []
    try:
        if log is not None:
            from vlj_edge.runtime.sinks.files import JsonLinesFile

            outlets.append(SinkQueue("log", JsonLinesFile(log, log_bytes), retry=True))
        if mqtt is not None:
            from vlj_edge.runtime.sinks.mqtt import Mqtt

            outlets.append(SinkQueue("mqtt", Mqtt(mqtt), retry=True))
        if webhook is not None:
            from vlj_edge.runtime.sinks.webhook import Webhook

            outlets.append(SinkQueue("webhook", Webhook(webhook), retry=True))
        if say is not None:
            from vlj_edge.runtime.sinks.speech import Speech

            outlets.append(SinkQueue("say", Speech(say), capacity=1))  # what is not spoken in time is old
    except BaseException:
        for outlet in outlets:
            outlet.close()
        raise
    return outlets


def tell_missed(outlets: list[SinkQueue]) -> None:
    """On stderr, what did not arrive."""
    for outlet in outlets:
        state = outlet.state()
        if state["missed"]:
            why = f": {state['last_error']}" if state["last_error"] else ""
            click.echo(f"warning: {state['name']} missed {state['missed']} of the texts{why}", err=True)
