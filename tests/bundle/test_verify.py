"""The files of a bundle are those of its manifest, and none of them lies outside it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tests.bundle.damage import edit, refusal
from vlj_edge.bundle import MANIFEST, read_manifest, seal, verify_bundle, verify_file

# What leads out of a bundle, on any system that one may be copied to, or is no file in it at all.
UNSAFE_NAMES = [
    "../decoder.onnx",
    "/etc/passwd",
    "a/../../decoder.onnx",
    "a/../decoder.onnx",
    "..",
    "C:\\decoder.onnx",
    "C:decoder.onnx",
    "a\\decoder.onnx",
    "..\\decoder.onnx",
    "",
    ".",
    "./decoder.onnx",
    "a//decoder.onnx",
    "decoder.onnx/",
    "decoder\n.onnx",
    "decoder\x00.onnx",
    "\x1b[2Jdecoder.onnx",
    "\ud800.onnx",
]


def test_a_whole_bundle_is_verified(bundle: Path) -> None:
    assert verify_bundle(bundle) == read_manifest(bundle)


def test_a_bundle_may_be_named_by_a_link_to_it(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(bundle)
    assert verify_bundle(tmp_path / "current").preset == "by-hand"


# --- names


@pytest.mark.parametrize("name", UNSAFE_NAMES, ids=ascii)
def test_a_sealed_name_that_leaves_the_bundle_is_refused(bundle: Path, name: str) -> None:
    edit(bundle, lambda raw: raw["files"].update({name: raw["files"]["decoder.onnx"]}))
    message = refusal(lambda: read_manifest(bundle))
    assert str(bundle / MANIFEST) in message
    assert "do not use this bundle" in message


@pytest.mark.parametrize("name", UNSAFE_NAMES, ids=ascii)
def test_an_engine_whose_file_leaves_the_bundle_is_refused(bundle: Path, name: str) -> None:
    edit(bundle, lambda raw: raw["engines"]["decoder"].update(file=name))
    assert "do not use this bundle" in refusal(lambda: read_manifest(bundle))


@pytest.mark.parametrize("name", UNSAFE_NAMES, ids=ascii)
def test_a_tokenizer_whose_file_leaves_the_bundle_is_refused(bundle: Path, name: str) -> None:
    edit(bundle, lambda raw: raw["tokenizers"]["query"].update(file=name))
    assert "do not use this bundle" in refusal(lambda: read_manifest(bundle))


@pytest.mark.parametrize("name", ["decoder.onnx", "tokenizer.json"])
def test_a_file_that_is_used_must_be_sealed(bundle: Path, name: str) -> None:
    edit(bundle, lambda raw: raw["files"].pop(name))
    assert f"uses {name}" in refusal(lambda: read_manifest(bundle))


def test_a_file_in_a_folder_of_the_bundle_is_fine(bundle: Path) -> None:
    (bundle / "engines_v2").mkdir()
    (bundle / "decoder.onnx").rename(bundle / "engines_v2" / "decoder.onnx")

    def change(raw: dict[str, Any]) -> None:
        raw["files"]["engines_v2/decoder.onnx"] = raw["files"].pop("decoder.onnx")
        raw["engines"]["decoder"]["file"] = "engines_v2/decoder.onnx"

    edit(bundle, change)
    assert verify_bundle(bundle).engines["decoder"].file == "engines_v2/decoder.onnx"


# --- files


def damage_one_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def link_away(path: Path) -> None:
    """The very same content, but behind a link."""
    target = path.parent.parent / path.name
    path.rename(target)
    path.symlink_to(target)


def dangle(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.parent / "nothing")


def into_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("name", ["vision_encoder.onnx", "tokenizer.json"])
@pytest.mark.parametrize("harm", [damage_one_byte, cut, append, link_away, dangle, into_folder, Path.unlink])
def test_a_file_that_is_not_the_one_exported_is_refused(bundle: Path, name: str, harm: Callable[[Path], None]) -> None:
    manifest = read_manifest(bundle)
    harm(bundle / name)
    alone = refusal(lambda: verify_file(bundle, name, manifest))
    assert str(bundle / name) in alone
    assert "export" in alone
    assert refusal(lambda: verify_bundle(bundle)) == alone


def test_a_file_below_a_linked_folder_is_refused(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    shutil.copy(bundle / "decoder.onnx", tmp_path / "outside")
    (bundle / "inside").symlink_to(tmp_path / "outside")
    edit(bundle, lambda raw: raw["files"].update({"inside/decoder.onnx": asdict(seal(bundle / "decoder.onnx"))}))
    manifest = read_manifest(bundle)
    assert "link" in refusal(lambda: verify_file(bundle, "inside/decoder.onnx", manifest))


def test_a_file_that_the_manifest_does_not_list_is_not_opened(bundle: Path) -> None:
    (bundle / "more.onnx").write_bytes(b"more")
    manifest = read_manifest(bundle)
    assert "does not list more.onnx" in refusal(lambda: verify_file(bundle, "more.onnx", manifest))


def test_verify_finds_a_file_too_many(bundle: Path) -> None:
    (bundle / "sub").mkdir()
    (bundle / "sub" / "more.onnx").write_bytes(b"more")
    assert f"{bundle / 'sub' / 'more.onnx'} is not in the manifest" in refusal(lambda: verify_bundle(bundle))


@pytest.mark.parametrize("target", [".", "..", "nowhere"])
def test_verify_finds_a_link_too_many(bundle: Path, target: str) -> None:
    (bundle / "more").symlink_to(target)
    assert f"{bundle / 'more'} is not in the manifest" in refusal(lambda: verify_bundle(bundle))


def test_engines_built_on_the_device_are_not_looked_at(bundle: Path) -> None:
    (bundle / "engines" / "orin-10.3").mkdir(parents=True)
    (bundle / "engines" / "orin-10.3" / "decoder.plan").write_bytes(b"built here")
    verify_bundle(bundle)
