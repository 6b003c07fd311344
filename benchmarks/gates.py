"""The savings and costs of each gate on annotated streams: engine runs, CPU time, CIDEr, missed events, delay.

python benchmarks/gates.py [--count 3]      (streams: examples/train_nano/make_stream.py)
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from common import TRAIN_NANO, write

from vlj_edge import Model, WindowReport
from vlj_edge.bundle import GateSettings, nano_bundle, read_manifest
from vlj_edge.presets import Clip
from vlj_edge.runtime.evaluation.cider import Cider
from vlj_edge.runtime.gating.caption_memory import CaptionMemory
from vlj_edge.runtime.gating.meaning import Change

# name of a combination -> the gates that are enabled
ENABLED = {
    "none": (),
    "scene": ("scene",),
    "memory": ("memory",),
    "meaning": ("meaning",),
    "meaning, rest": ("meaning", "rest"),
    "meaning, rest, memory": ("meaning", "rest", "memory"),
    "scene, meaning, memory": ("scene", "meaning", "memory"),
    "all": ("scene", "meaning", "rest", "memory"),
}


class Recorder(Model):
    """A model that records every text, including those that a narration leaves out because they repeat the last one."""

    def __init__(self, directory: Path, threads: int | None = None) -> None:
        # without overlap, so that a text belongs to the window that was watched last
        super().__init__(directory, threads=threads, overlap=False)
        self.texts: list[tuple[float, float, str]] = []  # beginning, end of the latest window, text
        self._window_end = 0.0

    def watch(self, report: WindowReport) -> None:
        self._window_end = report.window.end

    def _text(self, change: Change, memory: CaptionMemory, *about: Any) -> Any:
        text, origin = super()._text(change, memory, *about)
        self.texts.append((change.since, self._window_end, text))
        return text, origin


def measure(model: Recorder, streams: list[dict[str, Any]], gates: GateSettings) -> dict[str, Any]:
    """Narrate all streams with these gates; return counts, quality and delays."""
    cider = Cider([event["captions"] for stream in streams for event in stream["events"]])
    scores, missed, cpu, number = [], 0, 0.0, 0
    after_start: list[float] = []
    after_window: list[float] = []
    runs = dict.fromkeys(("windows", "encoder_runs", "decoder_runs", "decoder_tokens"), 0)
    for stream in streams:
        model.texts.clear()
        started = time.process_time()
        run = model.narrate(stream["video"], gates=gates, watch=model.watch)
        list(run)
        cpu += time.process_time() - started
        for name in runs:
            runs[name] += getattr(run.totals, name)
        times = np.array([begins for begins, _, _ in model.texts])
        for event in stream["events"]:
            middle = (event["start"] + event["end"]) / 2
            nearest = int(np.abs(times - middle).argmin())
            scores.append(cider.score(number, model.texts[nearest][2]))
            number += 1
            inside = [made_at for begins, made_at, _ in model.texts if event["start"] <= begins <= event["end"]]
            missed += not inside
            if inside:
                after_start.append(min(inside) - event["start"])
                after_window.append(min(inside) - end_of_first_window(event["start"], model.manifest.clip))
    seconds = sum(stream["seconds"] for stream in streams)
    return runs | {
        "cpu_seconds_a_minute": round(cpu / seconds * 60, 3),
        "cider": round(float(np.mean(scores)), 4),
        "events": number,
        "events_missed": missed,
        "delay_p50": round(float(np.percentile(after_start, 50)), 2),
        "delay_p95": round(float(np.percentile(after_start, 95)), 2),
        "delay_after_first_window_p50": round(float(np.percentile(after_window, 50)), 2),
        "delay_after_first_window_p95": round(float(np.percentile(after_window, 95)), 2),
    }


def end_of_first_window(start: float, clip: Clip) -> float:
    """Return the end of the first window whose centre lies in an event that starts at `start`, seconds."""
    step, half = clip.stride / clip.frames_per_second, clip.frames / clip.frames_per_second / 2
    return math.ceil(max(0.0, start - half) / step) * step + 2 * half


@click.command()
@click.option("--count", default=24, show_default=True, help="Streams, of four minutes each.")
@click.option("--streams", type=click.Path(path_type=Path), default=TRAIN_NANO / "data/streams/test")
def main(count: int, streams: Path) -> None:
    annotated = []
    for video in sorted(streams.glob("*.mp4"))[:count]:
        annotated.append(json.loads(video.with_suffix(".json").read_text(encoding="utf-8")) | {"video": video})
    if not annotated:
        raise click.ClickException(f"{streams} holds no streams: examples/train_nano/make_stream.py renders them")
    settings = read_manifest(nano_bundle()).gates
    model, found = Recorder(nano_bundle()), {}
    for name, enabled in ENABLED.items():
        gates = replace(
            settings,
            **{
                gate: replace(each, enabled=gate in enabled)
                for gate, each in vars(settings).items()
                if gate != "budget"
            },
        )
        found[name] = measure(model, annotated, gates)
        print(name, found[name], flush=True)
    none, every = found["none"], found["all"]
    found["all_against_none"] = {
        "cpu_ratio": round(none["cpu_seconds_a_minute"] / every["cpu_seconds_a_minute"], 3),
        "cider_share": round(every["cider"] / none["cider"], 4),
    }
    print(found["all_against_none"])
    write("gates.json", {"streams": len(annotated), "settings": found}, f"python benchmarks/gates.py --count {count}")


if __name__ == "__main__":
    main()
