"""V-JEPA 2 with a label head: logits, labels and texts against transformers' own class."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.cli.command import error_of, run_here
from tests.export.families import comparing
from tests.export.families.checkpoints import ACTIONS, SIDE, write_vjepa2
from vlj_edge.bundle import LabelHead, read_manifest
from vlj_edge.export.families.find import read_shape
from vlj_edge.runtime.embedding.classify import classify, classify_source
from vlj_edge.runtime.embedding.own_labels import OwnLabels, offered_labels
from vlj_edge.runtime.model import Model
from vlj_edge.runtime.video.uri import open_source
from vlj_edge.runtime.words.label_head import choose_label


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    directory = tmp_path_factory.mktemp("checkpoints") / "vjepa2"
    return directory, write_vjepa2(directory)


@pytest.fixture(scope="module")
def bundle(checkpoint: tuple[Path, Any]) -> Path:
    return comparing.export(checkpoint[0])


def test_what_is_in_it(bundle: Path) -> None:
    manifest = read_manifest(bundle)
    assert set(manifest.engines) == {"vision_encoder", "decoder"}
    assert not manifest.takes_query and not manifest.embeds_texts and not manifest.tokenizers
    assert (bundle / "labels.txt").read_text(encoding="utf-8").splitlines() == list(ACTIONS)
    assert (manifest.embedding, manifest.clip.frames) == (65, 4)


def test_pictures_are_those_of_its_own_processor(bundle: Path) -> None:
    mean, std = (np.array(each)[:, None, None] for each in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    for picture in comparing.pictures([*comparing.ODD_SIZES, (37, 90), (38, 53)]):
        expected = comparing.video_processor(picture, SIDE * 256 // 224, SIDE, "bilinear")
        found = comparing.processed(bundle, [picture])[0, 0]
        assert np.abs(found * std + mean - expected).max() < 1.001 / 255, picture.shape


def test_the_size_follows_from_the_crop_whatever_the_file_says(tmp_path: Path) -> None:
    """VJEPA2VideoProcessor replaces the size that it reads."""
    write_vjepa2(tmp_path / "vjepa2")
    path = tmp_path / "vjepa2" / "video_preprocessor_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(settings | {"size": {"shortest_edge": 50}}), encoding="utf-8")
    assert read_shape(tmp_path / "vjepa2").preprocess.short_side == SIDE * 256 // 224


@pytest.mark.parametrize("seed", range(3))
def test_logits_are_those_of_transformers(checkpoint: tuple[Path, Any], bundle: Path, seed: int) -> None:
    pixels = comparing.processed(bundle, comparing.pictures([(50, 60)] * 4, seed))
    with torch.no_grad():
        expected = checkpoint[1](pixel_values_videos=torch.from_numpy(pixels)).logits.numpy()
    embedding = comparing.run(bundle, "vision_encoder", pixels=pixels)
    assert np.linalg.norm(embedding) == pytest.approx(1, abs=1e-5)
    with Model(bundle) as model:
        engine_logits = _logits(model, embedding[0])
        assert np.abs(engine_logits - expected[0]).max() < 1e-4 * max(1, np.abs(expected).max())
        said = model.chain.decode(embedding[0])[0]
    assert said in ("", ACTIONS[int(expected.argmax())])


def _logits(model: Model, embedding: np.ndarray) -> np.ndarray:
    from vlj_edge.runtime.engines.base import open_engine
    from vlj_edge.runtime.words.label_head import label_logits

    return label_logits(open_engine(model.directory, model.manifest, "decoder"), embedding)


def test_a_label_stays_until_another_is_clearly_likelier() -> None:
    labels, head = ["a", "b", "c"], LabelHead("labels.txt", none_below=0.4, lead=0.2)

    def choose(probabilities: list[float], last: str) -> str:
        return choose_label(np.log(np.array(probabilities, np.float32)), labels, head, last)

    assert choose([0.48, 0.51, 0.01], last="") == "b"
    assert choose([0.48, 0.51, 0.01], last="a") == "a", "a lead of 0.03 is no change"
    assert choose([0.3, 0.69, 0.01], last="a") == "b"
    assert choose([0.33, 0.34, 0.33], last="b") == "", "none of them is likely"


@pytest.mark.parametrize("name", ["vision_encoder"])
def test_attention_is_one_node_a_layer(bundle: Path, name: str) -> None:
    graph = onnx.load(bundle / f"{name}.onnx").graph
    assert sum(node.op_type == "Attention" for node in graph.node) == 2 + 2 + 1, "encoder, pooler, its query"
    assert not any(node.op_type == "Softmax" for node in graph.node)


@pytest.mark.parametrize("arguments", [["--fp16"], ["--flavour", "portable"], ["--precision", "int8w"]])
def test_commands(
    checkpoint: tuple[Path, Any], tmp_path: Path, make_video: Callable[..., Path], arguments: list[str]
) -> None:
    video, out = make_video([((0, 0, 255), 3), ((255, 0, 0), 3)]), tmp_path / "out"
    done = run_here("export", checkpoint[0], *arguments, "--out", out)
    assert done.returncode == 0, done.stderr
    done = run_here("narrate", video, "--bundle", out, "--every-window")
    assert done.returncode == 0, done.stderr
    for command in (
        ["verify", out],
        ["inspect", out],
        ["embed", video, "--bundle", out],
        ["profile", out, video],
        ["index", video, "--bundle", out, "--store", tmp_path / "store"],
    ):
        done = run_here(*command)
        assert done.returncode == 0, (command, done.stderr)
    for command in (
        ["search", "a", "--store", tmp_path / "store", "--bundle", out],
        ["labels", "a,b", "--out", tmp_path / "bank.npz", "--bundle", out],
    ):
        done = run_here(*command)
        assert done.returncode == 2 and "no text encoder" in done.stderr and done.stderr.count("\n") == 1


def no_names(config: dict[str, Any]) -> None:
    del config["id2label"]


def placeholders(config: dict[str, Any]) -> None:
    config["id2label"] = {str(number): f"LABEL_{number}" for number in range(5)}


def a_gap(config: dict[str, Any]) -> None:
    config["id2label"]["9"] = config["id2label"].pop("3")


def too_few(config: dict[str, Any]) -> None:
    del config["id2label"]["4"]


def too_deep(config: dict[str, Any]) -> None:
    config["num_hidden_layers"] = 3


@pytest.mark.parametrize("damage", [no_names, placeholders, a_gap, too_few, too_deep])
def test_a_wrong_config_is_one_line(tmp_path: Path, damage: Callable[[dict[str, Any]], None]) -> None:
    write_vjepa2(tmp_path / "vjepa2")
    path = tmp_path / "vjepa2" / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    damage(config)
    path.write_text(json.dumps(config), encoding="utf-8")
    done = run_here("export", tmp_path / "vjepa2", "--out", tmp_path / "out")
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and str(tmp_path / "vjepa2") in done.stderr
    if damage in (no_names, placeholders, a_gap):
        assert "id2label" in done.stderr


def test_captions_need_a_text_tower(checkpoint: tuple[Path, Any], tmp_path: Path) -> None:
    (tmp_path / "captions.txt").write_text("a\nb\n", encoding="utf-8")
    done = run_here("export", checkpoint[0], "--captions", tmp_path / "captions.txt", "--out", tmp_path / "out")
    assert done.returncode == 2 and "--captions" in done.stderr


@pytest.fixture
def red(make_video: Callable[..., Path]) -> Path:
    return make_video([((0, 0, 255), 3)])


def test_own_labels_have_the_probabilities_of_transformers(
    checkpoint: tuple[Path, Any], bundle: Path, red: Path
) -> None:
    with Model(bundle) as model, open_source(red) as source:
        frame = next(iter(source)).image
        pixels = comparing.processed(bundle, [frame[:, :, ::-1]] * 4)
        with torch.no_grad():
            logits = checkpoint[1](pixel_values_videos=torch.from_numpy(pixels)).logits[0]
        found = classify_source(model, red)
        every = logits.softmax(0).numpy()
        assert [guess.label for guess in found.guesses] == [ACTIONS[n] for n in np.argsort(-every)[:5]]
        assert sum(guess.score for guess in found.guesses) + found.none_score == pytest.approx(1, abs=1e-5)
        fits = every.max() >= 0.2
        assert (found.label is not None) == fits == (found.none_score == 0)
        for guess in found.guesses:
            assert guess.similarity == pytest.approx(every[ACTIONS.index(guess.label)], abs=1e-3)
        some = [ACTIONS[3], ACTIONS[1].upper()]
        among = logits[[3, 1]].softmax(0).numpy()
        bank = replace(offered_labels(model, some), none_below=0.0)
        assert isinstance(bank, OwnLabels) and bank.labels == (ACTIONS[3], ACTIONS[1]), "as the model spells them"
        with model.embed(red) as windows:
            found = classify(windows, bank, model.manifest.labels)
        scores = {guess.label: guess.score for guess in found.guesses}
        assert [scores[ACTIONS[3]], scores[ACTIONS[1]]] == pytest.approx(list(among), abs=1e-3)


@given(
    st.lists(st.floats(-8, 8, width=32), min_size=5, max_size=5),
    st.sets(st.integers(0, 4), min_size=1),
    st.floats(0, 1),
)
def test_scores_of_own_labels_add_up_to_one(logits: list[float], offered: set[int], none_below: float) -> None:
    numbers = tuple(sorted(offered))
    own = OwnLabels(tuple(ACTIONS[n] for n in numbers), none_below, numbers, lambda _: np.array(logits, np.float32))
    near = own.similarities(np.zeros(3, np.float32))
    scores, of_none = own.scores(near)
    assert scores.sum() + of_none == pytest.approx(1, abs=1e-5)
    if near.max() >= none_below:
        expected = np.exp(np.array([logits[n] for n in numbers]))
        assert of_none == 0 and np.allclose(scores, expected / expected.sum(), atol=1e-5)
    else:
        assert of_none >= scores.max() - 1e-6


def test_commands_that_compare_with_own_labels(bundle: Path, red: Path, tmp_path: Path) -> None:
    out = ("--bundle", bundle)
    done = run_here("classify", red, *out, "--json", "--none-below", "0")
    assert done.returncode == 0, done.stderr
    assert {guess["label"] for guess in json.loads(done.stdout)["guesses"]} == set(ACTIONS)
    done = run_here("classify", red, *out, "--none-below", "1")
    assert done.returncode == 0 and "none of these" in done.stdout.splitlines()[0]
    (tmp_path / "two.txt").write_text("Opening something\nWaving\n", encoding="utf-8")
    for two in (tmp_path / "two.txt", "opening something,waving"):
        done = run_here("classify", red, *out, "--labels", two, "--none-below", "0")
        assert done.returncode == 0 and len(done.stdout.splitlines()) == 2, done.stderr
    done = run_here("classify", red, *out, "--stream", "--none-below", "0")
    assert done.returncode == 0 and done.stdout
    done = run_here("ask", red, "what is it?", *out, "--choices", "Opening something,Waving")
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 2, done.stderr
    for command in (
        ("classify", red, *out, "--labels", "opening a thing,Waving"),
        ("ask", red, "what is it?", *out, "--choices", "opening a thing,Waving"),
    ):
        message = error_of(run_here(*command), 2)
        assert "'opening a thing'" in message and "'Opening something'" in message, message
    assert "'Pushing" in error_of(run_here("classify", red, *out, "--labels", "qqqq"), 2), (
        "the first, where none is near"
    )
    done = run_here("classify", red, *out, "--template", "a {}")
    assert "labels of its own" in error_of(done, 2)
    assert "vlj-edge classify" in error_of(run_here("labels", "a,b", "--out", tmp_path / "bank.npz", *out), 2)
    assert not (tmp_path / "bank.npz").exists()


def test_a_bundle_without_its_head_has_no_labels(checkpoint: tuple[Path, Any], red: Path, tmp_path: Path) -> None:
    done = run_here("export", checkpoint[0], "--no-decoder", "--out", tmp_path / "bare")
    assert done.returncode == 0, done.stderr
    done = run_here("classify", red, "--bundle", tmp_path / "bare")
    assert done.returncode in (1, 2) and done.stderr.count("Traceback") == 0


def test_eval_goes_by_the_probabilities_of_its_labels(
    bundle: Path, make_video: Callable[..., Path], tmp_path: Path
) -> None:
    rng, rows, right = np.random.default_rng(0), [], []
    with Model(bundle) as model:
        for number in range(6):
            video = make_video([(tuple(rng.integers(0, 256, 3).tolist()), 2)], name=f"{number}.avi")
            likeliest = [guess.label for guess in classify_source(model, video).guesses]
            true = likeliest[number % 2]  # of every other video, the second likeliest
            right.append(true == likeliest[0])
            asked = {"question": "what is it?", "choices": [likeliest[3], likeliest[1].upper()], "answer": likeliest[3]}
            rows.append({"video": video.name, "text": true.lower()} | asked)
    classes = {row["text"] for row in rows}
    data, out = tmp_path / "data.jsonl", ("--bundle", bundle)
    data.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    done = run_here("eval", data, *out, "--json")
    assert done.returncode == 0, done.stderr
    [found] = json.loads(done.stdout)["models"]
    assert found["multiple_choice"]["accuracy"]["value"] == 0, "the fourth is less likely than the second"
    assert found["video_to_text"]["r1"]["cases"] == 6 and found["video_to_text"]["r5"]["value"] == 1
    if len(classes) < 5:
        assert found["video_to_text"]["r1"]["value"] >= sum(right) / 6, "fewer candidates make it easier"


@pytest.mark.parametrize("texts", [("Opening a thing", "Waving"), ("waving", "Waving")])
def test_eval_of_texts_that_are_no_labels_is_one_line(
    bundle: Path, red: Path, tmp_path: Path, texts: tuple[str, str]
) -> None:
    rows = [{"video": red.name, "start": n, "end": n + 1, "text": text} for n, text in enumerate(texts)]
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    message = error_of(run_here("eval", tmp_path / "data.jsonl", "--bundle", bundle))
    assert f"'{texts[0]}'" in message and ("'Opening something'" in message or "'Waving'" in message)


def test_eval_measures_what_it_narrates(bundle: Path, make_video: Callable[..., Path], tmp_path: Path) -> None:
    video = make_video([((0, 0, 255), 4), ((255, 0, 0), 4)], name="two.avi")
    rows = [{"video": video.name, "start": n * 4, "end": n * 4 + 4, "text": ACTIONS[n]} for n in range(2)]
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    done = run_here("eval", tmp_path / "data.jsonl", "--bundle", bundle, "--json")
    assert done.returncode == 0, done.stderr
    assert "narration" in json.loads(done.stdout)["models"][0]


@pytest.mark.slow
def test_calibrate_chooses_when_a_label_is_said(bundle: Path, make_video: Callable[..., Path], tmp_path: Path) -> None:
    colours, seconds = [(0, 0, 255), (255, 0, 0)], 8
    film = make_video([(colours[n % 2], seconds) for n in range(8)], rate=8, name="colours.avi")
    with Model(bundle) as model:
        label = classify_source(model, make_video([(colours[0], 3)], name="one.avi")).guesses[0].label
    events = [{"start": n * seconds, "end": (n + 1) * seconds, "captions": [label]} for n in range(0, 8, 2)]
    (tmp_path / "events.json").write_text(json.dumps({"events": events}), encoding="utf-8")
    always = tmp_path / "always.json"
    always.write_text('{"gates": {}, "label_head": {"none_below": 0.0, "lead": 0.0}}', encoding="utf-8")
    out, copy, given = tmp_path / "gates.json", tmp_path / "copy", ("--bundle", bundle, "--gates", always)
    options = ("--events", tmp_path / "events.json", "--out", out, "--bundle-out", copy)
    done = run_here("calibrate", film, *given, *options, "--json")
    assert done.returncode == 0, done.stderr
    found, written = json.loads(done.stdout)["label_head"], json.loads(out.read_text())["label_head"]
    assert written == {name: found[name] for name in ("none_below", "lead")}
    head = read_manifest(copy).label_head
    assert head is not None and (head.none_below, head.lead) == (written["none_below"], written["lead"])
    with Model(bundle, gates=out) as model:
        assert model.manifest.label_head == head, "what the file holds is what every command uses"
    assert run_here("verify", copy).returncode == 0
    done = run_here("calibrate", film, "--bundle", bundle)  # without annotations, its gates alone
    assert done.returncode == 0 and "label head" not in done.stdout, done.stderr
