"""Preprocessing on the GPU: the CPU only copies a frame into pinned memory and reads back the scene gate's thumbnail.

The result is bit-identical to runtime/video/preprocess.py, except for frames that are taller than wide: Pillow 13
resizes those in the opposite order, and a value can differ by one level of 255.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vlj_edge.cuda.launch import Launch
from vlj_edge.cuda.pixels import luminance_launch, pixels_launch, resize_weights
from vlj_edge.errors import VljEdgeError
from vlj_edge.presets import Preprocess

from ...video.preprocess import THUMBNAIL, crop_box, normalisation
from .device import Buffer
from .engine import DeviceOutput, Session, TrtEngine, session
from .kernels import Kernels


@dataclass(frozen=True, eq=False)
class GpuFrame:
    """One sampled frame: its thumbnail for the scene gate, and its pixels in GPU memory. Compared by identity.

    Attributes:
        luminance: float32 [THUMBNAIL, THUMBNAIL], 0..1.
        pixels: [3, crop, crop], normalised, of the type of the encoder's input.
    """

    luminance: npt.NDArray[np.float32]
    pixels: DeviceOutput


@dataclass(frozen=True)
class _FrameSize:
    """Buffers, resize weights and launch for frames of one size."""

    pinned: npt.NDArray[np.uint8]
    frame: Buffer
    across: Buffer
    down: Buffer
    launch: Launch


class GpuPreprocessor:
    """Fills the encoder's input [1, frames, 3, crop, crop] in GPU memory. It records which frame each slot of the
    input holds, and copies only new ones.

    Raises:
        VljEdgeError: the kernels were not compiled for this GPU.
    """

    def __init__(self, session: Session, encoder: TrtEngine, preprocess: Preprocess) -> None:
        self._session, self._preprocess = session, preprocess
        session.enter()
        device = session.device
        self._kernels, self._stream = Kernels(device), device.stream()
        spec = next(tensor for tensor in encoder.spec.inputs if tensor.name == "pixels")
        self._dtype, self._frames = np.dtype(spec.dtype).name, spec.shape[1]
        self._clip = encoder.buffers[spec.name]
        self._encoder_stream = encoder.stream
        encoder.bind(spec.name, self._clip)  # no longer copied from the host
        self._slot_bytes = self._clip.size // self._frames
        self._held: list[GpuFrame | None] = [None] * self._frames
        self._spare: list[Buffer] = []
        self._sizes: dict[tuple[int, ...], _FrameSize] = {}
        side = preprocess.crop
        self._norm = self._constant(normalisation(preprocess))
        weights = resize_weights(side, 0, side, THUMBNAIL, box=True)
        self._thumbnail_weights, self._thumbnail_launch = self._constant(weights), luminance_launch(side, weights)
        self._bytes = device.allocate(3 * side * side)
        self._luminance = device.allocate(4 * THUMBNAIL * THUMBNAIL)
        self._pinned_luminance = device.pinned((THUMBNAIL, THUMBNAIL), np.float32)
        self._lock = threading.Lock()  # several sources may share a model, each with a thread that reads frames

    def crop(self, image: npt.NDArray[np.uint8]) -> GpuFrame:
        """Resize the short side, crop the centre, normalise, and make the thumbnail.

        Args:
            image: uint8 [height, width, 3], BGR.

        Raises:
            VljEdgeError: the frame is too large for the kernel, or the GPU reports an error.
        """
        device, stream = self._session.device, self._stream
        self._session.enter()
        with self._lock:
            size = self._sizes.get(image.shape) or self._new_size(image.shape)
            pixels = DeviceOutput(self._spare.pop() if self._spare else device.allocate(self._slot_bytes), self._spare)
            size.pinned[...] = image
            device.copy_in(size.frame, size.pinned, stream)
            inputs = (size.frame, size.across, size.down, self._norm)
            self._kernels.start(size.launch, inputs, (pixels.buffer, self._bytes), stream)
            thumbnail_inputs = (self._bytes, self._thumbnail_weights)
            self._kernels.start(self._thumbnail_launch, thumbnail_inputs, (self._luminance,), stream)
            device.copy_out(self._pinned_luminance, self._luminance, stream)
            device.synchronise(stream)
            return GpuFrame(self._pinned_luminance.copy(), pixels)

    def fill(self, frames: Sequence[GpuFrame]) -> None:
        """Make the encoder's input hold these frames, in order, from its next run on. The copies are queued on the
        encoder's stream: the caller must keep the frames until that run's output has arrived."""
        self._session.enter()
        for slot, frame in enumerate(frames):
            if self._held[slot] is not frame:
                target = self._clip.part(slot * self._slot_bytes, self._slot_bytes)
                self._session.device.copy(target, frame.pixels.buffer, self._encoder_stream)
                self._held[slot] = frame

    def _new_size(self, shape: tuple[int, ...]) -> _FrameSize:
        height, width, _ = shape
        left, top, right, bottom = crop_box(width, height, self._preprocess)
        across = resize_weights(width, left, right, self._preprocess.crop)
        down = resize_weights(height, top, bottom, self._preprocess.crop)
        launch = pixels_launch("bgr", self._dtype, stride=3 * width, height=height, across=across, down=down)
        device = self._session.device
        frame = device.allocate(launch.input_bytes[0])
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
    """Return the preprocessor for an encoder of this process's GPU session.

    Raises:
        VljEdgeError: the kernels were not compiled for this GPU, or do not resize as the model wants it.
    """
    if preprocess.resample != "bilinear":
        raise VljEdgeError(
            f"the CUDA kernel resizes bilinear and this model wants {preprocess.resample}: leave pixels_on_card out"
        )
    return GpuPreprocessor(session(), encoder, preprocess)
