"""What would be saved if a frame went through nano's stem once, though several windows contain it.

python benchmarks/stem.py [--rounds 40] STREAM ...      (annotated or not; examples/train_nano/make_stream.py)

The vision encoder's graph is cut behind its stem, whose maps of a frame are the same in every clip. Both parts, the
whole and the predictor are timed one after another, in both orders, on one thread: CPU time. Then each STREAM is
narrated, and embedded, through the gates that nano has, and the frames are counted that no window before had brought
to the encoder. What is saved is what the stem would have cost for the others.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import onnxruntime
import openvino
from common import in_turn, milliseconds, write
from onnx.utils import extract_model
from tokens import export

import vlj_edge
from vlj_edge import Model
from vlj_edge.bundle import nano_bundle

FRAMES, NEW = 8, 2  # of a window, and of those the ones that the window before did not have
Run = Callable[[dict[str, np.ndarray]], np.ndarray]


def cut(encoder: Path, folder: Path) -> tuple[Path, Path]:
    """Cut a vision encoder behind its stem. The stem takes "frames" [any, 3, 96, 96]."""
    graph = onnx.load(encoder).graph
    stem = [node for node in graph.node if node.name.startswith("stem.")]
    given, maps = stem[0].input[0], stem[-1].output[0]
    inferred = folder / "inferred.onnx"
    onnx.save(onnx.shape_inference.infer_shapes(onnx.load(encoder)), inferred)
    others = [value.name for value in graph.input if value.name != "pixels"]
    parts = folder / "stem.onnx", folder / "rest.onnx"
    extract_model(inferred, parts[0], [given], [maps], check_model=False)
    extract_model(inferred, parts[1], [maps, *others], ["visual_tokens"], check_model=False)
    model = onnx.load(parts[0])
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "frames"
    del model.graph.value_info[:]
    onnx.save(model, parts[0])
    return parts


def opened(path: Path, backend: str) -> tuple[Run, list[str]]:
    """Open a graph on one thread; return a function that runs it, and the names of its inputs."""
    if backend == "onnxruntime":
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 4
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return lambda inputs: session.run(None, inputs)[0], [value.name for value in session.get_inputs()]
    settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(str(path), "CPU", settings)
    request = compiled.create_infer_request()
    return lambda inputs: request.infer(inputs)[0], [port.any_name for port in compiled.inputs]


def time_parts(bundle: Path, kept: int | None, backend: str, rounds: int) -> dict[str, Any]:
    """Time the whole and its parts on random pixels. `kept`: of a window's tokens, this many."""
    given = {} if kept is None else {"kept": np.arange(kept)[None]}
    with tempfile.TemporaryDirectory() as scratch:
        paths = cut(bundle / "vision_encoder.onnx", Path(scratch))
        whole, stem, rest, predictor = (
            opened(path, backend) for path in (bundle / "vision_encoder.onnx", *paths, bundle / "predictor.onnx")
        )
    pixels = np.random.default_rng(0).standard_normal((FRAMES, 3, 96, 96)).astype(np.float32)
    tokens = whole[0]({"pixels": pixels[None]} | given).copy()
    maps = np.concatenate([stem[0]({stem[1][0]: pixels[at : at + NEW]}).copy() for at in range(0, FRAMES, NEW)])
    joined = rest[0]({rest[1][0]: maps} | given)
    query = {"query_ids": np.zeros((1, 16), np.int64), "query_mask": np.ones((1, 16), np.bool_)}
    seconds = in_turn(
        rounds,
        clock=time.process_time,
        whole=lambda: whole[0]({"pixels": pixels[None]} | given),
        stem_of_all=lambda: stem[0]({stem[1][0]: pixels}),
        stem_of_new=lambda: stem[0]({stem[1][0]: pixels[:NEW]}),
        rest=lambda: rest[0]({rest[1][0]: maps} | given),
        predictor=lambda: predictor[0]({"visual_tokens": tokens} | query | given),
    )
    found = {name: milliseconds(values) for name, values in seconds.items()}
    now, shared = found["whole"], found["stem_of_new"] + found["rest"]
    return {
        "cpu_milliseconds": found,
        "encoder_times_less": round(now / shared, 2),
        "encoder_and_predictor_times_less": round((now + found["predictor"]) / (shared + found["predictor"]), 2),
        "largest_difference_of_tokens": float(np.abs(joined - tokens).max()),
    }


@contextmanager
def counting(model: Model, counts: dict[str, int]) -> Iterator[None]:
    """Count the windows and frames that the encoder is given, and the frames that it has not been given before."""
    real, seen = model.chain.encode, dict[int, object]()

    def encode(frames: Any, *arguments: Any, **options: Any) -> Any:
        counts["windows encoded"] += 1
        counts["frames"] += len(frames)
        counts["frames not seen before"] += len({id(frame) for frame in frames} - seen.keys())
        seen.update((id(frame), frame) for frame in frames)  # kept, so that no other frame gets its id
        return real(frames, *arguments, **options)

    model.chain.encode = encode  # type: ignore[method-assign]
    yield
    model.chain.encode = real  # type: ignore[method-assign]


def through_the_gates(streams: tuple[Path, ...], milliseconds_a_frame: float) -> dict[str, Any]:
    """Narrate and embed streams; return the counts, and the CPU time that a shared stem would save."""
    found = {}
    with vlj_edge.load(threads=1) as model:
        model.chain.load(words=True)
        for way in ("narrate", "embed"):
            counts = dict.fromkeys(("windows", "windows encoded", "frames", "frames not seen before"), 0)
            started = time.process_time()
            for stream in streams:
                with counting(model, counts):
                    run = model.narrate(stream) if way == "narrate" else model.embed(stream)
                    list(run)
                counts["windows"] += run.totals.windows
            cpu = time.process_time() - started
            saved = 1e-3 * milliseconds_a_frame * (counts["frames"] - counts["frames not seen before"])
            found[way] = counts | {
                "share_of_frames_seen_before": round(1 - counts["frames not seen before"] / counts["frames"], 3),
                "cpu_seconds": round(cpu, 2),
                "saved_cpu_seconds": round(saved, 2),
                "saved_share": round(saved / cpu, 3),
            }
    return found


@click.command()
@click.option("--rounds", default=40, show_default=True)
@click.argument("streams", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
def main(rounds: int, streams: tuple[Path, ...]) -> None:
    """Time the parts, count frames in STREAMS, and write results/stem.json."""
    found: dict[str, Any] = {}
    for backend in ("onnxruntime", "openvino"):
        found[f"windows that follow each other, {backend}"] = time_parts(nano_bundle(), None, backend, rounds)
        print(found, flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        bundle = export(Path(scratch), random=False)
        found["windows that follow each other, half of the tokens, onnxruntime"] = time_parts(
            bundle, 72, "onnxruntime", rounds
        )
    timed = found["windows that follow each other, onnxruntime"]["cpu_milliseconds"]
    found["streams"] = len(streams)
    found["through the gates"] = through_the_gates(streams, timed["stem_of_all"] / FRAMES)
    print(found)
    write("stem.json", found, f"python benchmarks/stem.py --rounds {rounds} STREAM ...")


if __name__ == "__main__":
    main()
