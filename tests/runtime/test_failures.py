"""Runs whose source, engine or caller fails, with and without overlap."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import vlj_edge.runtime.chain as chain_module
from tests.runtime.colours import GATES, MakeVideo, Pictures, counts, scenes
from tests.runtime.tiny_bundle import BLUE, GREEN, RED
from vlj_edge import VljEdgeError
from vlj_edge.runtime.model import Model
from vlj_edge.runtime.video.source import Frame, Source


def test_interrupted_stream_keeps_what_was_said(model: Model) -> None:
    source = Pictures(scenes((RED, 16), (BLUE, 16)), fail=KeyboardInterrupt(), fail_at=28)
    narrator = model.narrate(source, gates=GATES)
    found = []
    with pytest.raises(KeyboardInterrupt):
        for narration in narrator:
            found.append(narration)
    assert [narration.text for narration in found] == ["a red screen", "blue"]
    assert source.closed
    totals = narrator.totals
    assert totals.narrations == totals.decoder_runs == 2
    assert totals.windows == 12
    assert totals.video_seconds == 7
    wall = totals.wall_seconds
    assert narrator.totals.wall_seconds == wall  # the clock has stopped


def test_interrupt_in_the_decoder_leaves_the_counts_right(step_by_step: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(chain_module, "decode", interrupted)
    source = Pictures(scenes((RED, 16)))
    narrator = step_by_step.narrate(source, gates=GATES)
    with pytest.raises(KeyboardInterrupt):
        next(narrator)
    assert source.closed
    assert counts(narrator.totals) | {"predictor_runs": 1} == {
        "windows": 2,
        "windows_dropped": 0,
        "encoder_runs": 1,
        "predictor_runs": 1,
        "tokens": 0,
        "tokens_kept": 0,
        "decoder_runs": 0,
        "decoder_tokens": 0,
        "memory_hits": 0,
        "narrations": 0,
        "changes_left_out": 0,
        "looks_left_out": 0,
    }


def test_source_that_breaks_off_is_an_error_after_everything_was_said(model: Model) -> None:
    source = Pictures(scenes((RED, 16), (BLUE, 4)), incomplete="the cable is out: put it in")
    narrator = model.narrate(source, gates=GATES)
    assert next(narrator).text == "a red screen"
    assert next(narrator).text == "blue"  # pending when it broke off
    with pytest.raises(VljEdgeError, match="the cable is out"):
        next(narrator)
    with pytest.raises(StopIteration):
        next(narrator)
    assert source.closed
    assert narrator.totals.narrations == 2
    with pytest.raises(VljEdgeError, match="the cable is out"):
        list(model.embed(Pictures(scenes((RED, 4)), incomplete="the cable is out")))


def test_truncated_file_is_narrated_and_then_an_error(model: Model, make_video: MakeVideo) -> None:
    path = make_video([(RED, 8)], name="video.avi")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    narrator = model.narrate(path)
    assert next(narrator).text == "a red screen"
    with pytest.raises(VljEdgeError, match=r"video\.avi breaks off at"):
        list(narrator)


def test_closing_lets_go_of_the_source(step_by_step: Model) -> None:
    source = Pictures(scenes((RED, 16)))
    narrator = step_by_step.narrate(source, gates=GATES)
    next(narrator)
    narrator.close()
    assert source.closed
    assert list(narrator) == []
    assert narrator.totals.windows == 2


@pytest.mark.parametrize("call", ["narrate", "embed"])
def test_bad_source_and_bad_query_are_errors_of_the_call(model: Model, call: str, tmp_path: Path) -> None:
    with pytest.raises(VljEdgeError, match="does not exist"):
        getattr(model, call)(tmp_path / "nowhere.mp4")
    with pytest.raises(VljEdgeError, match="the text is empty"):
        getattr(model, call)(Pictures(scenes((RED, 4))), query=" ")
    with pytest.raises(VljEdgeError, match=r"rtsp://\*\*\*@host/x"):
        getattr(model, call)("rtsp://user:secret@host/x")


def test_embedding_that_is_not_a_number_is_refused(model: Model) -> None:
    found = model.embed(Pictures(scenes((RED, 4))))
    _, _, predictor = model.chain.vision
    predictor.run = lambda: predictor.outputs["embedding"].fill(np.nan)  # type: ignore[method-assign]
    with pytest.raises(VljEdgeError, match="the predictor gave values that are not numbers"):
        next(found)


def test_runtime_never_imports_torch(tiny_bundle: Path) -> None:
    program = (
        "import sys\n"
        "import vlj_edge\n"
        f"model = vlj_edge.load({str(tiny_bundle)!r})\n"
        "model.embed_text('red')\n"
        "import vlj_edge.runtime.sinks.console\n"
        "print(sorted({'torch', 'transformers', 'onnx', 'cv2', 'vlj_edge.export'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


# Overlap


def test_overlap_changes_nothing_that_comes_out(model: Model, step_by_step: Model) -> None:
    colours = scenes((RED, 16), (BLUE, 9), (GREEN, 16), (RED, 5), (BLUE, 30))
    for gates in (GATES, None):
        runs = [each.narrate(Pictures(colours), gates=gates) for each in (model, step_by_step)]
        said = [list(run) for run in runs]
        assert said[0] == said[1] and len(said[0]) > 3
        assert counts(runs[0].totals) == counts(runs[1].totals)
    ours, theirs = (list(each.embed(Pictures(colours))) for each in (model, step_by_step))
    assert [item.window for item in ours] == [item.window for item in theirs]
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a.embedding, b.embedding)


def test_closing_ends_the_threads_and_lets_go_of_the_source(model: Model) -> None:
    before = threading.active_count()
    source = Pictures(scenes((RED, 1000)))
    narrator = model.narrate(source, gates=GATES)
    next(narrator)
    narrator.close()
    assert source.closed and threading.active_count() == before
    assert list(narrator) == []


@pytest.mark.parametrize("stage", ["decode", "encode"])
def test_an_error_ends_the_threads_before_it_lets_go_of_the_source(
    model: Model, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """OpenCV aborts the process when a capture is released under a read."""

    class Slow(Pictures):
        reading = closed_under_a_read = False

        def frames(self) -> Iterator[Frame]:
            for frame in super().frames():
                yield frame
                self.reading = True
                time.sleep(0.02)
                self.reading = False

        def close(self) -> None:
            self.closed_under_a_read |= self.reading
            super().close()

    def broken(*_: object) -> None:
        raise VljEdgeError("the card is gone")

    if stage == "decode":
        monkeypatch.setattr(chain_module, "decode", broken)
    else:
        monkeypatch.setattr(model.chain.vision[2], "run", broken)
    before = threading.active_count()
    source = Slow(scenes((RED, 200), (BLUE, 200)))
    with pytest.raises(VljEdgeError, match="the card is gone"):
        list(model.narrate(source, gates=GATES))
    assert threading.active_count() == before
    assert source.closed and not source.closed_under_a_read


def test_an_error_ahead_comes_after_what_was_before_it(model: Model) -> None:
    source = Pictures(scenes((RED, 16), (BLUE, 16)), fail=RuntimeError("the camera burns"), fail_at=30)
    said = []
    with pytest.raises(RuntimeError, match="the camera burns"):
        for event in model.narrate(source, gates=GATES):
            said.append(event.text)
    assert said == ["a red screen", "blue"]


class Live(Pictures):
    """A camera that gives a frame whenever one is taken."""

    live = True


def test_a_slow_device_takes_the_newest_window_of_a_camera(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, _, _ = model.chain.vision
    begun, ended = threading.Event(), threading.Event()
    real = encoder.run

    class Camera(Live):
        def frames(self) -> Iterator[Frame]:
            for frame in super().frames():
                yield frame
                if frame.time > 1:  # the first window is whole
                    begun.wait(120)
            ended.set()

    def run() -> None:  # the first encoding takes as long as the whole recording
        begun.set()
        ended.wait(120)
        real()

    monkeypatch.setattr(encoder, "run", run)
    colours = scenes((RED, 8), (BLUE, 30), (GREEN, 8))
    embedded = model.embed(Camera(colours), every_window=True)
    items = list(embedded)
    # the first, and the newest when it was done: the last but one or the last, which may come while it is encoded
    assert items[0].window.index == 0 and items[1].window.index >= 20 and items[-1].window.index == 21
    assert items[-1].embedding[1] == max(items[-1].embedding), "which is green"
    assert embedded.totals.windows_dropped + embedded.totals.windows == 22 and len(items) <= 3
    file = model.embed(Pictures(colours), every_window=True)
    assert len(list(file)) == 22 and file.totals.windows_dropped == 0, "nothing of a file is dropped"


@pytest.mark.parametrize("overlap", [True, False])
def test_memory_does_not_grow_with_the_stream(tiny_bundle: Path, overlap: bool) -> None:
    model = Model(tiny_bundle, overlap=overlap)

    def kept_and_peak(seconds: int) -> tuple[int, int]:
        colours = scenes((RED, 4), (BLUE, 4)) * (seconds // 2)
        for _ in model.narrate(Pictures(colours), every_window=True):
            pass
        gc.collect()
        tracemalloc.reset_peak()
        for _ in model.narrate(Pictures(colours), every_window=True):
            pass
        gc.collect()
        return tracemalloc.get_traced_memory()

    tracemalloc.start()
    try:
        kept_and_peak(20)
        short, long = kept_and_peak(20), kept_and_peak(600)
    finally:
        tracemalloc.stop()
    windows = (600 - 20) * 2
    # a window that is held on to is 300 bytes and more; how full the queues are when one looks varies
    assert long[0] - short[0] < 100 * windows, "kept when the stream is over"
    assert long[1] - short[1] < 250 * windows, "held at its highest"


def test_engines_keep_their_buffers(model: Model) -> None:
    encoder, _, predictor = model.chain.vision
    decoder, _ = model.chain.decoder
    before = [a.ctypes.data for e in (encoder, predictor, decoder) for a in (*e.inputs.values(), *e.outputs.values())]
    list(model.narrate(Pictures(scenes((RED, 16), (BLUE, 16))), every_window=True))
    after = [a.ctypes.data for e in (encoder, predictor, decoder) for a in (*e.inputs.values(), *e.outputs.values())]
    assert before == after
    assert predictor.inputs["visual_tokens"].ctypes.data == encoder.outputs["visual_tokens"].ctypes.data
    assert decoder.inputs["key_cache_0"].ctypes.data == decoder.outputs["key_cache_out_0"].ctypes.data


def test_a_source_or_frame_of_the_wrong_shape_names_what_is_wrong(model: Model) -> None:
    class Nameless(Source):
        def frames(self) -> Iterator[Frame]:
            yield Frame(0.0, np.zeros((20, 30, 3), np.uint8))

    with pytest.raises(VljEdgeError, match="Nameless has no period"):
        model.embed(Nameless())
    for image in (np.zeros((20, 30), np.uint8), np.zeros((20, 30, 3)), np.zeros((20, 30, 4), np.uint8)):
        source = Pictures(scenes((RED, 1)))
        source.frames = lambda image=image: iter([Frame(0.0, image)])  # type: ignore[method-assign]
        with pytest.raises(VljEdgeError, match="uint8"):
            list(model.embed(source))
