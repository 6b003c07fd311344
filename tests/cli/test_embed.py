"""vlj-edge embed with the options of a wearable."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.command import error_of, python, run_here, start, vlj_edge
from vlj_edge import load
from vlj_edge.bundle.embedding_space import embedding_space
from vlj_edge.runtime.embedding.record_file import read_layout, read_records
from vlj_edge.runtime.video.recordings.film import film
from vlj_edge.runtime.video.uri import open_source


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def bank(tiny_bundle: Path, tmp_path: Path) -> Path:
    assert run_here("labels", "red,green,blue", "--out", tmp_path / "bank.npz", "--bundle", tiny_bundle).returncode == 0
    return tmp_path / "bank.npz"


def test_json_lines_hold_every_embedding(video: Path, tiny_bundle: Path) -> None:
    done = vlj_edge("embed", video, "--bundle", tiny_bundle)
    found = lines(done.stdout)
    expected = list(load(tiny_bundle).embed(video))
    assert done.returncode == 0 and len(found) == len(expected) == 17
    for line, item in zip(found, expected, strict=True):
        assert (line["start"], line["end"], line["encoded"]) == (item.window.start, item.window.end, item.encoded)
        np.testing.assert_allclose(line["embedding"], item.embedding, atol=1e-6)
    assert "17 windows, " in done.stderr and "17 embeddings" in done.stderr


def test_duty_and_change(video: Path, tiny_bundle: Path) -> None:
    seldom = lines(run_here("embed", video, "--bundle", tiny_bundle, "--every", "2s").stdout)
    assert [line["start"] for line in seldom] == [0, 2, 4, 6, 8]
    changed = lines(run_here("embed", video, "--bundle", tiny_bundle, "--on-change").stdout)
    assert 3 <= len(changed) < 17 and all(line["encoded"] for line in changed)


def test_a_picture_is_turned(video: Path, tmp_path: Path) -> None:
    scene = tmp_path / "scene.mp4"
    image = np.zeros((48, 64, 3), np.uint8)
    image[:, :32] = 255  # light on the left, so that a turn shows
    with film(scene, 0.25) as writer:
        for number in range(12):
            writer.write(number / 4, image)
    turned = [np.array(line["embedding"]) for line in lines(run_here("embed", scene, "--rotate", "90").stdout)]
    with load() as model:  # nano, which tells left from top
        expected = [item.embedding for item in model.embed(open_source(scene, rotate=90))]
        upright = [item.embedding for item in model.embed(open_source(scene))]
    np.testing.assert_allclose(turned, expected, atol=1e-6)
    assert min(a @ b for a, b in zip(expected, upright, strict=True)) < 0.99
    for command in (
        ("embed", video),
        ("narrate", video),
        ("ask", video, "why?"),
        ("classify", video),
        ("serve", video),
    ):
        done = run_here(*command, "--rotate", "45")
        assert done.returncode == 2 and "270" in done.stderr


def test_archive_stream_and_ring_hold_the_same(video: Path, tiny_bundle: Path, tmp_path: Path, bank: Path) -> None:
    archive, stream, ring = tmp_path / "a.npz", tmp_path / "s.vlj", tmp_path / "r.vlj"
    common = ("embed", video, "--bundle", tiny_bundle, "--bank", bank)
    assert run_here(*common, "--format", "npz", "--out", archive).returncode == 0
    done = run_here(
        *common, "--format", "binary", "--out", stream, "--ring", ring, "--keep", "10", "--form", "float32", "--events"
    )
    assert [line["label"] for line in lines(done.stdout)] == ["red", "blue", "green"]
    with np.load(archive, allow_pickle=False) as found:
        times, rows, labels = found["time"], found["embedding"], found["label"]
        assert (
            found["space"].tobytes().decode()
            == embedding_space(load(tiny_bundle).manifest)
            == read_layout(stream).space
        )
    for path, first in ((stream, 0), (ring, 7)):
        records = list(read_records(path))
        assert [record.number for record in records] == list(range(first, 17))
        for record in records:
            assert (record.time, record.label) == (times[record.number], labels[record.number])
            np.testing.assert_array_equal(record.embedding, rows[record.number])


def test_a_ring_goes_on_where_it_stopped(video: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    ring = tmp_path / "r.vlj"
    arguments = (
        "embed",
        video,
        "--bundle",
        tiny_bundle,
        "--ring",
        ring,
        "--keep",
        "20",
        "--form",
        "bit",
        "--width",
        "3",
    )
    for _ in range(2):
        done = run_here(*arguments)
        assert (done.returncode, done.stdout) == (0, "")
    assert [record.number for record in read_records(ring)] == list(range(14, 34))
    assert "holds a ring of 20 bit vectors of 3" in error_of(run_here(*arguments[:-4], "--form", "int8"))


def _holds_records(ring: Path) -> bool:
    return ring.exists() and any(True for _ in read_records(ring))


def test_what_was_embedded_before_an_interruption_is_kept(video: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    from vlj_edge.runtime.video.cameras.opencv import import_opencv

    for number in range(4000):
        import_opencv().imwrite(str(pictures / f"{number}.bmp"), np.full((16, 16, 3), number % 256, np.uint8))
    archive, stream = tmp_path / "a.npz", tmp_path / "s.vlj"
    for kind, path in (("npz", archive), ("binary", stream)):
        ring = tmp_path / f"{kind}.ring"  # says when the first window is through, however busy the machine is
        running = start("embed", pictures, "--bundle", tiny_bundle, "--format", kind, "--out", path, "--ring", ring)
        while not _holds_records(ring):
            assert running.poll() is None, running.communicate()
            time.sleep(0.01)
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=120)
        assert running.returncode == 130
    with np.load(archive, allow_pickle=False) as found:
        assert len(found["time"]) == len(found["embedding"]) > 0
    assert len(list(read_records(stream))) > 0


def test_neither_decoder_nor_text_encoder_is_loaded(video: Path, tiny_bundle: Path, bank: Path) -> None:
    program = """
import sys
from vlj_edge.runtime import chain
from vlj_edge.runtime.engines import base as engine
real, opened = engine.open_engine, []
def watched(directory, manifest, name, **request):
    opened.append(name)
    return real(directory, manifest, name, **request)
chain.open_engine = watched
from vlj_edge.cli.group import cli
cli.main(sys.argv[1:], standalone_mode=False)
assert opened == ["vision_encoder", "predictor"], opened
assert not {"torch", "onnx", "transformers"} & set(sys.modules)
"""
    done = python(program, "embed", video, "--bundle", tiny_bundle, "--bank", bank, "--events")
    assert done.returncode == 0, done.stderr


def test_calls_that_are_wrong(video: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    for arguments, message in (
        (("--format", "npz"), "name it with --out"),
        (("--format", "binary"), "name it with --out"),
        (("--form", "int8"), "--form is for --ring"),
        (("--events",), "--events needs --bank"),
        (("--every", "soon"), "'soon'"),
        (("--out", "x", "--ring", "x"), "are the same file"),
    ):
        done = run_here("embed", video, "--bundle", tiny_bundle, *arguments)
        assert done.returncode == 2 and message in done.stderr, arguments
    for arguments, code, message in (
        (("--width", "5"), 2, "--width"),
        (("--ring", tmp_path / "r", "--form", "int4"), 2, "choose one of float32"),
        (("--bank", tmp_path / "absent.npz"), 1, "is no bank of labels"),
        (("--out", tmp_path / "no" / "x.json"), 1, "No such file"),
    ):
        assert message in error_of(run_here("embed", video, "--bundle", tiny_bundle, *arguments), code), arguments
