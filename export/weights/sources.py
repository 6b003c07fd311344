"""Weight sources -> a module for each engine, loaded when its turn comes, every key and shape checked first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from vlj_edge.errors import VljEdgeError
from vlj_edge.presets import Preset

from ..models import VLJepa
from ..models.decoder import Decoder
from ..models.nearest_caption import NearestCaption
from ..models.predictor import Predictor
from ..models.text_encoder import TextEncoder
from ..models.vision_encoder import VisionEncoder
from ..models.vl_jepa import visual_tokens
from . import checkpoints
from .decoders import causal_llama
from .files import State, read_safetensors
from .locations import (
    DECODER_TOKENIZER,
    MODEL_FILE,
    PREFIX_FILE,
    QUERY_TOKENIZER,
    WeightSources,
    check_sources,
    read_captions,
    shipped_weights,
)
from .text_encoders import TextBackbone, load_text_backbone, random_text_backbone

Load: TypeAlias = Callable[[], nn.Module]  # makes an engine's module anew at each call, in fp32 and eval mode


@dataclass(frozen=True)
class Weights:
    """All that an export needs.

    Attributes:
        preset: with the decoder's dimensions where its files bring their own.
        load: by engine, so that only one module need be in memory. The checkpoint of open-vljepa has no decoder.
        query_tokenizer, decoder_tokenizer: what turns text into ids, and ids into text.
        captions: what the decoder chooses among, where it has no language model.
        text: the text encoder's backbone, for its tokenizer and what it demands.
        files: what the receipt names, with sha256.
        directory: where gates lie that were calibrated with these weights.
    """

    preset: Preset
    load: dict[str, Load]
    query_tokenizer: Tokenizer
    decoder_tokenizer: Tokenizer | None
    captions: list[str] | None
    text: TextBackbone
    files: tuple[Path, ...]
    directory: Path | None


def open_weights(sources: WeightSources, preset: Preset) -> Weights:
    """Find every part, and check all its keys and shapes before the first is used.

    Raises:
        VljEdgeError: a part has no weights, a file cannot be read, or keys or shapes are not those of the preset (each
            is listed).
    """
    check_sources(sources)
    states = _trained(sources, preset)
    tokenizers = _tokenizers(sources)
    if sources.decoder is not None:
        llama = causal_llama(sources.decoder)
        preset = replace(preset, decoder=llama.config, decoder_end=llama.end)
        states["decoder"] = llama.state | _prefix(sources)
        tokenizers["decoder"] = llama.tokenizer
    if sources.vision_encoder is not None:
        states["vision_encoder"] = checkpoints.vision_encoder(sources.vision_encoder, preset)
    if sources.predictor is not None and "predictor" not in states:
        states["predictor"] = checkpoints.llama_layers(sources.predictor, preset)
    builders: dict[str, Load] = {
        "vision_encoder": lambda: VisionEncoder(preset.vision, preset.clip, preset.preprocess),
        "predictor": lambda: Predictor(preset, visual_tokens(preset)),
        "decoder": lambda: Decoder(preset),
        "text_projection": lambda: nn.Linear(preset.text.width, preset.embedding),
    }
    captions = None if sources.captions is None else read_captions(sources.captions)
    if captions or not sources.has_decoder:
        del builders["decoder"]
        tokenizers.pop("decoder", None)
    load = {name: _loader(name, build, states.get(name), sources, preset) for name, build in builders.items()}
    text, projection = _text_backbone(sources, preset, states.get("text_backbone")), load.pop("text_projection")
    load["text_encoder"] = lambda: TextEncoder(text.load(), projection()).eval()
    if captions:
        load["decoder"] = lambda: NearestCaption(_embed(captions, load["text_encoder"](), text, preset))
    of_weights = sources.weights if sources.weights is not None and sources.weights.is_dir() else None
    return Weights(
        preset, load, tokenizers["query"], tokenizers.get("decoder"), captions, text, _files(sources), of_weights
    )


def load_model(directory: Path, preset: Preset) -> VLJepa:
    """The whole model of a vlj-edge weights directory, without the text backbone: for training and scoring.

    Raises:
        VljEdgeError: a file is missing, or keys or shapes are not those of the preset (each is listed).
    """
    model = VLJepa(preset)
    model.load_state_dict({key: value.float() for key, value in _read_vlj_edge(directory, preset).items()})
    return model.eval().requires_grad_(False)


def _trained(sources: WeightSources, preset: Preset) -> dict[str, State]:
    """The state dicts in `sources.weights`, by part."""
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
    for key, value in _read_vlj_edge(sources.weights, preset).items():
        part, _, name = key.partition(".")
        states.setdefault(part, {})[name] = value
    return states


def _read_vlj_edge(directory: Path, preset: Preset) -> State:
    state = read_safetensors(directory / MODEL_FILE)
    with torch.device("meta"):
        expected = VLJepa(preset).state_dict()
    _check_keys(directory / MODEL_FILE, preset.name, expected, state)
    return state


def _prefix(sources: WeightSources) -> State:
    assert sources.decoder is not None
    directory = sources.decoder if sources.decoder.is_dir() else sources.decoder.parent
    if sources.random is not None and not (directory / PREFIX_FILE).is_file():
        return {}
    return read_safetensors(directory / PREFIX_FILE)


def _loader(part: str, build: Load, state: State | None, sources: WeightSources, preset: Preset) -> Load:
    """Checks now what it will load later."""
    named = {"vision_encoder": sources.vision_encoder, "predictor": sources.predictor, "decoder": sources.decoder}
    origin = named.get(part) or sources.weights
    with torch.device("meta"):
        expected = build().state_dict()
    if state is None and sources.random is None:
        raise VljEdgeError(
            f"the {part} has no weights: name them with --{part.replace('_', '-')}, or add --random-weights 0 to see"
            " size and speed"
        )
    missing = state is None or bool(expected.keys() - state.keys())
    if state is not None:
        assert origin is not None
        filled = expected.keys() - state.keys() if sources.random is not None else set()
        _check_keys(origin, preset.name, {k: v for k, v in expected.items() if k not in filled}, state)

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
def _embed(captions: list[str], encoder: nn.Module, text: TextBackbone, preset: Preset) -> Tensor:
    """float32 (captions, embedding), unit length."""
    tokenizer = read_tokenizer(text.tokenizer)
    tokenizer.enable_truncation(preset.text.tokens)
    tokenizer.enable_padding(pad_id=text.pad)
    found = []
    for first in range(0, len(captions), 64):
        coded = tokenizer.encode_batch([text.text_prefix + caption for caption in captions[first : first + 64]])
        ids = torch.tensor([c.ids for c in coded])
        found.append(encoder(ids, torch.tensor([c.attention_mask for c in coded], dtype=torch.bool)))
    return torch.cat(found)


def _tokenizers(sources: WeightSources) -> dict[str, Tokenizer]:
    """The query's, and the decoder's where it does not come with the decoder."""
    weights = sources.weights if sources.weights is not None and sources.weights.is_dir() else None
    directory = weights or (shipped_weights() if sources.random is not None else None)
    found: dict[str, Tokenizer] = {}
    if directory is not None:  # with random weights any ids do: nano's vocabulary is within that of every preset
        found["decoder"] = read_tokenizer(directory / DECODER_TOKENIZER)
    if sources.predictor is not None:
        found["query"] = read_tokenizer(sources.predictor / "tokenizer.json")
    else:
        assert directory is not None, "check_sources() asks for --predictor"
        found["query"] = read_tokenizer(directory / QUERY_TOKENIZER)
    return found


def read_tokenizer(path: Path) -> Tokenizer:
    """A tokenizer.json, without padding and truncation of its own.

    Raises:
        VljEdgeError: there is no such file, or it is no tokenizer.
    """
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises Exception itself
        raise VljEdgeError(f"{path} is no tokenizer ({error}): copy, download or train it again") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _files(sources: WeightSources) -> tuple[Path, ...]:
    named = (sources.weights, sources.vision_encoder, sources.predictor, sources.text_encoder, sources.decoder)
    kinds = ("*.safetensors", "*.gguf")
    found: list[Path] = []
    for path in named:
        if path is not None:
            found += sorted(file for kind in kinds for file in path.glob(kind)) if path.is_dir() else [path]
    return tuple(found)


def _check_keys(path: Path, preset: str, expected: State, found: State) -> None:
    missing = sorted(expected.keys() - found.keys())
    unexpected = sorted(found.keys() - expected.keys())
    misshapen = [
        f"{key} {tuple(found[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in sorted(expected.keys() & found.keys())
        if found[key].shape != expected[key].shape
    ]
    faults = [
        f"{what}: {_some(names)}"
        for what, names in (("missing", missing), ("unexpected", unexpected), ("wrong shape", misshapen))
        if names
    ]
    if faults:
        raise VljEdgeError(
            f"{path} does not fit preset {preset} ({'; '.join(faults)}): name the preset it was made for"
        )


def _some(names: list[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
