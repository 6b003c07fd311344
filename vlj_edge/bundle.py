"""The bundle: the only thing that passes between export and runtime.

A directory with `manifest.json`, one ONNX file an engine and the tokenizers. The manifest signs every file with size
and sha256; `engines/` (built on this device) is outside what it signs. Reading is strict: what does not match is
refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from math import isfinite
from pathlib import Path, PurePosixPath
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from .errors import VljEdgeError
from .presets import Clip, Preprocess

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
ENGINE_NAMES = ("vision_encoder", "predictor", "decoder", "text_encoder")
TOKENIZER_NAMES = ("query", "decoder", "text_encoder")
OPTIONAL = "decoder"  # the engine and tokenizer that a bundle may go without: it then gives embeddings and no texts
DTYPES = ("float32", "float16", "bfloat16", "int64", "int32", "bool")
BUILT_ENGINES = "engines"  # what `vlj-edge build` makes on a device; never signed


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of an engine. `dtype` is a numpy name ("float32", "int64", "bool")."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class EngineSpec:
    """One engine file.

    Attributes:
        file: ONNX file, relative to the bundle.
        precision: what its matrices are computed in: "fp32", "fp16", "bf16", or "int8", int8 by int8; "int8w" and
            "int4w" are fp32 arithmetic on weights that are stored as integers. With "-fp16" the rest is fp16.
        opset: ONNX opset of the default domain.
        in_place: output name -> input name, for outputs that must be bound to the input's own buffer (the KV cache).
        kept_fp32: with fp16, the operators that stay in fp32 and why, one sentence each.
        plugins: operators of the graph that are this project's own and not ONNX's: TensorRT alone runs it, and
            `vlj-edge build` brings them (the fused flavour).
    """

    file: str
    precision: str
    opset: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    in_place: dict[str, str] = field(default_factory=dict)
    kept_fp32: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()


@dataclass(frozen=True)
class TokenizerSpec:
    """A tokenizers JSON file and the ids that the runtime must know. `length` is the engine's fixed token count."""

    file: str
    length: int
    pad: int
    end: int | None = None  # the decoder stops here
    text_prefix: str = ""  # put before every text (EmbeddingGemma's task prompts)


@dataclass(frozen=True)
class SceneGate:
    """Skip the encoder while the picture stays that of the frame last encoded.

    Attributes:
        changed: luminance difference (0..1) above which a thumbnail cell has changed.
        cells: fraction (0..1) of cells that must have changed for the scene to have.
    """

    enabled: bool = True
    changed: float = 0.06
    cells: float = 0.004


@dataclass(frozen=True)
class Rest:
    """When does the picture stand still? What happens usually ends where it comes to rest, and begins where it moves.

    Attributes:
        changed: luminance difference (0..1) between neighbouring samples above which a thumbnail cell has moved.
        cells: fraction (0..1) of cells that must move for the picture to.
        seconds: a picture that stands still for less is not at rest.
    """

    enabled: bool = True
    changed: float = 0.03
    cells: float = 0.004
    seconds: float = 1.0


@dataclass(frozen=True)
class MeaningGate:
    """Skip the decoder while the meaning stays what was last said, or has not settled. All cosines in -1..1.

    Attributes:
        smoothing: windows averaged into the embedding that is compared and decoded (1: none).
        calm_windows, calm_variance: the last `calm_windows` embeddings are calm when their mean squared distance to
            their mean is at most this (1 - |mean|^2 for unit vectors; for 2 windows (1 - cosine) / 2).
        speak_below: a change is pending once the cosine to what was last said falls below this,
        speak_below_at_rest: or, while the picture is at rest, below this: little can happen in a still picture,
        forget_above: and is dropped again if it rises above this before it was said (hysteresis). Nothing falls below a
            threshold of -1, so where one has it no window is encoded to be compared.
        look_every: seconds between two windows that are compared with what was said, as long as they mean the same;
            those between are not encoded. 0: every window. It grows as least_hold does.
        least_hold: seconds that must pass between two texts.
        hold_growth: share of least_hold and of look_every that is added to them with every further text of one
            movement, or of one rest: the longer it goes on, the less there is to add.
        longest_wait: seconds after which a pending change is said even if the stream has not calmed.
        settle: seconds between the moment at which a change is ready and the window that is said: by then it shows
            nothing of what was before.
        settle_moving, settle_resting: the same after the picture has begun to move, or has come to rest.
    """

    enabled: bool = True
    smoothing: int = 1
    calm_windows: int = 2
    calm_variance: float = 0.02
    speak_below: float = 0.85
    speak_below_at_rest: float = 0.85
    forget_above: float = 0.92
    look_every: float = 0.0
    least_hold: float = 0.5
    hold_growth: float = 0.0
    longest_wait: float = 3.0
    settle: float = 0.0
    settle_moving: float = 0.0
    settle_resting: float = 0.0


@dataclass(frozen=True)
class CaptionMemory:
    """Say from memory what was said before, where the nearest stored embedding is near enough (cosine).

    Attributes:
        same: at or above this, the stored text stands for the embedding,
        same_at_rest: or at or above this, where the picture is at rest and was when the text was made, which has to
            have been made twice: what stands for every rest that looks alike must not rest on one error.
        capacity: texts.
    """

    enabled: bool = True
    same: float = 0.97
    same_at_rest: float = 0.97
    capacity: int = 256


@dataclass(frozen=True)
class Gates:
    """The gates' settings; the bundle carries the defaults that were calibrated with its weights."""

    scene: SceneGate = SceneGate()
    meaning: MeaningGate = MeaningGate()
    memory: CaptionMemory = CaptionMemory()
    rest: Rest = Rest()


@dataclass(frozen=True)
class Labels:
    """How windows are compared with the texts that a person gives: labels, and choices of an answer.

    Attributes:
        query: what the predictor is asked about labels; empty: the default query.
        templates: a label's embedding is the mean of these wordings', in which "{}" stands for the label.
        temperature: cosines divided by it go through a softmax, and the scores mean how often they are right.
        none_below: cosine (-1..1) below which not even the nearest label is shown.
    """

    query: str = ""
    templates: tuple[str, ...] = ("{}",)
    temperature: float = 0.07
    none_below: float = -1.0


@dataclass(frozen=True)
class FileSeal:
    """Size in bytes and sha256 (hex) of a file."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """manifest.json, schema version 1. A decoder is a language model with a tokenizer, a bank of captions, or none."""

    preset: str
    embedding: int
    preprocess: Preprocess
    clip: Clip
    default_query: str
    engines: dict[str, EngineSpec]
    tokenizers: dict[str, TokenizerSpec]
    gates: Gates
    files: dict[str, FileSeal]
    receipt: dict[str, Any]
    parity: dict[str, Any]
    captions: str | None = None  # a file of texts, one a line, of which the decoder engine chooses the nearest
    labels: Labels = Labels()
    prefix: str | None = None  # a file of axes, on which shortened embeddings keep the most (runtime/vectors.py)
    schema_version: int = SCHEMA_VERSION


def seal(path: Path) -> FileSeal:
    """Hash a file without reading it whole into memory."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return FileSeal(path.stat().st_size, digest.hexdigest())


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write manifest.json. The caller has sealed the files already."""
    text = json.dumps(asdict(manifest), indent=2, ensure_ascii=False)
    (directory / MANIFEST).write_text(text + "\n", encoding="utf-8")


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
        manifest: Manifest = _typed(Manifest, raw, "")
        _check_names(path, manifest)
        _check_values(manifest)
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


def nano_bundle() -> Path:
    """The directory of the bundle that ships inside the package and runs when none is named."""
    return Path(__file__).parent / "nano"


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
    words, engine = manifest.captions is not None or OPTIONAL in manifest.tokenizers, OPTIONAL in manifest.engines
    has = {*manifest.engines} | ({OPTIONAL} if not words else set())
    missing = [name for name in ENGINE_NAMES if name not in has]
    has = {*manifest.tokenizers} | ({OPTIONAL} if manifest.captions is not None or not engine else set())
    missing += [f"the tokenizer {name}" for name in TOKENIZER_NAMES if name not in has]
    if missing:
        raise VljEdgeError(f"{path} lacks {', '.join(missing)}: export the bundle again")


def _check_values(manifest: Manifest) -> None:
    preprocess, clip = manifest.preprocess, manifest.clip
    whole = {"embedding": manifest.embedding, "clip.frames": clip.frames, "clip.stride": clip.stride}
    whole |= {"preprocess.crop": preprocess.crop, "preprocess.short_side": preprocess.short_side}
    whole |= {f"tokenizers.{name}.length": spec.length for name, spec in manifest.tokenizers.items()}
    for where, value in whole.items():
        if value < 1:
            raise ValueError(f"{where} is {value}")
    if not 0.001 <= clip.frames_per_second <= 1000:
        raise ValueError(f"clip.frames_per_second is {clip.frames_per_second}")
    if not manifest.labels.temperature > 0 or not all("{}" in text for text in manifest.labels.templates or [""]):
        raise ValueError(f"labels are {manifest.labels}")
    if min(preprocess.std) <= 0:
        raise ValueError(f"preprocess.std is {preprocess.std}")


def _check_interface(manifest: Manifest) -> None:
    """What the pipeline reads and writes must be there, in the sizes that the rest of the manifest speaks of."""
    clip, crop = manifest.clip, manifest.preprocess.crop
    query, text = (manifest.tokenizers[name].length for name in ("query", "text_encoder"))
    said = manifest.tokenizers[OPTIONAL].length if OPTIONAL in manifest.tokenizers else None
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
        for name, tensor in tensors.items():
            if tensor.dtype not in DTYPES or any(n < 1 for n in tensor.shape):
                raise ValueError(f"{name} of {engine} is {tensor.dtype}{list(tensor.shape)}")
        for name, shape in wanted.get(engine, {}).items():
            found = tensors[name].shape if name in tensors else ()
            if len(found) != len(shape) or any(n not in (None, m) for n, m in zip(shape, found, strict=True)):
                sizes = "x".join("any" if n is None else str(n) for n in shape)
                raise ValueError(f"{name} of {engine} is {'x'.join(map(str, found)) or 'absent'} instead of {sizes}")
        for name, source in spec.in_place.items():
            pair = (tensors.get(name), tensors.get(source))
            if pair[0] is None or pair[1] is None or pair[0].shape != pair[1].shape or pair[0].dtype != pair[1].dtype:
                raise ValueError(f"{name} of {engine} cannot be written in place of {source}")


def _typed(kind: Any, value: Any, where: str) -> Any:
    """A JSON value as the type that a field is declared with, all the way down; `where` is its place in the file."""
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin is UnionType:  # `int | None` is the only one
        return None if value is None else _typed(inner[0], value, where)
    if is_dataclass(kind):
        return _typed_fields(kind, _typed(dict[str, Any], value, where), where)
    if origin is dict and isinstance(value, dict):
        return {name: _typed(inner[1], item, f"{where}.{name}") for name, item in value.items()}
    if origin is tuple and isinstance(value, list) and (inner[-1] is ... or len(inner) == len(value)):
        return tuple(_typed(inner[0], item, f"{where}[{index}]") for index, item in enumerate(value))
    if kind is float and type(value) is int and abs(value) < 2**53:
        return float(value)
    if type(value) is not kind or (kind is float and not isfinite(value)):
        raise ValueError(f"{where.lstrip('.') or 'all of it'} is {json.dumps(value)[:40]}, not {kind.__name__}")
    return value


def _typed_fields(kind: Any, raw: dict[str, Any], where: str) -> Any:
    hints = get_type_hints(kind)
    needed = {part.name for part in fields(kind) if part.default is MISSING and part.default_factory is MISSING}
    for what, names in (("lacks", needed - raw.keys()), ("does not know", raw.keys() - hints.keys())):
        if names:
            raise ValueError(f"{where.lstrip('.') or 'it'} {what} {', '.join(sorted(names))}")
    return kind(**{name: _typed(hints[name], item, f"{where}.{name}") for name, item in raw.items()})
