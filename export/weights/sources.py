"""The modules of an export from their weight files: all keys and shapes are checked first, each module is loaded when
used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from vlj_edge.errors import VljEdgeError, WrongCall
from vlj_edge.presets import Preset

from ..models import VLJepa
from ..models.decoder import Decoder
from ..models.nearest_caption import NearestCaption
from ..models.predictor import Predictor
from ..models.text_encoder import TextEncoder
from ..models.vision_encoder import VisionEncoder
from ..models.vl_jepa import visual_tokens
from . import checkpoints
from .decoders import read_causal_llama
from .files import State, read_safetensors, read_tokenizer
from .locations import (
    DECODER_TOKENIZER,
    MODEL_FILE,
    PREFIX_FILE,
    QUERY_TOKENIZER,
    TOKENIZER_FILE,
    WeightSources,
    check_sources,
    read_captions,
    shipped_weights,
)
from .shapes import describe_differences, shapes
from .text_encoders import TextBackbone, load_text_backbone, random_text_backbone

ModuleLoader: TypeAlias = Callable[[], nn.Module]  # returns a new module at each call, in fp32 and eval mode


@dataclass(frozen=True)
class Weights:
    """The modules, tokenizers and files of an export.

    Attributes:
        preset: the requested one, with the dimensions of the decoder's own files where it has any.
        loaders: by engine name, so that only one module is in memory at a time. No decoder: embeddings only.
        query_tokenizer, decoder_tokenizer: for the predictor's query and the decoder's text.
        captions: the texts among which the decoder chooses; None for a decoder that is a language model.
        text: the text encoder's backbone, with its tokenizer, padding id and prefix.
        files: the weight files, for the receipt.
        directory: the vlj-edge weights directory, which may hold calibrated settings; None without one.
    """

    preset: Preset
    loaders: dict[str, ModuleLoader]
    query_tokenizer: Tokenizer
    decoder_tokenizer: Tokenizer | None
    captions: list[str] | None
    text: TextBackbone
    files: tuple[Path, ...]
    directory: Path | None


def open_weights(sources: WeightSources, preset: Preset) -> Weights:
    """Find the weights of every engine, and check all keys and shapes before the first is loaded.

    Raises:
        VljEdgeError: a part has no weights, a file cannot be read, or keys or shapes are not those of the preset (each
            is listed).
    """
    check_sources(sources)
    states = _read_trained_states(sources, preset)
    tokenizers = _read_tokenizers(sources)
    if sources.decoder is not None:
        llama = read_causal_llama(sources.decoder)
        preset = replace(preset, decoder=llama.config, decoder_end=llama.end)
        states["decoder"] = llama.state | _read_prefix(sources.decoder, optional=sources.random is not None)
        tokenizers["decoder"] = llama.tokenizer
    if sources.vision_encoder is not None:
        states["vision_encoder"] = checkpoints.vision_encoder(sources.vision_encoder, preset)
    if sources.predictor is not None and "predictor" not in states:
        states["predictor"] = checkpoints.llama_layers(sources.predictor, preset)
    builders: dict[str, ModuleLoader] = {
        "vision_encoder": lambda: VisionEncoder(preset.vision, preset.clip, preset.preprocess),
        "predictor": lambda: Predictor(preset, visual_tokens(preset)),
        "decoder": lambda: Decoder(preset),
        "text_projection": lambda: nn.Linear(preset.text.width, preset.embedding),
    }
    captions = None if sources.captions is None else read_captions(sources.captions)
    if captions or not sources.has_decoder:
        del builders["decoder"]
        tokenizers.pop("decoder", None)
    loaders = {name: _module_loader(name, build, states.get(name), sources, preset) for name, build in builders.items()}
    text, projection = _text_backbone(sources, preset, states.get("text_backbone")), loaders.pop("text_projection")
    loaders["text_encoder"] = lambda: TextEncoder(text.load(), projection()).eval()
    if captions:
        loaders["decoder"] = lambda: NearestCaption(_embed_captions(captions, loaders["text_encoder"](), text, preset))
    return Weights(
        preset=preset,
        loaders=loaders,
        query_tokenizer=tokenizers["query"],
        decoder_tokenizer=tokenizers.get("decoder"),
        captions=captions,
        text=text,
        files=_weight_files(sources),
        directory=sources.weights_directory,
    )


def load_model(directory: Path, preset: Preset) -> VLJepa:
    """Load the model of a vlj-edge weights directory, without the text backbone: for training and scoring.

    Raises:
        VljEdgeError: a file is missing, or keys or shapes are not those of the preset (each is listed).
    """
    model = VLJepa(preset)
    model.load_state_dict({key: value.float() for key, value in _read_weights_directory(directory, preset).items()})
    return model.eval().requires_grad_(False)


def _read_trained_states(sources: WeightSources, preset: Preset) -> dict[str, State]:
    """Return the state dicts in `sources.weights` by the name of the part."""
    if sources.weights is None:
        return {}
    if sources.is_open_vljepa:
        loaded = checkpoints.open_vljepa(sources.weights)
        return {
            "predictor": loaded.predictor,
            "text_projection": loaded.text_projection,
            "text_backbone": loaded.text_backbone,
        }
    states: dict[str, State] = {}
    for key, value in _read_weights_directory(sources.weights, preset).items():
        part, _, name = key.partition(".")
        states.setdefault(part, {})[name] = value
    return states


def _read_weights_directory(directory: Path, preset: Preset) -> State:
    state = read_safetensors(directory / MODEL_FILE)
    with torch.device("meta"):
        expected = VLJepa(preset).state_dict()
    _check_keys(directory / MODEL_FILE, preset.name, expected, state)
    return state


def _read_prefix(decoder: Path, optional: bool) -> State:
    directory = decoder if decoder.is_dir() else decoder.parent
    if optional and not (directory / PREFIX_FILE).is_file():
        return {}
    return read_safetensors(directory / PREFIX_FILE)


def _module_loader(
    part: str, build: ModuleLoader, state: State | None, sources: WeightSources, preset: Preset
) -> ModuleLoader:
    """Check a part's weights, and return a function that loads them, or random ones where they are missing."""
    own_files = {"vision_encoder": sources.vision_encoder, "predictor": sources.predictor, "decoder": sources.decoder}
    path = own_files.get(part) or sources.weights
    with torch.device("meta"):
        expected = build().state_dict()
    if state is None and sources.random is None:
        raise WrongCall(
            f"the {part} has no weights: name them with --{part.replace('_', '-')}, or add --random-weights 0 to see"
            " size and speed"
        )
    missing = state is None or bool(expected.keys() - state.keys())
    if state is not None:
        assert path is not None
        if sources.random is not None:  # missing tensors are filled with random numbers
            expected = {name: tensor for name, tensor in expected.items() if name in state}
        _check_keys(path, preset.name, expected, state)

    def load() -> nn.Module:
        if missing:
            with torch.random.fork_rng():
                torch.manual_seed(sources.random or 0)
                module = build()
        else:
            with torch.device("meta"):  # no memory for numbers that are replaced at once
                module = build()
        values = {key: value.float() for key, value in (state or {}).items()}
        module.load_state_dict(values, strict=not missing, assign=True)
        return module.eval().requires_grad_(False)

    return load


def _text_backbone(sources: WeightSources, preset: Preset, state: State | None) -> TextBackbone:
    own = sources.weights / "text_encoder" if sources.weights is not None else None
    directory = sources.text_encoder or (own if own is not None and own.is_dir() else None)
    name = preset.text.backbone
    if directory is None and sources.random is not None and (name != "minilm-l6" or sources.weights is None):
        return random_text_backbone(name, sources.random, shipped_weights() / QUERY_TOKENIZER)
    return load_text_backbone(name, directory, state)


@torch.no_grad()
def _embed_captions(captions: list[str], encoder: nn.Module, text: TextBackbone, preset: Preset) -> Tensor:
    """Return float32 (captions, embedding), each row of unit length."""
    tokenizer = read_tokenizer(text.tokenizer)
    tokenizer.enable_truncation(preset.text.tokens)
    tokenizer.enable_padding(pad_id=text.pad)
    embeddings = []
    for first in range(0, len(captions), 64):
        encodings = tokenizer.encode_batch([text.text_prefix + caption for caption in captions[first : first + 64]])
        ids = torch.tensor([each.ids for each in encodings])
        embeddings.append(encoder(ids, torch.tensor([each.attention_mask for each in encodings], dtype=torch.bool)))
    return torch.cat(embeddings)


def _read_tokenizers(sources: WeightSources) -> dict[str, Tokenizer]:
    """Return the query's tokenizer, and the decoder's unless the decoder's own files bring it."""
    directory = sources.weights_directory or (shipped_weights() if sources.random is not None else None)
    tokenizers: dict[str, Tokenizer] = {}
    if directory is not None:  # with random weights any ids do: nano's vocabulary is within that of every preset
        tokenizers["decoder"] = read_tokenizer(directory / DECODER_TOKENIZER)
    if sources.predictor is not None:
        tokenizers["query"] = read_tokenizer(sources.predictor / TOKENIZER_FILE)
    else:
        assert directory is not None, "check_sources() asks for --predictor"
        tokenizers["query"] = read_tokenizer(directory / QUERY_TOKENIZER)
    return tokenizers


def _weight_files(sources: WeightSources) -> tuple[Path, ...]:
    paths = (sources.weights, sources.vision_encoder, sources.predictor, sources.text_encoder, sources.decoder)
    patterns = ("*.safetensors", "*.gguf")
    files: list[Path] = []
    for path in paths:
        if path is not None:
            files += sorted(file for each in patterns for file in path.glob(each)) if path.is_dir() else [path]
    return tuple(files)


def _check_keys(path: Path, preset: str, expected: State, found: State) -> None:
    if differences := describe_differences(shapes(expected), shapes(found)):
        raise VljEdgeError(f"{path} does not fit preset {preset} ({differences}): name the preset it was made for")
