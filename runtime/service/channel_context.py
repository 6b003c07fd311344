"""What the channels of a station have in common, and what they report to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from vlj_edge.bundle import GateSettings
from vlj_edge.bundle.gate_ranges import check_gates
from vlj_edge.results import WindowReport

from ..embedding.labels import LabelBank
from ..embedding.own_labels import OwnLabels
from ..gating.meaning import MeaningGate
from ..gating.stream_noise import StreamNoise
from ..model import Model
from ..sinks.base import Event
from .settings import SourceSettings

OnReport: TypeAlias = "Callable[[ReportedWindow], None]"
OnError: TypeAlias = "Callable[[str, str], None]"


@dataclass(frozen=True)
class ReportedWindow:
    """What the gates decided about a window of a source.

    Attributes:
        settings: of the run.
        clock: unix time at which it was reported.
        report: its times are from the first frame of the run.
        offset: seconds from the first frame of the source to that of the run.
        live: of a camera, not of a recording.
        image: returns the newest frame, uint8 [height, width, 3] BGR, or None.
    """

    settings: SourceSettings
    clock: float
    report: WindowReport
    offset: float
    live: bool
    image: Callable[[], npt.NDArray[np.uint8] | None]


@dataclass(frozen=True)
class ChannelContext:
    """What all channels of a station have in common.

    Attributes:
        label_bank: returns what windows are compared with, by labels.
        on_event: called with every event, by the channel's thread.
        on_report: called with every window, by the thread that encodes.
        on_error: called with the channel's name and one line when it ends because of an error, by the channel's thread.
        keep_trying: wait for sources that cannot be opened yet.
        real_time: play recordings at the pace of their times.
        noise_of: returns what the gates have learned of a source.
        wants: returns whether on_report needs the embedding of a window of a source, at that time of the source.
        on_end: called with the name of a source that has ended by itself.
    """

    model: Model
    label_bank: Callable[[tuple[str, ...]], LabelBank | OwnLabels]
    on_event: Callable[[Event], None]
    on_report: OnReport
    on_error: OnError
    keep_trying: bool
    real_time: bool = False
    noise_of: Callable[[SourceSettings], StreamNoise] = lambda settings: StreamNoise()
    wants: Callable[[str, float], bool] = lambda source, at: False
    on_end: Callable[[str], None] = lambda source: None

    def check(self, settings: SourceSettings) -> None:
        """Raises VljEdgeError: the model cannot be used with these settings, or gives two labels the same embedding."""
        check_settings(self.model, settings.query, settings.gates)
        if settings.labels:
            self.label_bank(settings.labels)


def check_settings(model: Model, query: str | None, gates: GateSettings | None) -> None:
    """Check arguments of Model.narrate() without starting a run.

    Raises:
        VljEdgeError: narrate() would refuse them.
    """
    if query is not None:
        model.chain.query(query)
    if gates is not None:
        check_gates(gates)
        MeaningGate(gates.meaning)
