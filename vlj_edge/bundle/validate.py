"""Reading a bundle: its manifest is checked in full, and its files against the manifest before they are used.

A bundle may come from an untrusted place: anything inconsistent is refused, and no path may leave the bundle.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import VljEdgeError
from ..regular_file import LONGEST_NAME
from ..schema import parse
from .gate_ranges import gates_problem
from .manifest import (
    BUILT_ENGINES,
    DECODER,
    ENGINE_NAMES,
    KEPT,
    MANIFEST,
    PREDICTOR,
    READABLE_VERSIONS,
    SCHEMA_VERSION,
    TEXT_ENCODER,
    TOKENIZER_NAMES,
    EngineSpec,
    Manifest,
    TensorSpec,
    seal,
    with_relative_defaults,
)

_Shape = tuple[int | None, ...]  # None: any size


def _drop_old_settings(raw: dict[str, Any]) -> None:
    """Bundles made before looks had a longest pause have a growth of it, which nothing reads any more."""
    gates = raw.get("gates")
    meaning = gates.get("meaning") if isinstance(gates, dict) else None
    if isinstance(meaning, dict):
        meaning.pop("hold_growth", None)


def read_manifest(directory: Path) -> Manifest:
    """Read and check manifest.json; the other files are not read.

    Raises:
        VljEdgeError: there is no manifest, it is of another schema version, damaged or inconsistent, or names a path
            outside the bundle.
    """
    path = directory / MANIFEST
    if path.is_symlink():
        raise VljEdgeError(f"{path} is a link, which a bundle may not hold: export the bundle again or copy it whole")
    if not path.is_file():
        weights = any((directory / name).is_file() for name in ("config.json", "model.safetensors"))
        what = "weights, and no bundle" if weights else "no bundle"
        remedy = f"vlj-edge export {directory}" if weights else "vlj-edge export"
        lacks = f"has no {MANIFEST}" if directory.is_dir() else "is a file" if directory.exists() else "does not exist"
        raise VljEdgeError(f"{directory} is {what} (it {lacks}): make one with {remedy} --out DIR")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        version = raw["schema_version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise VljEdgeError(f"{path} is not a bundle manifest ({error!r}): export the bundle again") from error
    if type(version) is not int or version not in READABLE_VERSIONS:
        newer = type(version) is int and version > SCHEMA_VERSION
        raise VljEdgeError(
            f"{path} has schema version {version!r}, this vlj-edge reads up to {SCHEMA_VERSION}: "
            + ("upgrade vlj-edge" if newer else "export the bundle again")
        )
    _drop_old_settings(raw)
    try:
        manifest = with_relative_defaults(parse(Manifest, raw))
        problem = gates_problem(manifest.gates)
        if problem is not None:
            raise ValueError(f"gates.{problem}")
        _check_names(path, manifest)
        if not all("{}" in template for template in manifest.labels.templates or [""]):
            raise ValueError('labels.templates is empty, or holds a text without "{}", where the label goes')
        _check_engines(manifest)
    except ValueError as error:
        raise VljEdgeError(f"{path} is damaged ({error}): export the bundle again") from error
    return manifest


def verify_file(directory: Path, name: str, manifest: Manifest) -> Path:
    """Check one file's size and sha256 and return its path. Call this before loading the file.

    Raises:
        VljEdgeError: the file is not in the manifest, is missing or a link, or its content is another.
    """
    path = directory / name
    if name not in manifest.files:
        raise VljEdgeError(f"{directory / MANIFEST} does not list {name}: export the bundle again")
    if any(part.is_symlink() for part in _parts_below(directory, name)):
        raise VljEdgeError(f"{path} is a link, which a bundle may not hold: export the bundle again or copy it whole")
    if not path.is_file():
        raise VljEdgeError(f"{path} is missing: copy the whole bundle again, or export it again")
    found, listed = seal(path), manifest.files[name]
    if found != listed:
        what = f"{found.bytes} bytes instead of {listed.bytes}" if found.bytes != listed.bytes else "another sha256"
        raise VljEdgeError(f"{path} is not the file that was exported ({what}): copy it again, or export it again")
    return path


def verify_bundle(directory: Path) -> Manifest:
    """Check every file of a bundle, and that it and its graphs use no others, except in `engines/`.

    Raises:
        VljEdgeError: a file does not match; the message names the first.
    """
    from .graph_files import graph_files

    manifest = read_manifest(directory)
    for name in manifest.files:
        verify_file(directory, name, manifest)
    for engine in (*manifest.engines.values(), *manifest.on_cpu.values()):
        graph_files(directory, engine.file, manifest)
    for path in sorted(directory.rglob("*")):
        inner = path.relative_to(directory)
        if inner.parts[0] == BUILT_ENGINES or inner.as_posix() == MANIFEST:
            continue
        if path.is_dir() and not path.is_symlink():
            continue
        if inner.as_posix() not in manifest.files:
            raise VljEdgeError(f"{path} is not in the manifest: remove it, or export the bundle again")
    return manifest


def _parts_below(directory: Path, name: str) -> Iterator[Path]:
    path = directory
    for part in PurePosixPath(name).parts:
        path = path / part
        yield path


def _check_names(path: Path, manifest: Manifest) -> None:
    """Refuse paths that leave the bundle, files in use that are not listed, and missing engines and tokenizers."""
    used = [engine.file for engine in (*manifest.engines.values(), *manifest.on_cpu.values())]
    used += [tokenizer.file for tokenizer in manifest.tokenizers.values()]
    used += [name for name in (manifest.captions, manifest.prefix) if name is not None]
    used += [manifest.known.file] if manifest.known is not None else []
    used += [manifest.label_head.file] if manifest.label_head is not None else []
    for name in [*manifest.files, *used]:
        if not is_inside(name):
            raise VljEdgeError(f"{path} names {name!r}, which is no path inside the bundle: do not use this bundle")
    for name in used:
        if name not in manifest.files:
            raise VljEdgeError(f"{path} uses {name} but does not list it under files: export the bundle again")
    missing = _missing_parts(manifest)
    if missing:
        raise VljEdgeError(f"{path} lacks {', '.join(missing)}: export the bundle again")


def _missing_parts(manifest: Manifest) -> list[str]:
    """Return what a bundle needs and has not: an engine without its tokenizer or the other way round, for example."""
    language_model = manifest.captions is None and manifest.label_head is None
    no_texts = language_model and DECODER not in manifest.tokenizers
    no_tokenizer = not language_model or DECODER not in manifest.engines
    engines = {*manifest.engines} | ({DECODER} if no_texts else set())
    tokenizers = {*manifest.tokenizers} | ({DECODER} if no_tokenizer else set())
    if _gives_embedding(manifest) and PREDICTOR not in engines and "query" not in tokenizers:
        engines.add(PREDICTOR)
        tokenizers.add("query")
        if TEXT_ENCODER not in manifest.tokenizers and TEXT_ENCODER not in engines:
            engines.add(TEXT_ENCODER)
            tokenizers.add(TEXT_ENCODER)
    missing = [name for name in ENGINE_NAMES if name not in engines]
    return missing + [f"the tokenizer {name}" for name in TOKENIZER_NAMES if name not in tokenizers]


def _gives_embedding(manifest: Manifest) -> bool:
    """Whether the vision encoder makes the embedding by itself."""
    encoder = manifest.engines.get("vision_encoder")
    return encoder is not None and any(tensor.name == "embedding" for tensor in encoder.outputs)


def is_inside(name: str) -> bool:
    """Whether a name is a plain relative path on every system that a bundle may be copied to."""
    path = PurePosixPath(name)
    leaves = path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or not path.parts
    leaves |= any(len(part.encode(errors="replace")) > LONGEST_NAME for part in path.parts) or len(path.parts) > 20
    return not leaves and path.as_posix() == name and name.isprintable()


def _check_engines(manifest: Manifest) -> None:
    """Check that the tensors which the runtime uses exist, with the sizes that the rest of the manifest implies."""
    _check_counts(manifest)
    required = _required_tensors(manifest)
    unknown = [name for name in manifest.on_cpu if name not in manifest.engines]
    if unknown:
        raise ValueError(f"on_cpu.{unknown[0]} is a form of no engine")
    for engine, spec in (*manifest.engines.items(), *manifest.on_cpu.items()):
        tensors = {tensor.name: tensor for tensor in (*spec.inputs, *spec.outputs)}
        for name, shape in required.get(engine, {}).items():
            found = tensors[name].shape if name in tensors else ()
            if len(found) != len(shape) or any(n not in (None, m) for n, m in zip(shape, found, strict=True)):
                sizes = "x".join("any" if n is None else str(n) for n in shape)
                raise ValueError(f"{name} of {engine} is {'x'.join(map(str, found)) or 'absent'} instead of {sizes}")
        _check_in_place(engine, spec, tensors)
        _check_tokens(manifest, engine, spec)


def _check_in_place(engine: str, spec: EngineSpec, tensors: dict[str, TensorSpec]) -> None:
    for output, source in spec.in_place.items():
        pair = (tensors.get(output), tensors.get(source))
        if pair[0] is None or pair[1] is None or pair[0].shape != pair[1].shape or pair[0].dtype != pair[1].dtype:
            raise ValueError(f"{output} of {engine} cannot be written in place of {source}")


def _check_tokens(manifest: Manifest, engine: str, spec: EngineSpec) -> None:
    tokens = manifest.tokens
    for tensor in (*spec.inputs, *spec.outputs):
        axis = tensor.by_tokens
        if axis is None:
            continue
        if tokens is None or not 0 <= axis < len(tensor.shape) or tensor.shape[axis] != tokens.counts[-1]:
            raise ValueError(f"{tensor.name} of {engine} has no axis {axis} of as many tokens as a clip has")
        if any(size != 1 for size in tensor.shape[:axis]):
            raise ValueError(f"{tensor.name} of {engine} is no array of tokens")


def _check_counts(manifest: Manifest) -> None:
    tokens = manifest.tokens
    if tokens is None:
        return
    slots = manifest.clip.frames / tokens.tubelet
    if sorted(set(tokens.counts)) != list(tokens.counts) or tokens.counts[-1:] != (slots * tokens.side**2,):
        raise ValueError(f"tokens.counts is {list(tokens.counts)}, not ascending to the number of a clip's tokens")


def _required_tensors(manifest: Manifest) -> dict[str, dict[str, _Shape]]:
    """Return engine -> tensor -> shape for what the runtime reads and writes by name."""
    clip, crop = manifest.clip, manifest.preprocess.crop
    lengths = {name: tokenizer.length for name, tokenizer in manifest.tokenizers.items()}
    query, text = lengths.get("query"), lengths.get(TEXT_ENCODER)
    embedding, visual_tokens = (1, manifest.embedding), (1, None, None)
    caption_bank: dict[str, _Shape] = {"caption": (1, 1)}
    language_model: dict[str, _Shape] = {
        "token": (1, 1),
        "position": (1,),
        "key_cache_0": (1, None, lengths.get(DECODER), None),
        "next_token": (1, 1),
    }
    decoder = language_model if manifest.captions is None else caption_bank
    if manifest.label_head is not None:
        decoder = {"logits": (1, None)}
    seen: dict[str, _Shape] = {"visual_tokens": visual_tokens} if manifest.takes_query else {"embedding": embedding}
    kept: dict[str, _Shape] = {} if manifest.tokens is None else {KEPT: (1, manifest.tokens.counts[-1])}
    return {
        "vision_encoder": {"pixels": (1, clip.frames, 3, crop, crop)} | seen | kept,
        "predictor": {
            "visual_tokens": visual_tokens,
            "query_ids": (1, query),
            "query_mask": (1, query),
            "embedding": embedding,
        }
        | kept,
        "decoder": {"embedding": embedding} | decoder,
        "text_encoder": {"text_ids": (1, text), "text_mask": (1, text), "embedding": embedding},
    }
