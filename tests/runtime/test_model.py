from __future__ import annotations

import gc
import json
import shutil
import subprocess
import sys
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vlj_edge
import vlj_edge.runtime.chain as chain_module
from tests.runtime import tiny_bundle as by_hand
from tests.runtime.tiny_bundle import BLACK, BLUE, GREEN, RED
from vlj_edge import VljEdgeError, bundle
from vlj_edge.results import Narration, Totals
from vlj_edge.runtime.model import NO_GATES, Model
from vlj_edge.runtime.video.opencv import import_opencv
from vlj_edge.runtime.video.source import Frame, Source

MakeVideo = Callable[..., Path]

# A clip of the bundle is 4 samples, 0.25 s apart, and a window begins every 0.5 s.
GATES = bundle.GateSettings(
    bundle.SceneGateSettings(),
    bundle.MeaningGateSettings(
        smoothing=1, calm_windows=2, calm_variance=0.02, speak_below=0.8, forget_above=0.9, least_hold=0, longest_wait=3
    ),
    bundle.CaptionMemorySettings(),
    bundle.RestSettings(enabled=False),
)
NO_SCENE = replace(GATES, scene=bundle.SceneGateSettings(enabled=False))
NO_MEMORY = replace(GATES, memory=bundle.CaptionMemorySettings(enabled=False))


@pytest.fixture
def model(tiny_bundle: Path) -> Model:
    return vlj_edge.load(tiny_bundle)


class Pictures(Source):
    """Frames of one colour each, `rate` a second. `fail` is raised before frame `fail_at`."""

    def __init__(
        self,
        colours: list[tuple[int, int, int]],
        rate: float = 4.0,
        fail: BaseException | None = None,
        fail_at: int = -1,
        incomplete: str | None = None,
    ) -> None:
        self.colours, self.rate, self.fail, self.fail_at = colours, rate, fail, fail_at
        self.period = 1 / rate
        self.why = incomplete
        self.closed = False

    def frames(self) -> Iterator[Frame]:
        for index, colour in enumerate(self.colours):
            if index == self.fail_at and self.fail is not None:
                raise self.fail
            yield Frame(index / self.rate, np.full((20, 30, 3), colour, np.uint8))
        self.incomplete = self.why

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def step_by_step(tiny_bundle: Path) -> Model:
    """Without overlap, so that it can be told how far each step has come."""
    return Model(tiny_bundle, overlap=False)


def scenes(*lengths: tuple[tuple[int, int, int], int]) -> list[tuple[int, int, int]]:
    return [colour for colour, count in lengths for _ in range(count)]


def texts(narrations: list[Narration]) -> list[tuple[float, str]]:
    return [(narration.start, narration.text) for narration in narrations]


def counts(totals: Totals) -> dict[str, int]:
    return {key: value for key, value in totals.as_dict().items() if isinstance(value, int)}


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each engine has been opened."""
    count: Counter[str] = Counter()
    real = chain_module.open_engine

    def spy(directory: Path, manifest: bundle.Manifest, name: str, **options: Any) -> Any:
        count[name] += 1
        return real(directory, manifest, name, **options)

    monkeypatch.setattr(chain_module, "open_engine", spy)
    return count


# --- embeddings


@pytest.mark.parametrize("half", [False, True], ids=["float32", "float16"])
def test_embedding_is_the_one_computed_by_hand(tmp_path: Path, half: bool) -> None:
    model = Model(by_hand.build(tmp_path / "b", half=half))
    found = list(model.embed(Pictures(scenes((RED, 8), (BLUE, 8)))))
    assert [item.window.index for item in found] == list(range(7))
    np.testing.assert_allclose(found[0].embedding, by_hand.embedding_of(RED), atol=1e-3)
    np.testing.assert_allclose(found[-1].embedding, by_hand.embedding_of(BLUE), atol=1e-3)
    assert found[0].embedding.dtype == np.float32
    assert found[3].embedding[0] == pytest.approx(0, abs=1e-3)  # half red, half blue
    for item in found:
        assert np.linalg.norm(item.embedding) == pytest.approx(1, abs=1e-5)


def test_query_reaches_the_predictor(model: Model) -> None:
    default, other = (
        next(model.embed(Pictures(scenes((RED, 4))), query)).embedding for query in (None, "what colour is it")
    )
    np.testing.assert_allclose(default, by_hand.embedding_of(RED), atol=1e-6)
    np.testing.assert_allclose(other, by_hand.embedding_of(RED, "what colour is it"), atol=1e-6)
    assert abs(default - other).max() > 0.01


def test_several_questions_are_answered_by_one_encoding(model: Model) -> None:
    queries = ["what is shown ?", "which colour ?", "what is shown ?"]
    colours = scenes((RED, 8), (BLUE, 8))
    asked = model.ask(Pictures(colours), queries)
    answers = list(asked)
    alone = [list(model.embed(Pictures(colours), query=query)) for query in queries]
    for number, answer in enumerate(answers):
        assert answer.embeddings.shape == (3, model.manifest.embedding) and answer.embeddings.dtype == np.float32
        for row, items in zip(answer.embeddings, alone, strict=True):
            np.testing.assert_array_equal(row, items[number].embedding)
        assert (answer.window, answer.encoded) == (alone[0][number].window, alone[0][number].encoded)
    totals = asked.totals
    assert 0 < totals.encoder_runs < totals.windows == len(answers)
    assert totals.predictor_runs == 3 * totals.encoder_runs
    with pytest.raises(VljEdgeError, match="no question"):
        model.ask(Pictures(colours), [])


def test_embeddings_that_were_given_out_do_not_change(model: Model) -> None:
    found = model.embed(Pictures(scenes((RED, 8), (BLUE, 8))))
    first = next(found)
    copy = first.embedding.copy()
    list(found)
    np.testing.assert_array_equal(first.embedding, copy)


def test_two_passes_at_once_do_not_mix(model: Model) -> None:
    one = model.embed(Pictures(scenes((RED, 12), (GREEN, 12))), every_window=True)
    two = model.embed(Pictures(scenes((BLUE, 24))), "what colour", every_window=True)
    mixed = list(zip(one, two, strict=True))
    alone = list(model.embed(Pictures(scenes((RED, 12), (GREEN, 12))), every_window=True))
    for (a, b), c in zip(mixed, alone, strict=True):
        np.testing.assert_array_equal(a.embedding, c.embedding)
        np.testing.assert_allclose(b.embedding, by_hand.embedding_of(BLUE, "what colour"), atol=1e-6)


def test_text_embedding_lies_with_its_pictures(model: Model) -> None:
    found = model.embed_text("red")
    similarities = {colour: float(found @ by_hand.embedding_of(colour)) for colour in (RED, GREEN, BLUE)}
    assert max(similarities, key=lambda colour: similarities[colour]) == RED
    assert found.dtype == np.float32
    assert np.linalg.norm(found) == pytest.approx(1, abs=1e-6)
    other = model.embed_text("blue")
    assert found[0] > found[2]  # not overwritten
    assert other[2] > other[0]


# --- which engines are opened


def test_embedding_opens_no_decoder(model: Model, opened: Counter[str]) -> None:
    model = Model(model.directory)  # under the spy
    assert opened == {}
    list(model.embed(Pictures(scenes((RED, 8)))))
    assert opened == {"vision_encoder": 1, "predictor": 1}


def test_text_embedding_opens_the_text_encoder_only(model: Model, opened: Counter[str]) -> None:
    model = Model(model.directory)
    model.embed_text("red")
    assert opened == {"text_encoder": 1}


def test_engines_are_opened_once(model: Model, opened: Counter[str]) -> None:
    model = Model(model.directory)
    for _ in range(3):
        list(model.narrate(Pictures(scenes((RED, 8)))))
    assert opened == {"vision_encoder": 1, "predictor": 1, "decoder": 1}


@pytest.mark.parametrize("name", ["vision_encoder", "predictor", "decoder"])
def test_changed_byte_is_an_error_of_the_call(tiny_bundle: Path, tmp_path: Path, name: str) -> None:
    directory = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    path = directory / f"{name}.onnx"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(VljEdgeError, match=rf"{name}\.onnx is not the file"):
        Model(directory).narrate(Pictures(scenes((RED, 8))))


def test_no_bundle_and_no_backend_are_errors_of_loading(tmp_path: Path, tiny_bundle: Path) -> None:
    with pytest.raises(VljEdgeError, match="is no bundle"):
        vlj_edge.load(tmp_path)
    with pytest.raises(VljEdgeError, match="no engine backend"):
        Model(tiny_bundle, backend="abacus")


# --- narration


def test_video_is_narrated_when_it_changes(model: Model, make_video: MakeVideo) -> None:
    path = make_video([(RED, 4), (BLUE, 4), (GREEN, 4)])
    narrator = model.narrate(path, gates=GATES)
    found = list(narrator)
    # the first window needs a second one to be calm; later ones the two that lie within the new scene
    assert texts(found) == [(0.5, "a red screen"), (4.5, "blue"), (8.5, "green light glows")]
    assert [narration.end - narration.start for narration in found] == [1, 1, 1]
    assert [narration.origin for narration in found] == ["decoder"] * 3
    assert found[0].similarity is None
    assert found[1].similarity == pytest.approx(by_hand.embedding_of(RED) @ by_hand.embedding_of(BLUE), abs=0.1)
    totals = narrator.totals
    assert totals.windows == 23
    assert totals.said == totals.decoder_runs == 3
    assert totals.decoder_tokens == 4 + 2 + 4
    assert totals.video_seconds == pytest.approx(12)
    assert totals.wall_seconds > 0


def test_gates_skip_exactly_the_work_behind_them(model: Model) -> None:
    colours = scenes((RED, 16), (BLUE, 16), (RED, 16))
    narrator = model.narrate(Pictures(colours), gates=GATES)
    assert texts(list(narrator)) == [(0.5, "a red screen"), (4.5, "blue"), (8.5, "a red screen")]
    # 23 windows; encoded: the first, and at each change the one that is half new and the one that is all new
    assert counts(narrator.totals) == {
        "windows": 23,
        "windows_dropped": 0,
        "encoder_runs": 5,
        "predictor_runs": 5,
        "decoder_runs": 2,
        "decoder_tokens": 6,
        "memory_hits": 1,
        "said": 3,
    }


def test_without_the_scene_gate_every_window_is_encoded(model: Model) -> None:
    colours = scenes((RED, 16), (BLUE, 16))
    narrator = model.narrate(Pictures(colours), gates=NO_SCENE)
    found = list(narrator)
    assert narrator.totals.encoder_runs == narrator.totals.predictor_runs == narrator.totals.windows == 15
    gated = model.narrate(Pictures(colours), gates=GATES)
    assert texts(list(gated)) == texts(found)


def test_without_memory_every_text_is_decoded(model: Model) -> None:
    narrator = model.narrate(Pictures(scenes((RED, 16), (BLUE, 16), (RED, 16))), gates=NO_MEMORY)
    assert [narration.origin for narration in narrator] == ["decoder"] * 3
    assert narrator.totals.decoder_runs == 3
    assert narrator.totals.memory_hits == 0


def test_text_from_memory_says_so(model: Model) -> None:
    found = list(model.narrate(Pictures(scenes((RED, 16), (BLUE, 16), (RED, 16))), gates=GATES))
    assert [narration.origin for narration in found] == ["decoder", "decoder", "memory"]


def test_embed_tells_which_windows_were_encoded(model: Model) -> None:
    found = list(model.embed(Pictures(scenes((RED, 12), (BLUE, 12))), gates=GATES))
    #  windows:          RRRR  RRRR  RRRR   RRRR   RRRR   RRBB  BBBB   BBBB ...
    assert [item.encoded for item in found] == [True, False, False, False, False, True, True, *[False] * 4]
    np.testing.assert_array_equal(found[4].embedding, found[0].embedding)


def test_slow_drift_is_narrated(model: Model) -> None:
    # red to green in 20 s, so slowly that no two neighbouring windows differ by the scene gate's threshold
    steps = [(0, round(255 * i / 79), round(255 * (1 - i / 79))) for i in range(80)]
    drift = [*scenes((RED, 8)), *steps, *scenes((GREEN, 8))]
    narrator = model.narrate(Pictures(drift), gates=GATES)
    assert {"a red screen", "green light glows"} <= {narration.text for narration in narrator}
    assert narrator.totals.encoder_runs < narrator.totals.windows  # the gate did skip


def test_every_window_decodes_each(model: Model) -> None:
    colours = scenes((RED, 8), (BLUE, 8), (BLACK, 8))
    narrator = model.narrate(Pictures(colours), every_window=True)
    found = list(narrator)
    embeddings = list(model.embed(Pictures(colours), every_window=True))
    decoder, tokens = model.chain.decoder
    assert [(n.start, n.end) for n in found] == [(e.window.start, e.window.end) for e in embeddings]
    for narration, item in zip(found, embeddings, strict=True):
        ids, _ = chain_module.decode(decoder, item.embedding, by_hand.END, by_hand.CAPACITY)
        assert narration.text == tokens.decode(ids)
    assert found[0].similarity is None
    totals = narrator.totals
    assert totals.windows == totals.encoder_runs == totals.decoder_runs == totals.said == 11
    assert totals.decodes_saved == 1


def test_a_picture_that_comes_to_rest_is_said_though_its_meaning_stays(model: Model) -> None:
    flicker = [RED, (0, 0, 200)] * 6  # the same meaning, but it moves
    gates = replace(NO_MEMORY, rest=bundle.RestSettings())
    embedded = model.embed(Pictures([*scenes((RED, 8)), *flicker, *scenes((RED, 8))]), gates=gates)
    resting = [item.at_rest for item in embedded]
    assert resting[0] and resting[-1] and not resting[6]
    for settings, decodes in ((gates, 3), (NO_MEMORY, 1)):
        narrator = model.narrate(Pictures([*scenes((RED, 8)), *flicker, *scenes((RED, 8))]), gates=settings)
        list(narrator)
        assert narrator.totals.decoder_runs == decodes
    assert {item.at_rest for item in model.embed(Pictures(scenes((RED, 8))), gates=NO_MEMORY)} == {None}


def test_a_text_of_averaged_windows_is_stamped_with_all_of_them(model: Model) -> None:
    # Windows last 1 s and begin every 0.5 s: three of them span 2 s, and the first text can have no more than two.
    gates = replace(GATES, meaning=replace(GATES.meaning, smoothing=3, calm_windows=3))
    first, second = model.narrate(Pictures(scenes((RED, 16), (BLUE, 16))), gates=gates)
    assert (first.text, first.start, first.end) == ("a red screen", 0, 2)
    assert second.text == "blue"
    assert second.end - second.start == 2
    assert second.centre == second.start + 1


def test_same_words_for_another_meaning_are_not_said_again(model: Model) -> None:
    # a full red and a pale one: not the same embedding, but the same text
    one, other = (0, 0, 255), (120, 120, 255)
    gates = replace(GATES, meaning=replace(GATES.meaning, speak_below=0.95, forget_above=0.96))
    narrator = model.narrate(Pictures(scenes((one, 16), (other, 16))), gates=gates)
    assert texts(list(narrator)) == [(0.5, "a red screen")]
    assert narrator.totals.decoder_runs > 1
    assert narrator.totals.said == 1


def test_empty_text_is_not_said_but_does_not_hide_what_follows(model: Model) -> None:
    narrator = model.narrate(Pictures(scenes((RED, 16), (BLACK, 16), (BLUE, 16))), gates=GATES)
    assert [narration.text for narration in narrator] == ["a red screen", "blue"]
    assert narrator.totals.decoder_runs == 3


def test_change_at_the_very_end_is_said(model: Model) -> None:
    # the last window is blue for the first time: no second one shows that it is calm
    narrator = model.narrate(Pictures(scenes((RED, 16), (BLUE, 4))), gates=GATES)
    assert texts(list(narrator)) == [(0.5, "a red screen"), (4.0, "blue")]


@pytest.mark.parametrize("count", [1, 3, 4])
def test_source_shorter_than_a_clip_is_one_window(model: Model, count: int) -> None:
    narrator = model.narrate(Pictures(scenes((BLUE, count))))
    assert texts(list(narrator)) == [(0.0, "blue")]
    assert narrator.totals.windows == 1


def test_short_video_file_and_folder_and_image(model: Model, make_video: MakeVideo, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(6):
        import_opencv().imwrite(str(folder / f"{index}.png"), np.full((20, 20, 3), GREEN, np.uint8))
    for source in (make_video([(GREEN, 0.3)]), folder, folder / "0.png"):
        assert [narration.text for narration in model.narrate(source)] == ["green light glows"]


def test_folder_runs_at_the_rate_of_the_clip(model: Model, tmp_path: Path) -> None:
    for index in range(8):
        import_opencv().imwrite(str(tmp_path / f"{index}.png"), np.full((20, 20, 3), RED, np.uint8))
    narrator = model.narrate(tmp_path)
    list(narrator)
    assert narrator.totals.video_seconds == 2
    assert narrator.totals.windows == 3


@pytest.mark.parametrize("rate", [4, 10, 25, 50])
def test_camera_rate_does_not_change_what_is_said(model: Model, make_video: MakeVideo, rate: int) -> None:
    narrator = model.narrate(make_video([(RED, 3), (BLUE, 3)], rate=rate), gates=GATES)
    assert texts(list(narrator)) == [(0.5, "a red screen"), (3.5, "blue")]
    assert narrator.totals.windows == 11


def test_file_is_never_dropped_for_a_slow_consumer(model: Model, make_video: MakeVideo) -> None:
    path = make_video([(RED, 2), (BLUE, 2)])
    slow, fast = (model.narrate(path, every_window=True) for _ in range(2))
    found = []
    for narration in slow:
        time.sleep(0.02)  # slower than the pipeline
        found.append(narration)
    assert found == list(fast)


def test_same_video_same_result(model: Model, make_video: MakeVideo) -> None:
    path = make_video([(RED, 2), (BLUE, 2), (RED, 2)])
    first, second, fresh = (
        model.narrate(path, gates=GATES),
        model.narrate(path, gates=GATES),
        Model(model.directory, threads=1).narrate(path, gates=GATES),
    )
    assert list(first) == list(second) == list(fresh)
    assert counts(first.totals) == counts(second.totals) == counts(fresh.totals)


def test_gates_come_from_the_bundle(tmp_path: Path) -> None:
    model = Model(by_hand.build(tmp_path / "b", gates=NO_GATES))
    narrator = model.narrate(Pictures(scenes((RED, 16))))
    list(narrator)
    assert narrator.totals.decoder_runs == narrator.totals.windows == 7


def test_texts_come_in_order_and_as_soon_as_they_are_decided(step_by_step: Model) -> None:
    class Counting(Pictures):
        given = 0

        def frames(self) -> Iterator[Frame]:
            for frame in super().frames():
                self.given += 1
                yield frame

    source = Counting(scenes((RED, 16), (BLUE, 16), (GREEN, 16)))
    narrator = step_by_step.narrate(source, gates=GATES)
    seen = [(next(narrator).text, source.given, narrator.totals.windows) for _ in range(3)]
    # a window is whole with its 4th sample, which is chosen when the next frame has come
    assert seen == [("a red screen", 7, 2), ("blue", 23, 10), ("green light glows", 39, 18)]
    assert narrator.totals.said == 3


def test_narrations_and_totals_are_json(model: Model) -> None:
    narrator = model.narrate(Pictures(scenes((RED, 16), (BLUE, 16))), gates=GATES)
    found = [json.loads(json.dumps(narration.as_dict(), allow_nan=False)) for narration in narrator]
    assert [item["text"] for item in found] == ["a red screen", "blue"]
    assert json.loads(json.dumps(narrator.totals.as_dict(), allow_nan=False))["windows"] == 15


# --- when it goes wrong


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
    assert totals.said == totals.decoder_runs == 2
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
        "decoder_runs": 0,
        "decoder_tokens": 0,
        "memory_hits": 0,
        "said": 0,
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
    assert narrator.totals.said == 2
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
                    begun.wait(10)
            ended.set()

    def run() -> None:  # the first encoding takes as long as the whole recording
        begun.set()
        ended.wait(10)
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
