"""Whether a bundle may leave out visual tokens before a camera: how long its texts are right with all tokens of a clip,
and with those that carry news."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from ..gating.clip_window import Embedding, RecordedWindow
from ..gating.kept_tokens import TokenSelector
from ..model import Model
from .figures import QUANTILES, resampled, total
from .record import Recording
from .search import ByBlock

_MOST_LOST = 0.01  # of the time in which the text is right with all tokens: a text may be lost to chance
_SURELY_LOST = 0.03  # the same, at the lower end of the interval


@dataclass(frozen=True)
class TokenTrial:
    """What the gates in use, or proposed, do with embeddings of all tokens and of those that carry news.

    Attributes:
        share: of the tokens that carry news, the mean over windows, 0..1.
        cosine: of both embeddings, the mean over windows.
        all_tokens, kept_tokens: figures by block.
    """

    share: float
    cosine: float
    all_tokens: ByBlock
    kept_tokens: ByBlock

    @property
    def difference(self) -> float:
        """What is gained (above 0) or lost of the share of the time in which the text is right."""
        return total(self.kept_tokens).quality - total(self.all_tokens).quality

    @property
    def interval(self) -> tuple[float, float]:
        """The bootstrap interval of 95 % of the difference, over blocks."""
        kept, whole = (resampled(found).T for found in (self.kept_tokens, self.all_tokens))
        low, high = np.quantile(kept[2] / kept[1] - whole[2] / whole[1], QUANTILES)  # agreed / judged
        return float(low), float(high)

    @property
    def holds(self) -> bool:
        """Whether tokens are left out at next to no loss."""
        whole = total(self.all_tokens).quality
        saves = self.share < 1
        return saves and self.difference >= -_MOST_LOST * whole and self.interval[0] >= -_SURELY_LOST * whole

    @property
    def proposed(self) -> Literal["all", "auto"]:
        """What is to be computed where nothing is asked for."""
        return "auto" if self.holds else "all"

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {
            "proposed": self.proposed,
            "share": round(self.share, 4),
            "cosine": round(self.cosine, 4),
            "quality_all": round(total(self.all_tokens).quality, 4),
            "quality_auto": round(total(self.kept_tokens).quality, 4),
            "difference": round(self.difference, 4),
            "difference_interval": [round(value, 4) for value in self.interval],
        }


def compare_tokens(recording: Recording, measure: Callable[[Recording], ByBlock]) -> TokenTrial | None:
    """Measure a recording with the embeddings of all tokens, and with those of the tokens that carry news; None: it has
    none of these."""
    pairs = [(window, *window.of_kept) for window in recording.windows if window.of_kept is not None]
    if not pairs:
        return None
    kept = Recording([replace(window, embedding=embedding) for window, embedding, _ in pairs], recording.full)
    share = float(np.mean([share for *_, share in pairs]))
    cosine = float(np.mean([window.embedding @ embedding for window, embedding, _ in pairs]))
    return TokenTrial(share, cosine, measure(recording), measure(kept))


class KeptEncoder:
    """Encodes a window once more, with the tokens that carry news.

    Args:
        model: of a bundle that was exported with --token-shares.
    """

    def __init__(self, model: Model) -> None:
        self._model, self._query = model, model.chain.query(None)

    def __call__(self, window: RecordedWindow) -> tuple[Embedding, float]:
        """Return the embedding of a window of Model.see(), and the share of the tokens that it was computed from."""
        manifest = self._model.manifest
        assert manifest.tokens is not None
        chosen = TokenSelector(manifest.gates.scene, manifest.tokens, window.noise, "auto").choose(window.frames)
        if chosen is None:
            return window.embedding, 1.0
        [encoded] = self._model.chain.encode(window.frames, [self._query], kept=chosen)
        return encoded.embedding, len(chosen) / manifest.tokens.counts[-1]
