"""Frames to the encoder's input on the card: the processor copies a frame into pinned memory, and that is all.

What comes out is what runtime/video/preprocess.py makes of the same frame, bit for bit (Pillow 13 takes pictures that
are taller than wide in the other order: one level of 255 apart). The scene gate's thumbnail comes back, 4 KB a frame.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vlj_edge.cuda import kernels
from vlj_edge.presets import Preprocess

from ...video.preprocess import THUMBNAIL, crop_box, normalisation
from .device import Buffer
from .engine import Kept, Session, TrtEngine, session
from .kernels import Kernels


@dataclass(frozen=True, eq=False)
class GpuFrame:
    """One sampled frame as the scene gate sees it, its pixels where the encoder wants them. Compared by identity.

    Attributes:
        luminance: float32 [THUMBNAIL, THUMBNAIL], 0..1.
        pixels: [3, crop, crop], normalised, on the card.
    """

    luminance: npt.NDArray[np.float32]
    pixels: Kept


@dataclass(frozen=True)
class _FrameSize:
    """What a size of frame needs: its memory, and how it is weighed."""

    pinned: npt.NDArray[np.uint8]
    frame: Buffer
    across: Buffer
    down: Buffer
    launch: kernels.Launch


class GpuPreprocessor:
    """The encoder's `pixels` input on the card and which picture each of its slots holds. See preprocess.ClipPixels.

    Raises:
        VljEdgeError: the kernels do not serve this card.
    """

    def __init__(self, session: Session, encoder: TrtEngine, preprocess: Preprocess) -> None:
        self._session, self._preprocess = session, preprocess
        session.enter()
        device = session.device
        self._kernels, self._stream = Kernels(device), device.stream()
        [spec] = encoder.spec.inputs
        self._dtype, self._frames = np.dtype(spec.dtype).name, spec.shape[1]
        self._clip = encoder.buffers[spec.name]
        self._encoder_stream = encoder.stream
        encoder.bind(spec.name, self._clip)  # the host has no part in it any more
        self._slot = self._clip.size // self._frames
        self._held: list[GpuFrame | None] = [None] * self._frames
        self._spare: list[Buffer] = []
        self._sizes: dict[tuple[int, ...], _FrameSize] = {}
        side = preprocess.crop
        self._norm = self._constant(normalisation(preprocess))
        weights = kernels.resize_weights(side, 0, side, THUMBNAIL, box=True)
        self._weights, self._thumbnail = self._constant(weights), kernels.luminance(side, weights)
        self._bytes = device.allocate(3 * side * side)
        self._cells = device.allocate(4 * THUMBNAIL * THUMBNAIL)
        self._read = device.pinned((THUMBNAIL, THUMBNAIL), np.float32)
        self._lock = threading.Lock()  # the sources of a shared model see in threads of their own

    def see(self, image: npt.NDArray[np.uint8]) -> GpuFrame:
        """Resize the short side, crop the centre, normalise, and make the thumbnail.

        Args:
            image: uint8 [height, width, 3], BGR as OpenCV gives it.

        Raises:
            VljEdgeError: a frame that the kernel does not serve, or the card refuses.
        """
        device, stream = self._session.device, self._stream
        self._session.enter()
        with self._lock:
            size = self._sizes.get(image.shape) or self._new_size(image.shape)
            pixels = Kept(self._spare.pop() if self._spare else device.allocate(self._slot), self._spare)
            size.pinned[...] = image
            device.copy_in(size.frame, size.pinned, stream)
            given = (size.frame, size.across, size.down, self._norm)
            self._kernels.start(size.launch, given, (pixels.buffer, self._bytes), stream)
            self._kernels.start(self._thumbnail, (self._bytes, self._weights), (self._cells,), stream)
            device.copy_out(self._read, self._cells, stream)
            device.synchronise(stream)
            return GpuFrame(self._read.copy(), pixels)

    def fill(self, pictures: Sequence[GpuFrame]) -> None:
        """Make the slots hold `pictures`, in order, before the encoder's next run. All is copied within the card, and
        done before the host has that run's embedding: until then the caller holds on to the pictures."""
        self._session.enter()
        for number, picture in enumerate(pictures):
            if self._held[number] is not picture:
                target = self._clip.part(number * self._slot, self._slot)
                self._session.device.copy(target, picture.pixels.buffer, self._encoder_stream)
                self._held[number] = picture

    def _new_size(self, shape: tuple[int, ...]) -> _FrameSize:
        height, width, _ = shape
        left, top, right, bottom = crop_box(width, height, self._preprocess)
        across = kernels.resize_weights(width, left, right, self._preprocess.crop)
        down = kernels.resize_weights(height, top, bottom, self._preprocess.crop)
        launch = kernels.pixels("bgr", self._dtype, stride=3 * width, height=height, across=across, down=down)
        device = self._session.device
        frame = device.allocate(launch.inputs[0])
        size = _FrameSize(device.pinned(shape, np.uint8), frame, self._constant(across), self._constant(down), launch)
        self._sizes[shape] = size
        return size

    def _constant(self, values: npt.NDArray[np.generic]) -> Buffer:
        device = self._session.device
        buffer, pinned = device.allocate(values.nbytes), device.pinned(values.shape, values.dtype)
        pinned[...] = values
        device.copy_in(buffer, pinned, self._stream)
        device.synchronise(self._stream)
        return buffer


def gpu_preprocessor(encoder: TrtEngine, preprocess: Preprocess) -> GpuPreprocessor:
    """For an encoder of this process's card.

    Raises:
        VljEdgeError: the kernels do not serve the card.
    """
    return GpuPreprocessor(session(), encoder, preprocess)
