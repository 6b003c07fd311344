"""vlj-edge eval: figures that are known by hand, broken videos, Ctrl-C, several bundles."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
from base64 import b64decode
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import PIL.Image
import pytest

from tests.cli.command import error_of, run_here
from tests.cli.conftest import write_video
from tests.runtime.tiny_bundle import BLUE, GREEN, RED
from vlj_edge import VljEdgeError
from vlj_edge.runtime.evaluation import embed
from vlj_edge.runtime.evaluation.data import Clip
from vlj_edge.runtime.model import Model

COLOURS = {"red": RED, "green": GREEN, "blue": BLUE}


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    """Two videos of each colour, in the folder of their class; one green one is really blue."""
    for name, colour in COLOURS.items():
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(2):
            shown = BLUE if (name, number) == ("green", 1) else colour
            write_video(tmp_path / "data" / name / f"{number}.avi", [(shown, 3)])
    return tmp_path / "data"


def evaluated(*arguments: str | Path) -> dict[str, Any]:
    done = run_here("eval", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_folder_of_classes(classes: Path, tiny_bundle: Path) -> None:
    found = evaluated(classes, "--bundle", tiny_bundle)
    assert (found["clips"], found["videos"], found["texts"], found["skipped"]) == (6, 6, 3, [])
    [model] = found["models"]
    assert model["bundle"] == str(tiny_bundle) and model["clips"] == 6
    top1, top5 = (model["classification"][name] for name in ("top1", "top5"))
    assert top1["value"] == pytest.approx(5 / 6, abs=1e-4) and top1["chance"] == pytest.approx(1 / 3, abs=1e-4)
    assert 0 <= top1["low"] < top1["value"] < top1["high"] <= 1 and top5["value"] == top5["chance"] == 1
    assert model["video_to_text"]["r1"] == top1
    worst = model["classes"][0]
    assert worst == {
        "label": "green",
        "clips": 2,
        "recall": 0.5,
        "recall_interval": [0.0, 1.0],
        "precision": 1.0,
        "precision_interval": None,  # of the one clip that is taken for it
        "taken_for": {"blue": 1},
    }
    assert model["text_to_video"]["r1"]["cases"] == 3


def test_the_tables_in_the_terminal_and_as_markdown(classes: Path, tiny_bundle: Path) -> None:
    page = classes.parent / "page.md"
    (classes / "green").rename(classes / "green | light")
    done = run_here("eval", classes, "--bundle", tiny_bundle, "--md", page)
    assert done.returncode == 0 and "0.833" in done.stdout and "blue (1)" in done.stdout
    rows = page.read_text().splitlines()
    assert any(row.startswith("| classification top-1 | 0.833 (") for row in rows)
    assert any(row.startswith(r"| green \| light | 2 | 0.50 (") and "blue (1)" in row for row in rows)


def test_timed_captions_measure_the_narration(tiny_bundle: Path, tmp_path: Path) -> None:
    parts = [("red", 6), ("blue", 6), ("green", 6)]
    for number in range(2):
        write_video(tmp_path / f"{number}.avi", [(COLOURS[name], seconds) for name, seconds in parts])
    said = {"red": "a red screen", "blue": "Blue.", "green": "green light glows"}
    rows = [
        {"video": f"{number}.avi", "start": n * 6.0, "end": n * 6.0 + 6, "text": said[name]}
        for number in range(2)
        for n, (name, _) in enumerate(parts)
    ]
    table = write_table(tmp_path, *rows)
    [model] = evaluated(table, "--bundle", tiny_bundle)["models"]
    narration, rates = model["narration"], model["rates"]
    assert [each["every"] for each in rates] == [None, 1, 2, 4, 8, 16, 32]
    decodes = [each["decodes_per_minute"] for each in rates]
    assert decodes[1] == pytest.approx(60, abs=4) and decodes[1:] == sorted(decodes[1:], reverse=True)
    assert rates[0]["cider"] == narration["cider"] and narration["cider"]["cases"] == 6
    assert narration["cider"]["value"] > 0.9 * rates[1]["cider"]["value"] > 0
    assert narration["cider"]["low"] is not None and narration["true"]["value"] > 0.5
    assert narration["decodes_saved"]["value"] > 2 and narration["cider_kept"]["value"] > 0.9
    assert rates[-1]["cider"]["value"] < narration["cider"]["value"]
    shown = run_here("eval", table, "--bundle", tiny_bundle).stdout
    assert "with the gates" in shown and "every 32 s" in shown and "CIDEr" in shown


def test_the_page_holds_its_pictures_and_obeys_nothing(classes: Path, tiny_bundle: Path, bundle: Path) -> None:
    page = classes.parent / "page.html"
    (classes / "blue").rename(classes / "<script> blue")
    done = run_here("eval", classes, "--bundle", tiny_bundle, "--against", bundle, "--html", page)
    assert done.returncode == 0, done.stderr
    text = page.read_text()
    assert "<script" not in text and "&lt;script&gt; blue" in text and "<svg" not in text
    assert re.findall(r"(?:src|href|url)\W*(http|//|/)", text) == []
    pictures = [b64decode(each) for each in re.findall(r"data:image/jpeg;base64,([\w+/=]+)", text)]
    assert len(pictures) == 2, "the green clip that is blue, for each of two bundles"
    red, green, blue = np.asarray(PIL.Image.open(io.BytesIO(pictures[0]))).mean((0, 1))
    assert blue > 200 and red < 60 and green < 60
    assert text.count("<table>") == 4 and str(bundle) in text and "0.833 (" in text


def test_the_page_has_the_curve(tiny_bundle: Path, video: Path, tmp_path: Path) -> None:
    parts = [{"start": n * 3.0, "end": n * 3.0 + 3, "text": name} for n, name in enumerate(COLOURS)]
    table, page = write_table(tmp_path, *({"video": str(video)} | part for part in parts)), tmp_path / "page.html"
    assert run_here("eval", table, "--bundle", tiny_bundle, "--html", page).returncode == 0
    [svg] = re.findall(r"<svg.*</svg>", page.read_text())
    circles = ElementTree.fromstring(svg).iter("circle")
    assert sorted(circle.get("class", "") for circle in circles) == ["dot"] * 6 + ["gates"]


def write_table(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "data.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def question(colour: str, video: str = "colours.avi", **part: float) -> dict[str, Any]:
    return {"video": video, "question": "what colour is it", "choices": [*COLOURS], "answer": colour, **part}


def test_parts_captions_and_questions_of_a_table(
    video: Path, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(video, tmp_path)
    parts = {name: {"start": n * 3.0, "end": n * 3.0 + 3} for n, name in enumerate(("red", "blue", "green"))}
    captions = [{"video": "colours.avi", "text": f"{name} screen", **part} for name, part in parts.items()]
    questions = [question(name, **part) for name, part in parts.items()]
    table = write_table(tmp_path, *captions, *questions, question("green", **parts["red"]) | {"question": "describe"})
    opened: list[object] = []
    open_source = embed.open_source
    monkeypatch.setattr(embed, "open_source", lambda *a, **k: opened.append(a) or open_source(*a, **k))
    found = evaluated(table, "--bundle", tiny_bundle)
    [model] = found["models"]
    assert (found["clips"], found["videos"], found["texts"]) == (3, 1, 3)
    assert len(opened) == 3, "a clip with two questions and a text is read once"
    assert "classification" not in model and "classes" not in model
    assert model["text_to_video"]["r1"]["value"] == model["video_to_text"]["r1"]["value"] == 1
    assert model["text_to_video"]["median_rank"]["value"] == 1
    accuracy = model["multiple_choice"]["accuracy"]
    assert (accuracy["value"], accuracy["cases"]) == (0.75, 4) and accuracy["chance"] == pytest.approx(1 / 3, abs=1e-3)
    assert accuracy["low"] is None, "one video gives no interval over videos"


def test_what_cannot_be_read_is_named_and_left_out(classes: Path, tiny_bundle: Path) -> None:
    broken, empty = classes / "red" / "1.avi", classes / "blue" / "0.avi"
    broken.write_bytes(broken.read_bytes()[:3000])
    empty.write_bytes(b"")
    done = run_here("eval", classes, "--bundle", tiny_bundle, "--json")
    *warnings, error = done.stderr.strip().splitlines()
    assert done.returncode == 1 and error.startswith("error: 2 of 6 clips")
    assert [str(path) in line for path, line in zip((empty, broken), warnings, strict=True)] == [True, True]
    found = json.loads(done.stdout)
    assert {each["video"] for each in found["skipped"]} == {str(broken), str(empty)}
    assert found["models"][0]["clips"] == 4 and found["models"][0]["classification"]["top1"]["value"] == 0.75
    for path in classes.rglob("*.avi"):
        path.write_bytes(b"")
    done = run_here("eval", classes, "--bundle", tiny_bundle, "--json")
    assert (done.returncode, done.stdout) == (1, "") and "6 of 6 clips" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "name", ["/dev/zero", "/dev/video0", "pipe", "no\n.mp4", "x" * 5000, "\ud800", "~nobody/a.mp4"]
)
def test_no_name_in_a_table_stops_the_others(name: str, video: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    good = {"video": str(video), "text": "red"}
    done = run_here("eval", write_table(tmp_path, {"video": name, "text": "blue"}, good), "--bundle", tiny_bundle)
    warning, error = done.stderr.strip().splitlines()
    assert done.returncode == 1 and warning.startswith("warning: left out") and "1 of 2 clips" in error
    assert "1 of 2 clips" in done.stdout


def test_ctrl_c_prints_what_was_measured(classes: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, embed_clip = [], embed.embed_clip

    def interrupted(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) > 4:
            raise KeyboardInterrupt
        return embed_clip(*arguments)

    monkeypatch.setattr(embed, "embed_clip", interrupted)
    page = classes.parent / "page.md"
    done = run_here("eval", classes, "--bundle", tiny_bundle, "--md", page)
    assert (done.returncode, done.stderr.strip()) == (130, "") and "4 of 6 clips" in done.stdout
    assert "4 of 6 clips" in page.read_text()
    assert run_here("eval", classes, "--bundle", tiny_bundle, "--json").stdout == "", "nothing was measured"


def test_bundles_side_by_side_are_judged_on_the_same_clips(classes: Path, tiny_bundle: Path, bundle: Path) -> None:
    (classes / "red" / "1.avi").write_bytes(b"")
    done = run_here("eval", classes, "--bundle", tiny_bundle, "--against", bundle, "--json")
    found = json.loads(done.stdout)
    first, second = found["models"]
    [difference] = found["differences"]
    assert difference["bundle"] == str(bundle)
    assert [difference["classification"]["top1"][name] for name in ("value", "low", "high")] == [0, 0, 0]
    assert (first.pop("bundle"), second.pop("bundle")) == (str(tiny_bundle), str(bundle))
    assert first == second and first["clips"] == 5
    assert done.stderr.count("warning") == 1, "a broken video is named once"
    table = run_here("eval", classes, "--bundle", tiny_bundle, "--against", bundle).stdout
    assert sum("top-1" in line and line.count("0.800") == 2 for line in table.splitlines()) == 1
    assert sum("top-1" in line and "+0.000 (+0.000 to +0.000)" in line for line in table.splitlines()) == 1


def test_a_wrong_bundle_is_refused_before_the_work(classes: Path, tiny_bundle: Path) -> None:
    done = run_here("eval", classes, "--bundle", tiny_bundle, "--against", classes)
    assert str(classes) in error_of(done) and done.stdout == ""


@pytest.mark.parametrize("broken", ["vision_encoder.onnx", "text_encoder.onnx", "decoder.onnx", "a longer text"])
def test_whatever_is_wrong_with_a_later_bundle_is_said_before_any_work(
    broken: str, video: Path, bundle: Path, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for work in ("embed_texts", "embed_clip"):
        monkeypatch.setattr(embed, work, lambda *given, name=work: pytest.fail(f"{name} came first"))
    other = Path(shutil.copytree(tiny_bundle, tmp_path / "other"))
    if broken.endswith(".onnx"):
        (other / broken).write_bytes((other / broken).read_bytes()[:-40])
    text = "red " * (30 if broken == "a longer text" else 1)  # nano takes both
    table = write_table(tmp_path, {"video": str(video), "start": 0, "end": 3, "text": text})
    done = run_here("eval", table, "--against", bundle, "--against", other)
    assert ("'red red" if broken == "a longer text" else str(other / broken)) in error_of(done)


def test_missing_videos_are_named_before_any_work(
    video: Path, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embed, "embed_texts", lambda *given: pytest.fail("the work came first"))
    table = write_table(tmp_path, {"video": "gone.mp4", "text": "red"}, {"video": "lost.mp4", "text": "blue"})
    done = run_here("eval", table, "--bundle", tiny_bundle)
    assert done.returncode == 1 and "gone.mp4" in done.stderr and "lost.mp4" in done.stderr and done.stdout == ""


def test_an_input_is_not_overwritten(video: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copy(video, tmp_path))
    table = write_table(tmp_path, {"video": copy.name, "text": "red"})
    for target, option in ((copy, "--md"), (table, "--md"), (copy, "--html")):
        before = target.read_bytes()
        done = run_here("eval", table, "--bundle", tiny_bundle, option, target)
        assert done.returncode in (1, 2) and target.read_bytes() == before, target


def test_a_text_that_is_too_long_is_named_before_the_work(video: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    table = write_table(tmp_path, {"video": str(video), "text": "red " * 30})
    assert "'red red" in error_of(run_here("eval", table, "--bundle", tiny_bundle))


def test_a_published_file_with_its_videos_elsewhere(classes: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    sentences = [
        {"caption": "red", "video_id": "0", "sen_id": 0},
        {"caption": "green", "video_id": "gone", "sen_id": 1},
    ]
    table = tmp_path / "MSRVTT_data.json"
    table.write_text(json.dumps({"videos": [], "sentences": sentences}))
    done = run_here("eval", table, "--videos", classes / "red", "--bundle", tiny_bundle, "--json")
    assert done.returncode == 0 and ": 1 of the videos" in done.stderr and str(table) in done.stderr
    assert json.loads(done.stdout)["missing"] == 1


def test_a_question_that_is_too_long_is_no_fault_of_a_video(video: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    table = write_table(tmp_path, question("red", str(video)) | {"question": "what " * 30})
    assert "left out" not in error_of(run_here("eval", table, "--bundle", tiny_bundle))


def test_a_clip_that_only_the_second_bundle_cannot_read_counts_for_neither(
    classes: Path, tiny_bundle: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed_clip = embed.embed_clip

    def failing(model: Model, clip: Clip) -> Any:
        if model.directory == bundle and clip.video == classes / "green" / "1.avi":
            raise VljEdgeError("it is too much")
        return embed_clip(model, clip)

    monkeypatch.setattr(embed, "embed_clip", failing)
    done = run_here("eval", classes, "--bundle", tiny_bundle, "--against", bundle, "--json")
    models = json.loads(done.stdout)["models"]
    assert done.returncode == 1 and str(classes / "green" / "1.avi") in done.stderr
    assert [(each["clips"], each["classification"]["top1"]["value"]) for each in models] == [(5, 1), (5, 1)]
