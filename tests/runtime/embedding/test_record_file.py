"""Quantised embeddings, and record files that survive a killed writer or a full disk."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.runtime import tiny_bundle as by_hand
from vlj_edge import VljEdgeError
from vlj_edge.bundle import nano_bundle, read_manifest, seal
from vlj_edge.runtime.embedding.quantize import FORMATS, parse_format, read_basis, shorten
from vlj_edge.runtime.embedding.record_file import HEADER_SIZE, Layout, RecordFile, read_layout, read_records

SPACE = "0123456789abcdef"


def unit(seed: int, size: int = 16) -> np.ndarray:
    vector = np.random.default_rng(seed).normal(size=size)
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


# --- vectors

vectors = hnp.arrays(np.float32, st.integers(1, 40), elements=st.floats(-1, 1, width=32)).filter(
    lambda v: np.linalg.norm(v) > 1e-3
)


@given(vectors, st.sampled_from(sorted(FORMATS)))
def test_every_form_comes_back_within_its_precision(vector: np.ndarray, name: str) -> None:
    vector = np.asarray(vector / np.linalg.norm(vector), np.float32)
    form, width = parse_format(name), len(vector)
    raw = form.pack(vector)
    assert len(raw) == form.size(width)
    back = form.unpack(raw, width)
    assert back.dtype == np.float32 and back.shape == vector.shape
    if name == "bit":
        np.testing.assert_array_equal(back > 0, vector >= 0)
        assert np.linalg.norm(back) == pytest.approx(1, abs=1e-5)
    else:
        step = {"float32": 0, "float16": 2**-11, "int8": np.abs(vector).max() / 254 + 1e-6}[name]
        np.testing.assert_allclose(back, vector, rtol=2**-10 if name == "float16" else 0, atol=step)


def test_a_prefix_is_of_unit_length() -> None:
    vector = unit(0)
    assert shorten(vector, 16) is vector
    part = shorten(vector, 4)
    np.testing.assert_allclose(part, vector[:4] / np.linalg.norm(vector[:4]), atol=1e-6)
    for width in (0, 17):
        with pytest.raises(VljEdgeError, match="width"):
            shorten(vector, width)
    with pytest.raises(VljEdgeError, match="choose one of float32, float16, int8, bit"):
        parse_format("int4")


# --- files


def fill(path: Path, layout: Layout, count: int) -> None:
    with RecordFile(path, layout) as file:
        for number in range(file.next, file.next + count):
            file.write(number / 2, 1e9 + number, unit(number), number % 3 - 1)


def check(path: Path, numbers: list[int], layout: Layout) -> None:
    found = list(read_records(path))
    assert [record.number for record in found] == numbers
    form = parse_format(layout.form)
    for record in found:
        assert (record.time, record.clock) == (record.number / 2, 1e9 + record.number)
        assert record.label == record.number % 3 - 1
        expected = form.unpack(form.pack(shorten(unit(record.number), layout.width)), layout.width)
        np.testing.assert_array_equal(record.embedding, expected)


@settings(max_examples=60)
@given(
    st.sampled_from(sorted(FORMATS)),
    st.sampled_from([1, 5, 16]),
    st.integers(0, 9),
    st.lists(st.integers(0, 25), max_size=4),
)
def test_what_was_written_is_read_in_order(
    tmp_path_factory: pytest.TempPathFactory, form: str, width: int, slots: int, sessions: list[int]
) -> None:
    path = tmp_path_factory.mktemp("records") / "file"
    layout = Layout(form, width, SPACE, slots)
    fill(path, layout, 0)
    for count in sessions:  # the writer stops and starts again
        fill(path, layout, count)
    total = sum(sessions)
    check(path, list(range(max(0, total - slots) if slots else 0, total)), layout)
    assert read_layout(path) == layout
    if slots:
        assert path.stat().st_size == HEADER_SIZE + slots * layout.record_size


@pytest.mark.parametrize("slots", [0, 4])
def test_a_power_cut_at_any_byte_loses_that_record_alone(tmp_path: Path, slots: int) -> None:
    path, layout = tmp_path / "file", Layout("int8", 16, SPACE, slots)
    fill(path, layout, 6)
    before = path.read_bytes()
    fill(path, layout, 1)
    after = path.read_bytes()
    first = HEADER_SIZE + (6 % slots if slots else 6) * layout.record_size
    old = before[first : first + layout.record_size].ljust(layout.record_size, b"\0")
    new = after[first : first + layout.record_size]
    kept = [3, 4, 5] if slots else list(range(6))
    for cut in range(layout.record_size + 1):
        torn = new[:cut] + (old[cut:] if slots else b"")
        path.write_bytes(before[:first] + torn + before[first + layout.record_size :])
        whole_old, whole_new = torn == old and slots > 0, torn == new
        numbers = ([2] if whole_old else []) + kept + ([6] if whole_new else [])
        check(path, numbers, layout)
        fill(path, layout, 1)  # and it goes on
        following = (numbers[-1] + 1) if numbers else 0
        expected = [n for n in [*numbers, following] if not slots or n > following - slots]
        check(path, expected, layout)


@pytest.mark.parametrize("slots", [0, 50])
def test_killing_the_writer_loses_nothing_that_was_written(tmp_path: Path, slots: int) -> None:
    path = tmp_path / "file"
    program = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[3])!r})
from pathlib import Path
from tests.runtime.embedding.test_record_file import SPACE, unit
from vlj_edge.runtime.embedding.record_file import Layout, RecordFile
file = RecordFile(Path({str(path)!r}), Layout("float16", 16, SPACE, {slots}))
print(file.next, flush=True)
while True:
    number = file.next
    file.write(number / 2, 1e9 + number, unit(number), number % 3 - 1)
    print(number, flush=True)
"""
    rng, layout = np.random.default_rng(0), Layout("float16", 16, SPACE, slots)
    for _ in range(5):
        writer = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        told = [writer.stdout.readline() for _ in range(2 + int(rng.integers(500)))]  # its start, then what it wrote
        writer.kill()
        told += writer.stdout.read().split("\n")[:-1]  # the last may be cut
        writer.wait()
        writer.stdout.close()
        found = [record.number for record in read_records(path)]
        assert told and found[-1] >= int(told[-1])
        check(path, list(range(found[-1] - len(found) + 1, found[-1] + 1)), layout)


def test_a_second_writer_is_refused_and_a_reader_is_not(tmp_path: Path) -> None:
    path, layout = tmp_path / "file", Layout("bit", 16, SPACE, 10)
    fill(path, layout, 3)
    with RecordFile(path, layout) as file:
        with pytest.raises(VljEdgeError, match="being written by another process"):
            RecordFile(path, layout)
        file.write(1.5, 1e9 + 3, unit(3), -1)
        check(path, [0, 1, 2, 3], layout)
    fill(path, layout, 1)


@pytest.mark.parametrize("change", [{"form": "int8"}, {"width": 8}, {"space": "f" * 16}, {"slots": 11}])
def test_a_file_of_something_else_is_refused_and_stays(tmp_path: Path, change: dict[str, object]) -> None:
    path, layout = tmp_path / "file", Layout("float16", 16, SPACE, 10)
    fill(path, layout, 3)
    before = path.read_bytes()
    with pytest.raises(VljEdgeError, match=r"holds a ring of 10 float16 vectors of 16 in space 0123456789abcdef, not "):
        RecordFile(path, replace(layout, **change))  # type: ignore[arg-type]
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"x" * 1000, b"vljedge1" + b"\0" * 100])
def test_what_is_no_file_of_records(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    for read in (read_layout, lambda p: list(read_records(p)), lambda p: RecordFile(p, Layout("bit", 16, SPACE))):
        with pytest.raises(VljEdgeError, match="is no file of embeddings"):
            read(path)
    assert path.read_bytes() == content
    with pytest.raises(VljEdgeError, match="No such file"):
        read_layout(tmp_path / "absent")


def test_a_full_disk_keeps_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, layout = tmp_path / "file", Layout("float16", 16, SPACE)
    with RecordFile(path, layout) as file:
        file.write(0, 1e9, unit(0), -1)
        real = os.pwrite
        monkeypatch.setattr(os, "pwrite", lambda descriptor, data, at: real(descriptor, data[:7], at))
        with pytest.raises(VljEdgeError, match=r"No space left on device.*the 1 records before stay"):
            file.write(0.5, 1e9, unit(1), 0)
        monkeypatch.setattr(os, "pwrite", real)
        check(path, [0], layout)
        file.write(0.5, 1e9 + 1, unit(1), 0)
    check(path, [0, 1], layout)
    with pytest.raises(VljEdgeError, match="cannot be made"):
        RecordFile(tmp_path / "no" / "file", layout)


def test_a_ring_that_does_not_fit_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(VljEdgeError, match="No space left on device"):
        RecordFile(tmp_path / "ring", Layout("float16", 16, SPACE, 10))
    assert os.listdir(tmp_path) == []


def test_the_reader_in_the_docs_reads(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "embeddings.md").read_text(encoding="utf-8")
    [program] = re.findall(r"```python\n(.*?)```", page, re.S)
    names: dict[str, Any] = {}
    exec(program, names)
    with RecordFile(tmp_path / "ring", Layout("float16", 8, SPACE, slots=5)) as ring:
        for number in range(7):
            ring.write(number / 2, 100.0 + number, np.full(8, 0.1 * number, np.float32), number)
    raw = bytearray((tmp_path / "ring").read_bytes())
    raw[64 + 3 * (len(raw) - 64) // 5 + 30] ^= 1  # a torn record
    (tmp_path / "ring").write_bytes(raw)
    theirs, ours = names["read"](tmp_path / "ring"), list(read_records(tmp_path / "ring"))
    assert [record[:4] for record in theirs] == [tuple(record[:4]) for record in ours]
    assert [record[0] for record in theirs] == [2, 4, 5, 6]
    for one, other in zip(theirs, ours, strict=True):
        np.testing.assert_array_equal(one[4].astype(np.float32), other.embedding)


@pytest.mark.parametrize("kind", [np.float16, np.int8])
def test_vectors_are_shortened_on_the_bundles_axes(tmp_path: Path, kind: type) -> None:
    axes, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))
    scaled = axes[:, :3] if kind is np.float16 else np.rint(axes[:, :3] * 100)
    directory = by_hand.build(tmp_path / "bundle")
    np.save(directory / "prefix.npy", scaled.astype(kind))
    manifest = read_manifest(directory)
    files = manifest.files | {"prefix.npy": seal(directory / "prefix.npy")}
    manifest = replace(manifest, prefix="prefix.npy", files=files)
    basis = read_basis(directory, manifest)
    assert basis is not None
    np.testing.assert_allclose(basis, axes[:, :3], atol=0.02)
    vector = unit(1, 4)
    expected = vector @ axes[:, :2]
    np.testing.assert_allclose(shorten(vector, 2, basis), expected / np.linalg.norm(expected), atol=0.05)
    assert shorten(vector, 4, basis) is vector and read_basis(directory, replace(manifest, prefix=None)) is None
    with pytest.raises(VljEdgeError, match="not to 3"):
        shorten(vector, 3, basis[:, :2])
    np.save(directory / "prefix.npy", np.zeros((5, 2), np.float16))
    damaged = replace(manifest, files=files | {"prefix.npy": seal(directory / "prefix.npy")})
    with pytest.raises(VljEdgeError, match=r"prefix\.npy holds no axes \(its shape is \(5, 2\)\)"):
        read_basis(directory, damaged)


def test_nanos_axes_keep_the_labels_at_half_the_width() -> None:
    """results/wearable.json has the figures on streams; this is that the file is the right one."""
    directory = nano_bundle()
    basis = read_basis(directory, read_manifest(directory))
    assert basis is not None and basis.shape == (384, 192)
    np.testing.assert_allclose(basis.T @ basis, np.eye(192), atol=0.03)
