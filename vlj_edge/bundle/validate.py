"""The bundle: the only thing that passes between export and runtime.

A directory with `manifest.json`, one ONNX file an engine and the tokenizers. The manifest signs every file with size
and sha256; `engines/` (built on this device) is outside what it signs. Reading is strict: what does not match is
refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from ..errors import VljEdgeError
from ..schema import parse
from .manifest import (
    BUILT_ENGINES,
    DECODER,
    ENGINE_NAMES,
    MANIFEST,
    SCHEMA_VERSION,
    TOKENIZER_NAMES,
    Manifest,
    seal,
)


def read_manifest(directory: Path) -> Manifest:
    """Read and check manifest.json; the files themselves are not touched.

    Raises:
        VljEdgeError: no bundle there, not JSON, a newer schema, a missing or misshapen field, or a path that leaves
            the bundle.
    """
    path = directory / MANIFEST
    if path.is_symlink():
        raise VljEdgeError(f"{path} is a link, which a bundle may not hold: export the bundle again or copy it whole")
    if not path.is_file():
        raise VljEdgeError(f"{directory} is no bundle (it has no {MANIFEST}): make one with vlj-edge export --out DIR")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        version = raw["schema_version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise VljEdgeError(f"{path} is not a bundle manifest ({error!r}): export the bundle again") from error
    if type(version) is not int or version != SCHEMA_VERSION:
        newer = type(version) is int and version > SCHEMA_VERSION
        raise VljEdgeError(
            f"{path} has schema version {version!r}, this vlj-edge reads {SCHEMA_VERSION}: "
            + ("upgrade vlj-edge" if newer else "export the bundle again")
        )
    try:
        manifest = parse(Manifest, raw)
        _check_names(path, manifest)
        if not all("{}" in template for template in manifest.labels.templates or [""]):
            raise ValueError('labels.templates is empty, or holds a text without "{}", where the label goes')
        _check_interface(manifest)
    except ValueError as error:
        raise VljEdgeError(f"{path} is damaged ({error}): export the bundle again") from error
    return manifest


def verify_file(directory: Path, name: str, manifest: Manifest) -> Path:
    """The path of one file of the bundle, once its size and sha256 were found right. Call this before loading it.

    Raises:
        VljEdgeError: the file is not in the manifest, missing, a link, or not the one that was sealed.
    """
    path = directory / name
    if name not in manifest.files:
        raise VljEdgeError(f"{directory / MANIFEST} does not list {name}: export the bundle again")
    if any(part.is_symlink() for part in _parts_below(directory, name)):
        raise VljEdgeError(f"{path} is a link, which a bundle may not hold: export the bundle again or copy it whole")
    if not path.is_file():
        raise VljEdgeError(f"{path} is missing: copy the whole bundle again, or export it again")
    found, wanted = seal(path), manifest.files[name]
    if found != wanted:
        what = f"{found.bytes} bytes instead of {wanted.bytes}" if found.bytes != wanted.bytes else "another sha256"
        raise VljEdgeError(f"{path} is not the file that was exported ({what}): copy it again, or export it again")
    return path


def verify_bundle(directory: Path) -> Manifest:
    """Check every file of a bundle, and that nothing lies beside them but `engines/`.

    Raises:
        VljEdgeError: the first thing found wrong.
    """
    manifest = read_manifest(directory)
    for name in manifest.files:
        verify_file(directory, name, manifest)
    for path in sorted(directory.rglob("*")):
        below = path.relative_to(directory)
        if below.parts[0] == BUILT_ENGINES or below.as_posix() == MANIFEST:
            continue
        if path.is_dir() and not path.is_symlink():
            continue
        if below.as_posix() not in manifest.files:
            raise VljEdgeError(f"{path} is not in the manifest: remove it, or export the bundle again")
    return manifest


def _parts_below(directory: Path, name: str) -> Iterator[Path]:
    path = directory
    for part in PurePosixPath(name).parts:
        path = path / part
        yield path


def _check_names(path: Path, manifest: Manifest) -> None:
    used = [engine.file for engine in manifest.engines.values()]
    used += [tokenizer.file for tokenizer in manifest.tokenizers.values()]
    used += [name for name in (manifest.captions, manifest.prefix) if name is not None]
    for name in [*manifest.files, *used]:
        member = PurePosixPath(name)
        leaves = member.is_absolute() or ".." in member.parts or "\\" in name or ":" in name or not member.parts
        if leaves or member.as_posix() != name or not name.isprintable():
            raise VljEdgeError(f"{path} names {name!r}, which is no path inside the bundle: do not use this bundle")
    for name in used:
        if name not in manifest.files:
            raise VljEdgeError(f"{path} uses {name} but does not seal it: export the bundle again")
    words, engine = manifest.captions is not None or DECODER in manifest.tokenizers, DECODER in manifest.engines
    has = {*manifest.engines} | ({DECODER} if not words else set())
    missing = [name for name in ENGINE_NAMES if name not in has]
    has = {*manifest.tokenizers} | ({DECODER} if manifest.captions is not None or not engine else set())
    missing += [f"the tokenizer {name}" for name in TOKENIZER_NAMES if name not in has]
    if missing:
        raise VljEdgeError(f"{path} lacks {', '.join(missing)}: export the bundle again")


def _check_interface(manifest: Manifest) -> None:
    """What the pipeline reads and writes must be there, in the sizes that the rest of the manifest speaks of."""
    clip, crop = manifest.clip, manifest.preprocess.crop
    query, text = (manifest.tokenizers[name].length for name in ("query", "text_encoder"))
    said = manifest.tokenizers[DECODER].length if DECODER in manifest.tokenizers else None
    embedding, tokens = (1, manifest.embedding), (1, None, None)
    decoder: dict[str, tuple[int | None, ...]] = {"embedding": embedding, "caption": (1, 1)}
    if manifest.captions is None:
        decoder = {
            "embedding": embedding,
            "token": (1, 1),
            "position": (1,),
            "key_cache_0": (1, None, said, None),
            "next_token": (1, 1),
        }
    wanted: dict[str, dict[str, tuple[int | None, ...]]] = {
        "vision_encoder": {"pixels": (1, clip.frames, 3, crop, crop), "visual_tokens": tokens},
        "predictor": {
            "visual_tokens": tokens,
            "query_ids": (1, query),
            "query_mask": (1, query),
            "embedding": embedding,
        },
        "decoder": decoder,
        "text_encoder": {"text_ids": (1, text), "text_mask": (1, text), "embedding": embedding},
    }
    for engine, spec in manifest.engines.items():
        tensors = {tensor.name: tensor for tensor in (*spec.inputs, *spec.outputs)}
        for name, shape in wanted.get(engine, {}).items():
            found = tensors[name].shape if name in tensors else ()
            if len(found) != len(shape) or any(n not in (None, m) for n, m in zip(shape, found, strict=True)):
                sizes = "x".join("any" if n is None else str(n) for n in shape)
                raise ValueError(f"{name} of {engine} is {'x'.join(map(str, found)) or 'absent'} instead of {sizes}")
        for name, source in spec.in_place.items():
            pair = (tensors.get(name), tensors.get(source))
            if pair[0] is None or pair[1] is None or pair[0].shape != pair[1].shape or pair[0].dtype != pair[1].dtype:
                raise ValueError(f"{name} of {engine} cannot be written in place of {source}")
