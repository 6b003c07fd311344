"""The state of one run over a source: its rest detector, scene gate, budget, counts and latest embeddings."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from vlj_edge.bundle import GateSettings
from vlj_edge.decisions import Decision
from vlj_edge.errors import VljEdgeError
from vlj_edge.results import Totals, Window

from .chain import Chain, KeptTokens
from .gating.budget import Budget
from .gating.checks import Checks
from .gating.clip_window import ClipWindow, Encoded
from .gating.kept_tokens import Choice, TokenSelector
from .gating.known import Resemblance
from .gating.meaning import Change
from .gating.picture_noise import PictureNoise
from .gating.rest import RestDetector
from .gating.scene import SceneGate
from .stream.cancellation import Cancellation
from .video.preprocess import SampledFrame
from .video.source import Image, Source
from .vision import Query
from .words.pictures import KeptPictures

_LOG = logging.getLogger("vlj_edge")


class RunState:
    """The state of one run: its source, rest detector, scene gate, budget, queries, counts and cancellation."""

    def __init__(
        self,
        chain: Chain,
        source: Source,
        queries: Sequence[Query | None],
        gates: GateSettings,
        budget: Budget,
        on_device: bool,
        noise: PictureNoise | None = None,
        tokens: Choice = "all",
    ) -> None:
        clip = chain.manifest.clip
        self.source, self.totals, self.cancellation = source, Totals(), Cancellation()
        self._chain, self._queries, self._on_device = chain, queries, on_device
        self.rest, self._rate = RestDetector(gates.rest, clip.frames_per_second, noise), clip.frames_per_second
        self.scene = SceneGate(gates.scene, self.rest.noise)
        self._choose_tokens: Callable[[Sequence[SampledFrame]], KeptTokens | None] | None = None
        if chain.manifest.tokens is not None and tokens != "all":
            if not chain.takes_parts:
                raise VljEdgeError(
                    f"the TensorRT engines of {chain.directory} were built for all tokens of a clip: build them again"
                    f" (vlj-edge build {chain.directory}), or give --tokens all"
                )
            selector = TokenSelector(gates.scene, chain.manifest.tokens, self.rest.noise, tokens)
            self._choose_tokens = chain.timed("token choice", selector.choose)
        self._has_changed = chain.timed("scene gate", self.scene.changed)
        self.budget = budget
        self.encodings: list[Decision] = []  # of the scene gate, for the present window and what came with it
        self._latest: list[Encoded] = []
        self.pictures: KeptPictures | None = None  # where a model elsewhere is shown them
        self.resemblance: Resemblance | None = None  # to what the model knows, where that is judged
        self.wants: Callable[[Window], bool] | None = None  # whether somebody needs the embedding of a window
        self._warned = False

    def encode(self, frames: Sequence[SampledFrame]) -> tuple[list[Encoded], bool]:
        """Return one embedding a query, and whether the encoder ran for it: while the scene gate finds the picture
        unchanged, the last embeddings are repeated."""
        is_new = self._has_changed(frames)
        if is_new:
            kept = self._kept_tokens(frames)
            self._latest = self._chain.encode(frames, self._queries, self._on_device, self.cancellation, kept)
            self.budget.take_encode()
            self.totals.encoder_runs += 1
            self.totals.predictor_runs += len(self._queries) if self._chain.manifest.takes_query else 0
        return self._latest, is_new

    def pictures_of(self, frames: Sequence[SampledFrame]) -> tuple[Image, ...]:
        """Return what a model elsewhere is shown of a window, uint8 [height, width, 3] BGR; nothing without one."""
        return () if self.pictures is None else self.pictures.of(frames)

    def _kept_tokens(self, frames: Sequence[SampledFrame]) -> KeptTokens | None:
        tokens = self._chain.manifest.tokens
        if tokens is None:
            return None
        kept, whole = None if self._choose_tokens is None else self._choose_tokens(frames), tokens.counts[-1]
        count = whole if kept is None else len(kept)
        self.totals.tokens += whole
        self.totals.tokens_kept += count
        if self._choose_tokens is not None and self._chain.probe is not None:
            self._chain.probe.kept_tokens.append(count / whole)
        return kept

    def encode_within_budget(self, window: Window, frames: Sequence[SampledFrame]) -> tuple[list[Encoded], bool]:
        """As encode(); the last embeddings are also repeated while the budget allows no run of the encoder."""
        if self._latest and not self.budget.allows_encode(window.centre, Checks()):
            self.budget.leave_out_look()
            return self._latest, False
        return self.encode(frames)

    def decode(self, change: Change, last: str) -> str:
        """Return the bundle's own text of a change; empty if it makes no texts.

        Args:
            last: the text before, see Chain.decode().
        """
        if not self._chain.makes_texts:
            return ""
        text, runs = self._chain.decode(change.embedding if change.on_device is None else change.on_device, last)
        self.totals.decoder_runs += 1
        self.totals.decoder_tokens += runs
        return text

    def encode_wanted(self, window: ClipWindow) -> None:
        """Encode a window that no gate needs, if somebody else does and the budget allows it."""
        if self.wants is None or window.is_encoded or not self.wants(window.times):
            return
        if self.budget.allows_encode(window.time, Checks()):
            _ = window.encoded

    def count_left_out(self) -> None:
        """Set the totals to what the budget has left out so far."""
        self.totals.changes_left_out = self.budget.changes_left_out
        self.totals.looks_left_out = self.budget.looks_left_out

    def at_rest(self, frames: Sequence[SampledFrame]) -> tuple[bool | None, bool, bool]:
        """Return whether the picture stands still in the middle of the clip (None if that is not detected), whether
        it is cut to another picture, and whether something in it begins or stops moving while something else goes
        on."""
        at_rest, rest = self.rest.at_rest(frames), self.rest
        return at_rest, bool(at_rest) and rest.cut, at_rest is False and rest.turned_in_part

    def warn_of_slow_source(self, frames_per_second: float) -> None:
        """Log, once, that the source has fewer frames than the clips."""
        if not self._warned:
            _LOG.warning(
                "%s gives %.3g frames a second and the model wants %.3g: what lies between is blended, and quick"
                " movements are missed",
                self.source.shown,
                frames_per_second,
                self._rate,
            )
        self._warned = True

    def count_dropped_window(self) -> None:
        """Count a window that a newer one replaced."""
        self.totals.windows_dropped += 1
