"""Several sources that share one model: the set of channels, and how it is changed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from vlj_edge.errors import VljEdgeError

from ..alerts.journal import AlertJournal
from ..alerts.settings import Alert
from ..alerts.tell import Around
from ..alerts.watch import AlertWatch
from ..embedding.labels import LabelBank
from ..embedding.own_labels import OwnLabels, offered_labels
from ..model import Model
from ..sinks.alert_event import AlertEvent
from ..sinks.base import Event
from ..sinks.queue import SinkQueue, close_all
from ..words.words import Words
from .channel import Channel
from .channel_context import ChannelContext, OnError, OnReport, ReportedWindow
from .learned import LearnedNoise
from .settings import SourceSettings, by_name


class Station:
    """Channels that share one model, and the sinks for the events of all channels.

    Args:
        sources: with names that are unique.
        on_event: called with every event, before the sinks get it, by the channel's thread.
        on_report: called with every window, by the thread that encodes.
        on_error: called with a channel's name and one line when it ends because of an error, by the channel's thread.
        keep_trying: wait for sources that cannot be opened yet.
        real_time: play recordings at the pace of their times, and skip windows when they come too fast.
        learned: what the gates have learned of each source; None: nothing yet.
        alerts: what to watch for.
        on_alert: called with what is to be told of an alert, before the sinks get it, by the thread that encodes.
        journal: keeps alerts, over a restart; None: in memory.

    Attributes:
        alerts: the AlertWatch.
        channels: by name; replaced as a whole when the configuration changes.

    Raises:
        VljEdgeError: two sources have the same name, or the model cannot be used with the settings of one.

    Example:
        >>> import vlj_edge
        >>> from vlj_edge.runtime.service.settings import SourceSettings
        >>> events = []
        >>> with vlj_edge.load() as model:
        ...     station = Station(model, [SourceSettings("demo", "examples/media/demo.mp4")], on_event=events.append)
        ...     station.start()
        ...     station.wait()
        ...     station.stop()
        >>> events[0].source, events[0].narration.text
        ('demo', 'the robot arm stays still')
    """

    def __init__(
        self,
        model: Model,
        sources: Sequence[SourceSettings],
        sinks: Sequence[SinkQueue] = (),
        on_event: Callable[[Event], None] = lambda event: None,
        keep_trying: bool = False,
        on_report: OnReport = lambda window: None,
        on_error: OnError = lambda name, error: None,
        real_time: bool = False,
        learned: LearnedNoise | None = None,
        alerts: Sequence[Alert] = (),
        on_alert: Callable[[AlertEvent], None] = lambda event: None,
        journal: AlertJournal | None = None,
    ) -> None:
        self.model, self.sinks, self._on_event = model, list(sinks), on_event
        self._on_alert, self._on_report = on_alert, on_report

        @lru_cache(maxsize=16)
        def label_bank(labels: tuple[str, ...]) -> LabelBank | OwnLabels:
            return offered_labels(model, labels)

        self.learned = learned or LearnedNoise(model.manifest)
        self.alerts = AlertWatch(model, self._emit_alert, journal, Around(self.latest_image, self._words_of))
        self.channels: dict[str, Channel] = {}
        self._context = ChannelContext(
            model,
            label_bank,
            self._emit,
            self._report,
            on_error,
            keep_trying,
            real_time,
            self.learned.of,
            self.alerts.wants,
            self.alerts.end,
        )
        self.check(sources)
        _check_confirm(alerts, sources)
        self.alerts.apply(alerts, _queries(sources))
        self.channels = {name: Channel(each, self._context) for name, each in by_name(sources).items()}
        self._changing, self._stopped = threading.Lock(), False

    def check(self, sources: Sequence[SourceSettings]) -> None:
        """Check settings, of sources that are not opened.

        Raises:
            VljEdgeError: two sources have the same name, or the model cannot be used with the settings of one.
        """
        for name, each in by_name(sources).items():
            try:
                self._context.check(each)
            except VljEdgeError as error:
                raise VljEdgeError(f"{name}: {error}") from None

    def start(self) -> None:
        """Start all channels."""
        for sink in self.sinks:
            sink.announce_sources(self.channels)
            self.alerts.journal.attach(sink, time.time())
        self._announce_alerts(self.alerts.restore())
        for channel in self.channels.values():
            channel.start()

    def wait(self, pause: float = 0.2) -> None:
        """Return once all channels have ended; checks every `pause` seconds, so that Ctrl-C is handled."""
        while not all(channel.join(pause) for channel in self.channels.values()):
            pass

    def reconfigure(self, sources: Sequence[SourceSettings], alerts: Sequence[Alert] = ()) -> None:
        """Apply a new configuration: stop sources that it does not name, start new ones, change settings that differ.

        A source of which something else is read (another address, part or rotation) is stopped and started.

        Raises:
            VljEdgeError: settings that cannot be used, and everything goes on as before; or the system has no thread
                left for a source, and the next call starts it.
        """
        self.check(sources)
        _check_confirm(alerts, sources)
        settings = by_name(sources)
        with self._changing:
            if self._stopped:
                return
            for sink in self.sinks:
                sink.announce_sources(settings)
            self._announce_alerts(self.alerts.apply(alerts, _queries(sources)))
            kept = {
                name: channel
                for name, channel in self.channels.items()
                if name in settings and settings[name].reads_the_same(channel.settings)
            }
            _stop_all(channel for name, channel in self.channels.items() if name not in kept)
            self.channels = {name: kept.get(name) or Channel(each, self._context) for name, each in settings.items()}
            for name, channel in self.channels.items():
                if not channel.started:
                    channel.start()
                elif settings[name] != channel.settings:
                    channel.apply(settings[name])

    def stuck_source(self) -> str | None:
        """Return the name of a source that gives frames but no windows, or None."""
        return next((name for name, channel in self.channels.items() if channel.is_stuck()), None)

    def stop(self) -> None:
        """Stop all channels, then close the sinks, which deliver their queues. May be called twice."""
        with self._changing:
            self._stopped = True
            _stop_all(self.channels.values())
        self.alerts.close()
        close_all(self.sinks)

    def _report(self, window: ReportedWindow) -> None:
        settings, report = window.settings, window.report
        at = report.window.centre + window.offset
        self.alerts.add(settings.name, settings.query, at, report.embedding, window.image)
        self._on_report(window)

    def latest_image(self, name: str) -> npt.NDArray[np.uint8] | None:
        """Return the newest frame of a source, uint8 [height, width, 3] BGR; None: it is not there, or has none yet."""
        channel = self.channels.get(name)
        return None if channel is None else channel.latest_image()

    def _words_of(self, name: str) -> Words | None:
        channel = self.channels.get(name)
        return None if channel is None else channel.words

    def _emit_alert(self, event: AlertEvent) -> None:
        self._on_alert(event)
        for sink in self.sinks:
            sink.put(event)

    def _announce_alerts(self, gone: Sequence[tuple[str, str]]) -> None:
        watched = [(each.alert, each.source, each.state.phase == "firing") for each in self.alerts.statuses()]
        for sink in self.sinks:
            sink.announce_alerts(watched, gone)

    def _emit(self, event: Event) -> None:
        self._on_event(event)
        for sink in self.sinks:
            sink.put(event)


def _check_confirm(alerts: Sequence[Alert], sources: Iterable[SourceSettings]) -> None:
    silent = [source.name for source in sources if source.words is None]
    for alert in alerts:
        nobody = [name for name in silent if alert.watches(name)] if alert.confirm is not None else []
        if nobody:
            raise VljEdgeError(
                f"alert '{alert.name}' has a question, and {nobody[0]} has no words to ask: add --words URL, or words ="
                " in the configuration"
            )


def _queries(sources: Iterable[SourceSettings]) -> dict[str, str | None]:
    return {source.name: source.query for source in sources}


def _stop_all(channels: Iterable[Channel]) -> None:
    """Stop all channels at the same time, so that a hanging one delays no other."""
    stopping = list(channels)
    if not stopping:
        return
    try:
        with ThreadPoolExecutor(len(stopping), "stop") as pool:
            list(pool.map(Channel.stop, stopping))
    except RuntimeError:  # the system has no thread left
        for channel in stopping:
            channel.stop()
