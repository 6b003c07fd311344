"""Which visual tokens of a clip carry news: the first tubelet of every place, and later ones where the picture changed.

A visual token is a tubelet: one place of the picture over a few frames. Before a fixed camera most tubelets repeat the
one before them, and V-JEPA encoders are trained on clips from which most tubelets were dropped (arXiv 2506.09985).
So an engine may be given those alone that differ from what was last kept at their place, each with the
position that it has in the whole clip.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from vlj_edge import bundle
from vlj_edge.errors import WrongCall

from ..video.preprocess import THUMBNAIL, SampledFrame
from .picture_noise import Cells, PictureNoise, in_light_of, smoothed

Choice: TypeAlias = float | Literal["all", "auto"]  # a share, 0..1, of the tokens; or as many as carry news


def check_choice(choice: Choice | None, manifest: bundle.Manifest) -> Choice:
    """Return the choice of a model's tokens; None: the bundle's.

    Raises:
        VljEdgeError: the bundle takes all tokens alone, or it is no choice.
    """
    if choice is None:
        return "all" if manifest.tokens is None else manifest.tokens.default
    if choice == "all":
        return choice
    if choice != "auto" and not (isinstance(choice, float | int) and 0 < choice <= 1):
        raise WrongCall(f"tokens are {choice!r}: give all, auto, or a share above 0 and up to 1")
    if manifest.tokens is None:
        can = manifest.family == "vl-jepa"
        remedy = (
            "export it with --token-shares 25,37,50,75" if can else f"leave --tokens out, as for all {manifest.family}"
        )
        raise WrongCall(f"this bundle takes all tokens of a clip: {remedy}")
    return choice


class TokenSelector:
    """Chooses tokens clip by clip, beyond the noise that the stream has.

    Args:
        settings: from which difference on a cell has changed (the scene gate's).
        noise: of the stream, learned elsewhere (RestDetector).
        choice: a share: always as many tokens, at least, the most changed ones; "auto": those that carry news, filled
            up to the next of the counts; "all": all.
    """

    def __init__(
        self, settings: bundle.SceneGateSettings, tokens: bundle.Tokens, noise: PictureNoise, choice: Choice
    ) -> None:
        self._settings, self._tokens, self._noise, self._choice = settings, tokens, noise, choice
        self._bounds = _bounds(tokens.side)

    def choose(self, frames: Sequence[SampledFrame]) -> npt.NDArray[np.int64] | None:
        """Return the kept tokens of a clip, ascending, as many as one of the counts; None: all.

        Args:
            frames: the sampled frames of the clip, oldest first.
        """
        if self._choice == "all":
            return None
        news, counts = self.news(frames).ravel(), self._tokens.counts
        wanted = int((news >= 1).sum()) if self._choice == "auto" else ceil(self._choice * len(news))
        count = next(count for count in counts if count >= wanted)
        if count == len(news):
            return None
        kept: npt.NDArray[np.int64] = np.sort(np.argsort(-news, kind="stable")[:count])
        return kept

    def news(self, frames: Sequence[SampledFrame]) -> npt.NDArray[np.float32]:
        """Return float32 [slots, side, side]: how far each tubelet differs from what was last kept at its place, in
        units of the difference from which on it has changed; infinite in the first slot."""
        cells = smoothed(np.stack([frame.luminance for frame in frames]))
        side = self._tokens.side
        slots = np.split(cells, range(self._tokens.tubelet, len(cells), self._tokens.tubelet))
        limit = self._noise.limit(self._settings.changed, self._settings.times_noise)
        kept, found = slots[0], [np.full((side, side), np.inf, np.float32)]
        for slot in slots[1:]:
            differences = np.abs(slot - in_light_of(slot, kept))
            by_place = self._largest(differences.max(0) / limit)
            found.append(by_place)
            kept = np.where(self._spread(by_place >= 1), slot, kept)
        return np.stack(found)

    def _largest(self, cells: Cells) -> npt.NDArray[np.float32]:
        """Return [side, side]: the largest value among the cells that a place touches."""
        for axis in (0, 1):
            past_the_end = np.zeros_like(cells.take([0], axis))  # reduceat takes no index behind the last cell
            cells = np.maximum.reduceat(np.concatenate((cells, past_the_end), axis), self._bounds, axis)
            cells = cells.take(range(0, len(self._bounds), 2), axis)
        return cells

    def _spread(self, places: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Return [THUMBNAIL, THUMBNAIL]: the cells whose centre lies in one of the places."""
        of_cell = (2 * np.arange(THUMBNAIL) + 1) * self._tokens.side // (2 * THUMBNAIL)
        cells: npt.NDArray[np.bool_] = places[np.ix_(of_cell, of_cell)]
        return cells


def _bounds(side: int) -> npt.NDArray[np.int64]:
    """Return the first cell and the one after the last that each of `side` places touches along one axis, in turn."""
    edges = np.arange(side + 1) * THUMBNAIL
    return np.stack((edges[:-1] // side, -(-edges[1:] // side)), axis=1).ravel()
