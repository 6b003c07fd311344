"""Ways to resize a frame for the encoder: CPU time, and how far their values are from Pillow's.

python benchmarks/resize.py [--rounds 15] VIDEO ...

A frame of noise, the hardest case, and one of each VIDEO become nano's crop. Times are of one thread, medians over
rounds in both orders.

- pillow: the reference
- chain: runtime/video/resize.py, the way that is taken
- one call: fast_image_resize in its own order, columns first
- reducing gap: Pillow averages whole blocks first (`reducing_gap`)
- opencv area: cv2.INTER_AREA
- swscale: FFmpeg's bilinear filter, through PyAV, on BGR
- onnxruntime: the operator Resize with antialias
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import click
import cv2
import cykooz_resizer as fast
import numpy as np
import onnxruntime
from common import write
from onnx import TensorProto, helper
from PIL import Image

from vlj_edge.presets import preset
from vlj_edge.runtime.video.preprocess import crop_box
from vlj_edge.runtime.video.resize import resize, resize_with_pillow

NANO = preset("nano").preprocess
SIDE = NANO.crop
Way = Callable[[], np.ndarray]


def ways(image: np.ndarray) -> dict[str, Way]:
    """Return every way as a function of no arguments that returns uint8 [SIDE, SIDE, 3]."""
    height, width = image.shape[:2]
    box = crop_box(width, height, NANO)
    left, top, right, bottom = (round(edge) for edge in box)
    return {
        "pillow": lambda: resize_with_pillow(image, box, SIDE, "bilinear"),
        "chain": lambda: resize(image, box, SIDE, "bilinear"),
        "one call": lambda: _one_call(image, box),
        "reducing gap 2": lambda: _with_gap(image, box, 2.0),
        "reducing gap 3": lambda: _with_gap(image, box, 3.0),
        "opencv area": lambda: cv2.resize(image[top:bottom, left:right], (SIDE, SIDE), interpolation=cv2.INTER_AREA),
        "swscale": lambda: _swscale(image[top:bottom, left:right]),
        "onnxruntime": _onnxruntime(image),
    }


def _with_gap(image: np.ndarray, box: tuple[float, ...], gap: float) -> np.ndarray:
    whole = Image.fromarray(image)
    return np.asarray(whole.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box, reducing_gap=gap))


def _one_call(image: np.ndarray, box: tuple[float, ...]) -> np.ndarray:
    height, width = image.shape[:2]
    part = fast.ImageData(width, height, fast.PixelType.U8x3, image.tobytes())
    small = fast.ImageData(SIDE, SIDE, fast.PixelType.U8x3)
    crop = fast.CropBox(box[0], box[1], box[2] - box[0], box[3] - box[1])
    bilinear = fast.ResizeAlg.convolution(fast.FilterType.bilinear)
    fast.Resizer().resize(part, small, fast.ResizeOptions(resize_alg=bilinear, crop_box=crop))
    return np.frombuffer(small.get_buffer(), np.uint8).reshape(SIDE, SIDE, 3)


def _swscale(part: np.ndarray) -> np.ndarray:
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(part), format="bgr24")
    found: np.ndarray = frame.reformat(SIDE, SIDE, interpolation="BILINEAR", threads=1).to_ndarray()
    return found


def _onnxruntime(image: np.ndarray) -> Way:
    height, width = image.shape[:2]
    short = NANO.short_side
    size = [1, short, int(short * width / height), 3] if width >= height else [1, int(short * height / width), short, 3]
    node = helper.make_node("Resize", ["x", "", "", "size"], ["y"], antialias=1, mode="linear")
    ends = [helper.make_tensor_value_info(name, TensorProto.UINT8, shape) for name, shape in _shapes(image, size)]
    sizes = [helper.make_tensor("size", TensorProto.INT64, [4], size)]
    graph = helper.make_graph([node], "resize", ends[:1], ends[1:], sizes)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    top, left = (round((side - SIDE) / 2) for side in size[1:3])
    return lambda: session.run(None, {"x": image[None]})[0][0][top : top + SIDE, left : left + SIDE]


def _shapes(image: np.ndarray, size: list[int]) -> list[tuple[str, list[int]]]:
    return [("x", [1, *image.shape]), ("y", size)]


def measure(image: np.ndarray, rounds: int) -> dict[str, Any]:
    """Time every way on an image, and compare its values with Pillow's."""
    found, every = {}, ways(image)
    expected = every["pillow"]().astype(int)
    milliseconds: dict[str, list[float]] = {name: [] for name in every}
    for number in range(rounds):
        for name in list(every)[:: 1 if number % 2 == 0 else -1]:
            started = time.process_time()
            for _ in range(10):
                every[name]()
            milliseconds[name].append(1e2 * (time.process_time() - started))
    for name, way in every.items():
        apart = np.abs(way().astype(int) - expected)
        found[name] = {
            "cpu_milliseconds": round(float(np.median(milliseconds[name])), 3),
            "most_levels_apart": int(apart.max()),
            "share_apart": round(float((apart > 0).mean()), 5),
            "share_more_than_one_apart": round(float((apart > 1).mean()), 5),
        }
    return found


def frame_of(video: Path) -> np.ndarray:
    """Return the twentieth frame of a video, uint8 [height, width, 3], BGR."""
    with av.open(str(video)) as container:
        frame = next(frame for number, frame in enumerate(container.decode(video=0)) if number == 20)
        return np.ascontiguousarray(frame.to_ndarray(format="bgr24"))


@click.command()
@click.option("--rounds", default=15, show_default=True)
@click.argument("videos", nargs=-1, type=click.Path(path_type=Path, exists=True))
def main(rounds: int, videos: tuple[Path, ...]) -> None:
    """Measure on noise and on VIDEOS, and write results/resize.json."""
    cv2.setNumThreads(1)
    rng = np.random.default_rng(0)
    images = {f"noise {w}x{h}": rng.integers(0, 256, (h, w, 3), np.uint8) for w, h in ((640, 480), (1920, 1080))}
    images |= {f"{video.name} {'x'.join(map(str, frame_of(video).shape[1::-1]))}": frame_of(video) for video in videos}
    found = {name: measure(image, rounds) for name, image in images.items()}
    for name, each in found.items():
        print(name, *each.items(), sep="\n  ")
    write("resize.json", {"frames": found}, f"python benchmarks/resize.py --rounds {rounds} VIDEO ...")


if __name__ == "__main__":
    main()
