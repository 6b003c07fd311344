"""The cost of each precision of nano: size, parity, accuracy on test clips, narration on test streams, CPU time.

Every precision is exported from the same weights, calibrated on a validation stream, and run on real frames through the
runtime's engines, as on a device. Writes results/precisions.json.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from clips import ACT, clip_label
from episodes import list_episodes, load_frames, load_labels
from features import episode_pixels
from figures import interval, resample
from policies import live
from provenance import provenance
from recordings import Judge, Recording
from rich.console import Console
from tasks import TASK_QUERIES, TASKS

from vlj_edge import ExportRequest, Model, WeightSources, export_bundle, preset
from vlj_edge.bundle import Manifest, read_manifest, seal, write_manifest
from vlj_edge.export.bundle import Exported
from vlj_edge.export.onnx.emulate_bf16 import emulate_bf16
from vlj_edge.export.weights.locations import MODEL_FILE
from vlj_edge.runtime.calibration.events import read_events
from vlj_edge.runtime.video.clips import spread_clips
from vlj_edge.runtime.video.preprocess import crop_and_resize

PRECISIONS = {
    "fp32": "fp32",
    "fp16": "fp16",
    "bf16": "bf16",
    "int8": "int8",
    "int8w": "int8w",
    "int4w": "predictor=int4w,decoder=int4w",  # the vision encoder stays in fp32
    "int4w everywhere": "int4w",
    "int8-fp16": "int8-fp16",
    "int4w-fp16": "int4w-fp16",
}
NAMES = list(TASKS)
STRIDE, ROUNDS, EPISODES, STREAMS = 4, 15, 330, 6
console = Console(stderr=True)


class EngineDecoder:
    """Decodes embeddings with the bundle's own decoder engine, each once."""

    def __init__(self, model: Model) -> None:
        self._chain = model.chain
        self._texts: dict[bytes, str] = {}

    def texts(self, embeddings: np.ndarray) -> list[str]:
        texts = []
        for row in np.ascontiguousarray(embeddings, np.float32):
            if row.tobytes() not in self._texts:
                self._texts[row.tobytes()], _ = self._chain.decode(row)
            texts.append(self._texts[row.tobytes()])
        return texts


def export(name: str, weights: Path, calibration: Path, out: Path) -> Exported:
    nano = preset("nano")
    clips = spread_clips(calibration, nano.clip, nano.preprocess, 36)
    exported = export_bundle(
        ExportRequest(WeightSources(weights), nano, out, precision=PRECISIONS[name], clips=clips, overwrite=True)
    )
    if any(engine.precision == "bf16" for engine in exported.engines):
        emulate(out)
    return exported


def emulate(bundle: Path) -> None:
    """Make a bf16 bundle run on the CPU: round to bf16 after every operator, as export/parity.py does."""
    manifest = read_manifest(bundle)
    engines = {}
    for name, spec in manifest.engines.items():
        emulate_bf16(bundle / spec.file, bundle / "emulated.onnx")
        (bundle / "emulated.onnx").replace(bundle / spec.file)
        sides = {
            side: tuple(replace(t, dtype="float32") if t.dtype == "bfloat16" else t for t in getattr(spec, side))
            for side in ("inputs", "outputs")
        }
        engines[name] = replace(spec, **sides)
    changed: Manifest = replace(manifest, engines=engines, files={name: seal(bundle / name) for name in manifest.files})
    write_manifest(bundle, changed)


def test_windows(data: Path, limit: int | None) -> list[tuple[int, int, np.ndarray]]:
    """(episode, task, uint8 [8, 96, 96, 3] BGR) of act windows of the test episodes, with their sensor noise."""
    found = []
    for number, path in enumerate(list_episodes(data, "test")[:limit]):
        labels = load_labels(path)
        if labels.camera["zone"] == "outside":
            continue
        frames = episode_pixels(load_frames(path), "test", labels.seed, 0)[0][2:-4, ..., ::-1]
        for start in range(0, len(labels.phase) - 7, STRIDE):
            if clip_label(labels.phase[start : start + 8]) == ACT:
                found.append((number, NAMES.index(labels.task), np.ascontiguousarray(frames[start : start + 8])))
    return found


def classify(model: Model, windows: list[tuple[int, int, np.ndarray]]) -> np.ndarray:
    """Return whether the nearest of the 50 tasks' labels is the right one, bool (windows,)."""
    encoder, pixels, predictor = model.chain.vision
    wordings = [np.mean([model.embed_text(text) for text in TASKS[name].captions], axis=0) for name in NAMES]
    labels = np.stack([wording / np.linalg.norm(wording) for wording in wordings])
    ids, mask = model.chain.query(TASK_QUERIES[0])
    correct = []
    for _, task, frames in windows:
        pixels.fill([crop_and_resize(frame, model.manifest.preprocess) for frame in frames])
        encoder.run()
        predictor.inputs["query_ids"][...], predictor.inputs["query_mask"][...] = ids, mask
        predictor.run()
        predictor.wait()
        correct.append(int((labels @ predictor.outputs["embedding"][0]).argmax()) == task)
    return np.array(correct)


def narrate(model: Model, videos: list[Path]) -> tuple[np.ndarray, float, float]:
    """CIDEr of each event (events,) by the live gates, and decodes and decoder runs a second."""
    decoder, recordings = EngineDecoder(model), []
    for video in videos:
        annotation = json.loads(video.with_suffix(".json").read_text())
        rows = [(item.window.centre, item.window.end, item.embedding, item.at_rest) for item in model.embed(video)]
        centres, ends, embeddings, at_rest = (np.array(column) for column in zip(*rows, strict=True))
        columns = (centres, ends, embeddings, embeddings, at_rest)
        recordings.append(
            Recording(video.stem, annotation["seconds"], *columns, 0, read_events(video.with_suffix(".json")))
        )
    judge, scores, texts, runs = Judge(recordings), [], 0, 0
    for recording in recordings:
        decodes, _, remembered = live(recording, decoder, model.manifest.gates)
        scores.append(judge.scores(recording, decodes))
        texts += len(decodes)
        runs += len(decodes) - remembered
    seconds = sum(recording.seconds for recording in recordings)
    return np.concatenate(scores), texts / seconds, runs / seconds


def speeds(models: dict[str, Model]) -> dict[str, dict[str, float]]:
    """Return the median milliseconds of one run of each engine. Precisions alternate, every other round in reverse."""
    times: dict[tuple[str, str], list[float]] = {}
    for round_ in range(ROUNDS + 2):
        for name in list(models)[:: 1 if round_ % 2 else -1]:
            encoder, _, predictor = models[name].chain.vision
            decoder = models[name].chain.decoder[0]
            for part, engine in (("vision_encoder", encoder), ("predictor", predictor), ("decoder_step", decoder)):
                started = time.perf_counter()
                for _ in range(5):
                    engine.run()
                times.setdefault((name, part), []).append((time.perf_counter() - started) / 5 * 1e3)
    found: dict[str, dict[str, float]] = {name: {} for name in models}
    for (name, part), values in times.items():
        found[name][part] = round(float(np.median(values[2:])), 3)
    return found


def paired(values: np.ndarray, reference: np.ndarray, group: np.ndarray) -> dict[str, Any]:
    """Return the mean difference to the reference with its interval; whole groups are resampled."""
    return interval(values.astype(float) - reference.astype(float), group)


def loss(scores: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    difference = scores - reference
    low, high = np.quantile(difference[resample(len(difference))].mean(1), (0.025, 0.975))
    return {key: round(float(v), 4) for key, v in (("value", difference.mean()), ("low", low), ("high", high))}


@click.command()
@click.option("--weights", type=click.Path(path_type=Path, exists=True), default=Path("../../export/nano"))
@click.option("--data", type=click.Path(path_type=Path), default=Path("data/nano"), show_default=True)
@click.option("--streams", type=click.Path(path_type=Path), default=Path("data/streams"), show_default=True)
@click.option("--scratch", type=click.Path(path_type=Path), default=Path("data/precisions"), show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("../../results/precisions.json"))
@click.option("--limit", type=int, help="Most test episodes and streams to use, for a quick check.")
def main(weights: Path, data: Path, streams: Path, scratch: Path, out: Path, limit: int | None) -> None:
    """Measure every precision, in one run."""
    windows = test_windows(data, limit or EPISODES)
    videos = sorted((streams / "test").glob("*.mp4"))[: limit or STREAMS]
    calibration = sorted((streams / "val").glob("*.mp4"))[0]
    episode = np.array([number for number, _, _ in windows])
    rows: dict[str, dict[str, Any]] = {}
    models, correct, cider = {}, {}, {}
    for name in PRECISIONS:
        exported = export(name, weights, calibration, scratch / name.replace(" ", "-"))
        model = models[name] = Model(exported.bundle)
        correct[name] = classify(model, windows)
        cider[name], texts, runs = narrate(model, videos)
        rows[name] = {
            "precision": {engine.name: engine.precision for engine in exported.engines},
            "megabytes": {engine.name: round(engine.megabytes, 2) for engine in exported.engines},
            "parity": [asdict(row) for row in exported.parity],
            "task_top1_act_windows": interval(correct[name], episode),
            "task_top1_against_fp32": paired(correct[name], correct["fp32"], episode),
            "live_cider": round(float(cider[name].mean()), 4),
            "live_cider_against_fp32": loss(cider[name], cider["fp32"]),
            "texts_a_second": round(texts, 4),
            "decoder_runs_a_second": round(runs, 4),
        }
        console.print(name, rows[name]["task_top1_act_windows"]["value"], rows[name]["live_cider"], highlight=False)
    on_cpu = {name: model for name, model in models.items() if name != "bf16"}  # emulated there
    for name, milliseconds in speeds(on_cpu).items():
        rows[name]["cpu_milliseconds"] = milliseconds
    report = provenance("python precisions.py") | {"weights": seal(weights / MODEL_FILE).sha256}
    report |= {"windows": len(windows), "episodes": len(set(episode.tolist())), "streams": len(videos)}
    out.write_text(json.dumps(report | {"precisions": rows}, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
