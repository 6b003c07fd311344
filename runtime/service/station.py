"""Several sources at once: one chain, in fair turns; each has gates, settings and numbers of its own.

channel -> source -> Tap -> Model.narrate -> Event -> outlets

A channel outlives passes over its source: its settings may change, and its camera may be lost and come back. Each time
a new pass begins, with gates that know nothing, so that something is said at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vlj_edge.errors import VljEdgeError

from ..model import Model
from ..sinks.base import Event
from ..sinks.queue import SinkQueue
from .channel import Channel, See, SourceSettings, label_bank_of

_PATIENCE = 10.0  # seconds for a channel's thread to end


class Station:
    """Channels that share one model, and the outlets that all their events go to.

    Args:
        model: what all sources are narrated with.
        heard: is told of every event, by the channel's thread, before the outlets are.
        keep_trying: sources that are not there yet are waited for.
        see: is told of every window, with what was wanted and the unix time, by the thread that encodes.

    Raises:
        VljEdgeError: two sources have one name.
    """

    def __init__(
        self,
        model: Model,
        sources: Sequence[SourceSettings],
        outlets: Sequence[SinkQueue] = (),
        heard: Callable[[Event], None] = lambda event: None,
        keep_trying: bool = False,
        see: See = lambda wanted, clock, look: None,
    ) -> None:
        _ = _by_name(sources)
        self.model, self.outlets, self._heard = model, list(outlets), heard
        self._keep_trying, self._see = keep_trying, see
        self.channels = {wanted.name: Channel(wanted, model, self._emit, keep_trying, see) for wanted in sources}

    def start(self) -> None:
        """Begin with all sources."""
        for channel in self.channels.values():
            channel.start()

    def wait(self, pause: float = 0.2) -> None:
        """Until all sources have ended. May be interrupted."""
        while not all(channel.join(pause) for channel in self.channels.values()):
            pass

    def become(self, sources: Sequence[SourceSettings]) -> None:
        """Go on with other sources: those that are no longer named are ended, new ones begin, and where only settings
        differ they are changed.

        Raises:
            VljEdgeError: settings that cannot be; everything goes on as before.
        """
        wanted = _by_name(sources)
        for each in sources:
            self.model.validate(each.query, each.gates)
            _ = each.labels and label_bank_of(self.model, each.labels)
        for name, channel in list(self.channels.items()):
            if name not in wanted or wanted[name].uri != channel.wanted.uri:
                channel.stop()
                del self.channels[name]
        for name, each in wanted.items():
            if name not in self.channels:
                self.channels[name] = Channel(each, self.model, self._emit, self._keep_trying, self._see)
                self.channels[name].start()
            elif each != self.channels[name].wanted:
                self.channels[name].settle(each)

    def sick(self) -> str | None:
        """The name of a source that has pictures and makes nothing of them; None: all is well."""
        return next((name for name, channel in self.channels.items() if channel.stuck()), None)

    def stop(self) -> None:
        """End all sources, then the outlets, which hand on what they hold. May be called twice."""
        for channel in self.channels.values():
            channel.stop()
        for channel in self.channels.values():
            channel.join(_PATIENCE)
        for outlet in self.outlets:
            outlet.close()

    def _emit(self, event: Event) -> None:
        self._heard(event)
        for outlet in self.outlets:
            outlet.put(event)


def _by_name(sources: Sequence[SourceSettings]) -> dict[str, SourceSettings]:
    found: dict[str, SourceSettings] = {}
    for wanted in sources:
        if wanted.name in found:
            raise VljEdgeError(f"two sources are called '{wanted.name}': name each differently, as NAME=SOURCE")
        found[wanted.name] = wanted
    return found
