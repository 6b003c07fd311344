"""The pictures that are shown to a model: small copies of what the windows sampled, and those that show a change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import PIL.Image

from ..video.preprocess import SampledFrame
from ..video.source import Image

_CELLS = 32  # a side, of what is compared


class KeptPictures:
    """Keeps a smaller copy of each frame that is cropped for the encoder, for as long as the cropped frame exists.

    Args:
        longest: pixels of the longer side of the copies.
    """

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._kept: WeakKeyDictionary[SampledFrame, Image] = WeakKeyDictionary()

    def cropping(self, crop: Callable[[Image], SampledFrame]) -> Callable[[Image], SampledFrame]:
        """Return a preprocessor's crop(), of frames of uint8 [height, width, 3] BGR, that keeps them."""

        def crop_and_keep(image: Image) -> SampledFrame:
            frame = crop(image)
            self._kept[frame] = smaller(image, self._longest)
            return frame

        return crop_and_keep

    def of(self, frames: Sequence[SampledFrame]) -> tuple[Image, ...]:
        """Return the copies, uint8 [height, width, 3] BGR, of frames that were cropped."""
        return tuple(self._kept[frame] for frame in frames)


def smaller(image: Image, longest: int) -> Image:
    """Return an image, uint8 [height, width, 3], whose longer side has at most so many pixels; a copy in any case."""
    height, width = image.shape[:2]
    if max(height, width) <= longest:
        return np.array(image)
    scale = longest / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.array(PIL.Image.fromarray(image).resize(size, PIL.Image.Resampling.BILINEAR, reducing_gap=2.0))


def choose_pictures(pictures: Sequence[Image], count: int) -> list[int]:
    """Return the positions of at most `count` pictures that show a change, in order.

    They are the last, the first, and then one by one the picture that differs most from those chosen so far. None is
    the same as another one: of pictures that do not differ at all there is one.

    Args:
        pictures: uint8 [height, width, 3], in order of time, at least one.
    """
    small = np.stack([_cells(picture) for picture in pictures])
    chosen = [len(pictures) - 1]
    distances = _distances(small, chosen[0])
    while len(chosen) < min(count, len(pictures)):
        farthest = 0 if len(chosen) == 1 and distances[0] > 0 else int(distances.argmax())
        if distances[farthest] == 0:
            break
        chosen.append(farthest)
        distances = np.minimum(distances, _distances(small, farthest))
    return sorted(chosen)


def _cells(picture: Image) -> npt.NDArray[np.float32]:
    whole = PIL.Image.fromarray(picture)
    return np.asarray(whole.resize((_CELLS, _CELLS), PIL.Image.Resampling.BOX)).astype(np.float32)


def _distances(small: npt.NDArray[np.float32], to: int) -> npt.NDArray[np.float32]:
    distances: npt.NDArray[np.float32] = np.square(small - small[to]).mean(axis=(1, 2, 3))
    return distances
