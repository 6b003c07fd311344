"""The paths of the weights, checked without reading tensors or importing torch, in milliseconds.

A vlj-edge weights directory holds `model.safetensors` (state dict of VLJepa), `query_tokenizer.json` and
`decoder_tokenizer.json`; `text_encoder/` may hold the text backbone as a transformers directory.
"""

from __future__ import annotations

import json
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from vlj_edge.errors import VljEdgeError, WrongCall
from vlj_edge.text_list import read_lines

MODEL_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"  # of a transformers directory whose safetensors are sharded
CONFIG_FILE = "config.json"
OPEN_CLIP_CONFIG, OPEN_CLIP_MODEL = "open_clip_config.json", "open_clip_model.safetensors"
TOKENIZER_FILE = "tokenizer.json"
QUERY_TOKENIZER = "query_tokenizer.json"
DECODER_TOKENIZER = "decoder_tokenizer.json"
PREFIX_FILE = "prefix.safetensors"  # beside a decoder's own files: the projection of an embedding to its first token

_RANDOM = "or add --random-weights 0 to see size and speed"


@dataclass(frozen=True)
class WeightSources:
    """The paths of the weights of each part.

    >>> import vlj_edge
    >>> vlj_edge.WeightSources(vlj_edge.shipped_weights(), without_decoder=True).has_decoder
    False

    Attributes:
        weights: a vlj-edge weights directory, or the best.pt of open-vljepa; the other paths replace parts of it.
        vision_encoder: V-JEPA 2 as a transformers directory, or Meta's .pt of V-JEPA 2 or 2.1.
        predictor: Llama-3.2-1B as a transformers directory: the query's tokenizer, and the layers where `weights` has
            no predictor.
        text_encoder: the text backbone as a transformers directory; of both, open-vljepa needs no safetensors.
        decoder: a causal Llama with PREFIX_FILE beside it: a transformers directory, or a GGUF file or its directory.
        captions: a file of captions, one a line: the decoder returns the nearest of them, and needs no weights.
        without_decoder: make no decoder engine.
        random: seed of random weights for parts without any, to measure size and speed; None: a missing part is an
            error.
    """

    weights: Path | None = None
    vision_encoder: Path | None = None
    predictor: Path | None = None
    text_encoder: Path | None = None
    decoder: Path | None = None
    captions: Path | None = None
    without_decoder: bool = False
    random: int | None = None

    @property
    def is_open_vljepa(self) -> bool:
        """Whether `weights` is the .pt file of open-vljepa, and not a vlj-edge weights directory."""
        return self.weights is not None and self.weights.suffix in (".pt", ".pth")

    @property
    def weights_directory(self) -> Path | None:
        """`weights` where it is a vlj-edge weights directory."""
        return self.weights if self.weights is not None and self.weights.is_dir() else None

    @property
    def has_decoder(self) -> bool:
        """Whether a decoder engine is made. The checkpoint of open-vljepa has none."""
        if self.without_decoder:
            return False
        return self.captions is not None or self.decoder is not None or not self.is_open_vljepa


def shipped_weights() -> Path:
    """Return the directory of the nano weights in the package, which are exported by default."""
    return Path(__file__).parents[1] / "nano"


def shipped_clip() -> Path:
    """Return a video of what nano knows, 80 s at 4 frames a second: examples/media/demo.mp4, made smaller by
    ffmpeg -i demo.mp4 -vf fps=4,scale=128:128:flags=area -crf 20.
    """
    return Path(__file__).parents[1] / "clips" / "nano.mp4"


def has_shipped_vision(sources: WeightSources) -> bool:
    """Return whether vision encoder and predictor are nano's from the package."""
    return sources.weights == shipped_weights() and sources.vision_encoder is None and sources.predictor is None


def check_sources(sources: WeightSources) -> None:
    """Check that every part has weights and that each path has the kind of file it should. Tensors are not read.

    Raises:
        VljEdgeError: a file is missing or of another kind, a part has no weights, or two decoders are named.
    """
    if sum((sources.decoder is not None, sources.captions is not None, sources.without_decoder)) > 1:
        raise WrongCall("--decoder, --captions and --no-decoder exclude each other: name one")
    if sources.is_open_vljepa:
        _check_pt(sources.weights)
    elif sources.weights is not None:
        _check_weights_directory(sources.weights)
    if sources.vision_encoder is not None and sources.vision_encoder.is_dir():
        _check_transformers(sources.vision_encoder)
    else:
        _check_pt(sources.vision_encoder)
    for path in (sources.predictor, sources.text_encoder):  # of which open-vljepa has the weights
        if path is not None:
            _check_transformers(path, TOKENIZER_FILE, weights=not sources.is_open_vljepa)
    if sources.decoder is not None:
        _check_decoder(sources.decoder, sources.random is None)
    if sources.captions is not None:
        read_captions(sources.captions)
    _check_every_part(sources)


def config_file(directory: Path) -> Path | None:
    """Return the configuration of a public model, transformers' or else open_clip's; None where there is neither."""
    paths = (directory / CONFIG_FILE, directory / OPEN_CLIP_CONFIG)
    return next((path for path in paths if path.is_file()), None)


def meant_instead(path: Path) -> str | None:
    """Return what is wrong with a path in whose neighbourhood the directory of a public model is, and the name of that:
    a file of the model, a folder around it, or a repository's folder in the cache of huggingface_hub.

    None: there is nothing near.
    """
    if path.is_file():
        return None if config_file(path.parent) is None else f"{path} is a file of a model: name {path.parent}"
    own = (
        QUERY_TOKENIZER,
        DECODER_TOKENIZER,
        MODEL_FILE,
    )  # VL-JEPA's, or a model's without config.json
    if not path.is_dir() or config_file(path) is not None or any((path / name).is_file() for name in own):
        return None
    current = path
    with suppress(OSError, ValueError):  # the commit that the hub's cache has as main
        current = path / "snapshots" / (path / "refs" / "main").read_text(encoding="utf-8").strip()
    below = [current, *sorted([*path.glob("*/"), *path.glob("snapshots/*/")])]
    inner = next((each for each in below if config_file(each) is not None), None)
    if inner is None:
        return None
    is_cache = path.name.startswith("models--")
    what = "is a repository in the hub's cache" if is_cache else f"has no {CONFIG_FILE} of its own"
    return f"{path} {what}: name the model in it, {inner}"


def model_file(directory: Path) -> str:
    """Return the name of a public model's safetensors, where they are one file."""
    found = config_file(directory)
    return OPEN_CLIP_MODEL if found is not None and found.name == OPEN_CLIP_CONFIG else MODEL_FILE


def check_checkpoint(directory: Path) -> None:
    """Check that a public model's directory has safetensors, and that each of them is whole.

    Raises:
        VljEdgeError: there are none, or one is missing or cut short.
    """
    if (directory / INDEX_FILE).is_file():
        try:
            shards = json.loads((directory / INDEX_FILE).read_text(encoding="utf-8"))["weight_map"].values()
            names = sorted({name for name in shards if Path(name).name == name})
        except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
            raise VljEdgeError(f"{directory / INDEX_FILE} cannot be read ({error!r}): download it again") from error
    else:
        names = [model_file(directory)]
    for name in names:
        if not (directory / name).is_file():
            pickled = sorted(path.name for path in directory.glob("*.bin"))
            why = f"has no {name}"
            if pickled:
                why += f" but {pickled[0]}, which is not loaded, since unpickling can run any code"
            raise VljEdgeError(f"{directory} {why}: download the safetensors of the model")
        check_safetensors(directory / name)


def read_captions(path: Path) -> list[str]:
    """Return the captions of a file, one a line, without duplicates, blank lines and lines that begin with #.

    Raises:
        VljEdgeError: there is no such file, it is not text, or it is empty.
    """
    return list(dict.fromkeys(text for _, text in read_lines(path, "caption")))


def _check_weights_directory(directory: Path) -> None:
    if (meant := meant_instead(directory)) is not None:
        raise VljEdgeError(meant)
    if not directory.is_dir():
        state = "does not exist"
        if directory.exists():
            state = "is one file, and a model is a directory with config.json, safetensors and tokenizer"
        raise VljEdgeError(
            f"{directory} {state}: name a public model as OWNER/NAME (vlj-edge models lists some) or its directory, one"
            " that examples/train_nano/train.py wrote, or the best.pt of open-vljepa"
        )
    if not (directory / QUERY_TOKENIZER).is_file():
        missing = " and no ".join(name for name in (CONFIG_FILE, MODEL_FILE) if not (directory / name).is_file())
        raise VljEdgeError(
            f"{directory} has no {missing}: download all of its repository's, or name the model as OWNER/NAME (vlj-edge"
            f" models lists some); weights of VL-JEPA have {QUERY_TOKENIZER}, too"
        )
    for name in (MODEL_FILE, DECODER_TOKENIZER):
        if not (directory / name).is_file():
            raise VljEdgeError(
                f"{directory} has no {name}: name a directory that examples/train_nano/train.py wrote, or the best.pt"
                " of open-vljepa"
            )
    check_safetensors(directory / MODEL_FILE)


def _check_transformers(directory: Path, *others: str, weights: bool = True) -> None:
    if (meant := meant_instead(directory)) is not None:
        raise VljEdgeError(meant)
    for name in (CONFIG_FILE, *others):
        if not (directory / name).is_file():
            raise VljEdgeError(f"{directory} has no {name}: name a transformers directory")
    if not weights or (directory / INDEX_FILE).is_file():
        return
    if not (directory / MODEL_FILE).is_file():
        raise VljEdgeError(f"{directory} has no {MODEL_FILE}: name a transformers directory with its safetensors")
    check_safetensors(directory / MODEL_FILE)


def _check_decoder(path: Path, needs_prefix: bool) -> None:
    if not path.exists():
        raise VljEdgeError(f"{path} does not exist: name a decoder's transformers directory or its GGUF file")
    directory = path if path.is_dir() else path.parent
    if path.is_dir() and not any(path.glob("*.gguf")):
        _check_transformers(path, TOKENIZER_FILE)
    if needs_prefix and not (directory / PREFIX_FILE).is_file():
        raise VljEdgeError(
            f"{directory} has no {PREFIX_FILE}, which projects an embedding to the decoder's first token: train one"
            f" with examples/train_decoder, {_RANDOM}"
        )


def _check_pt(path: Path | None) -> None:
    """Check that torch.save wrote a file: a zip, or before torch 1.6 a pickle, which begins with 0x80."""
    if path is None:
        return
    if not path.is_file():
        raise VljEdgeError(f"{path} does not exist: name the checkpoint's .pt file, or a directory")
    if (meant := meant_instead(path)) is not None and path.suffix not in (".pt", ".pth"):
        raise VljEdgeError(meant)
    with path.open("rb") as file:
        is_pickle = file.read(1) == b"\x80"
    if not is_pickle and not zipfile.is_zipfile(path):
        raise VljEdgeError(f"{path} is not a whole .pt file: download it again, or name a checkpoint")


def check_safetensors(path: Path) -> None:
    """Check that the file is as long as its header says (https://github.com/huggingface/safetensors#format).

    Raises:
        VljEdgeError: it is cut short, or no safetensors file.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= path.stat().st_size:
                raise ValueError("its header is cut short")
            tensors = [entry for name, entry in json.loads(file.read(length)).items() if name != "__metadata__"]
            end = 8 + length + max((entry["data_offsets"][1] for entry in tensors), default=0)
        if end != path.stat().st_size:
            raise ValueError(f"{path.stat().st_size} bytes instead of {end}")
    except (OSError, ValueError, RecursionError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise VljEdgeError(f"{path} is not a whole safetensors file ({error}): copy or download it again") from error


def _check_every_part(sources: WeightSources) -> None:
    if sources.random is not None:
        return
    for option, path in (("vision-encoder", sources.vision_encoder), ("predictor", sources.predictor)):
        has_own = sources.weights is not None and (option == "predictor" or not sources.is_open_vljepa)
        if path is None and not has_own:
            raise WrongCall(f"the {option.replace('-', '_')} has no weights: name them with --{option}, {_RANDOM}")
    if sources.is_open_vljepa and sources.predictor is None:
        raise WrongCall(
            "the query has no tokenizer: name the directory of meta-llama/Llama-3.2-1B with --predictor, for its"
            " tokenizer.json"
        )
