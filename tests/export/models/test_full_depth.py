"""Our modules at the sizes they are made for, against implementations that we did not write, at random weights in fp32.

transformers runs its eager attention here and ours is fused, so that the two share as little as they can.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import LlamaForCausalLM, LlamaModel, VJEPA2Model
from transformers.initialization import no_init_weights

from tests.export.models import vjepa21
from tests.export.models.full_depth import (
    LARGEST_DIFFERENCE,
    LOWEST_COSINE,
    SHARPNESS,
    SMALL_VOCABULARY,
    likeness,
    lowest_cosine,
    scramble_to_depth,
    watched,
)
from tests.export.models.test_models import difference, llama_config, scramble, transformers_vjepa2
from vlj_edge.export.models import rope
from vlj_edge.export.models.llama import masked_attention
from vlj_edge.export.models.predictor import Predictor
from vlj_edge.export.models.vision_encoder import VisionEncoder
from vlj_edge.export.weights import checkpoints
from vlj_edge.presets import Preset, preset, variant

pytestmark = pytest.mark.usefixtures("seeded_and_freed")
slow = pytest.mark.slow


LARGE, BASE = preset("vl-jepa-1.6b"), preset("vl-jepa-base")


LLAMA_LAYERS = 16  # of Llama-3.2-1B, of which the predictor takes the last 8


# V-JEPA 2


def vjepa2(layers: int) -> VJEPA2Model:
    vision = LARGE.vision
    with no_init_weights():
        model = transformers_vjepa2(vision.width, vision.heads, layers, LARGE.clip.frames, LARGE.preprocess.crop)
    model.set_attn_implementation("eager")
    scramble_to_depth(model, layers)
    return model


def encoder_of(theirs: VJEPA2Model, chosen: Preset) -> VisionEncoder:
    ours = VisionEncoder(chosen.vision, chosen.clip, chosen.preprocess).eval()
    ours.load_state_dict(checkpoints.from_transformers_vjepa(theirs.state_dict(), chosen.vision.layers))
    return ours


def loud_and_quiet(tokens: int, width: int) -> Tensor:
    """A residual stream of unit scale down to a hundredth of it, as token embeddings have: there a norm's eps shows."""
    return torch.randn(1, tokens, width) * torch.logspace(-2, 0, tokens)[torch.randperm(tokens), None]


def clip_of(chosen: Preset) -> Tensor:
    return torch.randn(1, chosen.clip.frames, 3, chosen.preprocess.crop, chosen.preprocess.crop)


@slow
def test_vjepa2_vitl() -> None:
    layers = LARGE.vision.layers
    theirs = vjepa2(layers)
    ours, clip = encoder_of(theirs, LARGE), clip_of(LARGE)
    with watched(theirs.encoder.layer) as stream:
        expected = theirs(pixel_values_videos=clip, skip_predictor=True).last_hidden_state
    stream.check(layers)
    assert expected.shape == (1, 2048, 1024) and likeness(expected) < 0.8
    assert lowest_cosine(ours(clip), expected) > LOWEST_COSINE

    # What one layer adds, in units of its own scale: in the sum with x an approximate GELU would nearly pass.
    x = loud_and_quiet(2048, LARGE.vision.width)
    added, block = theirs.encoder.layer[layers // 2 - 1](x)[0] - x, ours.blocks[layers // 2 - 1]
    assert difference(block(x, ours.cos, ours.sin, ours.swap) - x, added) < LARGEST_DIFFERENCE
    cos, sin = rope.vjepa_tables(8, 16, 16, 64, squeezed_patch=16)  # V-JEPA 2.1's: interleaved and not tiled
    assert difference(block(x, cos[:, None], sin[:, None], ours.swap) - x, added) > 1000 * LARGEST_DIFFERENCE


# The predictor


def llama_in_shards(directory: Path, layers: int, kept: int) -> LlamaModel:
    """A Llama with all its layers, saved in bf16 as it is published; returned in fp32 with only its last `kept`."""
    config = llama_config(replace(LARGE.predictor, vocabulary=SMALL_VOCABULARY, layers=layers))
    config.tie_word_embeddings = True
    with no_init_weights():  # scrambled at once, and a billion random numbers take their time
        model = LlamaForCausalLM(config).bfloat16().eval()
    scramble_to_depth(model, kept)
    model.save_pretrained(directory, max_shard_size="700MB")
    llama: LlamaModel = model.model
    llama.layers = llama.layers[layers - kept :]
    llama.config.num_hidden_layers = kept
    llama.float()
    llama.rotary_emb = type(llama.rotary_emb)(config=config)  # bfloat16() had rounded its frequencies
    return llama


def predictor_of(directory: Path, chosen: Preset, visual_tokens: int) -> Predictor:
    """Our predictor with the saved layers; only what VL-JEPA adds around them is not among them."""
    ours = Predictor(chosen, visual_tokens).eval()
    scramble(ours)
    missing, unexpected = ours.load_state_dict(checkpoints.llama_layers(directory, chosen), strict=False)
    assert not unexpected and {key.split(".")[0] for key in missing} == {"vis_proj", "out_proj"}
    return ours


def with_layers(chosen: Preset, layers: int) -> Preset:
    return replace(chosen, predictor=replace(chosen.predictor, vocabulary=SMALL_VOCABULARY, layers=layers))


def predict(
    llama: LlamaModel, ours: Predictor, visual: Tensor, ids: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The paper's predictor around transformers' layers: its tokens, the additive mask, the embedding.

    Of our predictor it takes the weights of both projections, which no Llama has.
    """
    embedded = llama.embed_tokens(ids)
    x = torch.cat((visual @ ours.vis_proj.weight.T + ours.vis_proj.bias, embedded), dim=1)
    real = torch.cat((torch.ones(visual.shape[:2], dtype=torch.bool), mask), dim=1)
    additive = torch.zeros(real.shape).masked_fill(~real, torch.finfo(torch.float32).min)
    additive = additive[:, None, None, :].repeat(1, 1, x.shape[1], 1)
    tokens = llama(inputs_embeds=x, attention_mask=additive, use_cache=False).last_hidden_state
    pooled = torch.stack([of_one[real_of_one].mean(0) for of_one, real_of_one in zip(tokens, real, strict=True)])
    answer = pooled @ ours.out_proj.weight.T + ours.out_proj.bias
    return tokens, additive, answer / answer.norm(dim=-1, keepdim=True)


def tokens_and_embedding(ours: Predictor, visual: Tensor, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    tokens: list[Tensor] = []
    with ours.norm.register_forward_hook(lambda module, inputs, output: tokens.append(output)):
        embedding = ours(visual, ids, mask)
    return tokens[0], embedding


def padded_query(real: int) -> tuple[Tensor, Tensor]:
    ids = torch.randint(0, SMALL_VOCABULARY, (1, LARGE.query_tokens))
    return ids, torch.arange(LARGE.query_tokens)[None] < real


@slow
def test_the_last_half_of_llama_at_full_width(tmp_path: Path) -> None:
    chosen = with_layers(LARGE, LARGE.predictor.layers)
    theirs = llama_in_shards(tmp_path, LLAMA_LAYERS, chosen.predictor.layers)
    assert (tmp_path / "model.safetensors.index.json").is_file()
    ours = predictor_of(tmp_path, chosen, visual_tokens=2048)
    visual, (ids, mask) = torch.randn(1, 2048, LARGE.vision.width), padded_query(real=41)
    with watched(theirs.layers) as stream:
        expected, additive, answer = predict(theirs, ours, visual, ids, mask)
    stream.check(chosen.predictor.layers)
    assert likeness(expected) < 0.8

    tokens, found = tokens_and_embedding(ours, visual, ids, mask)
    assert lowest_cosine(tokens, expected) > LOWEST_COSINE
    # Pooling averages most mistakes away, so that the embedding needs the sharper bar.
    assert lowest_cosine(found, answer) > LOWEST_COSINE and difference(found, answer) < LARGEST_DIFFERENCE

    n = 576  # one layer alone needs no more
    x, seen = loud_and_quiet(n, chosen.predictor.width), additive[..., -n:, -n:]
    places = theirs.rotary_emb(x, torch.arange(n)[None])
    added = theirs.layers[3](x, attention_mask=seen, position_embeddings=places) - x
    attend = masked_attention(chosen.predictor, seen == 0)
    scaled, plain = (
        ours.layers[3](x, *rope.llama_tables(config, n), attend) - x
        for config in (chosen.predictor, replace(chosen.predictor, rope_scaling=None))
    )
    assert difference(scaled, added) < LARGEST_DIFFERENCE
    assert difference(plain, added) > 1000 * LARGEST_DIFFERENCE


@slow
def test_the_chain_from_pixels_to_the_embedding(tmp_path: Path) -> None:
    """At full width and length, with 4 layers of the encoder and 2 of the predictor."""
    chosen = with_layers(replace(LARGE, vision=replace(LARGE.vision, layers=4)), layers=2)
    sees, llama = vjepa2(layers=4), llama_in_shards(tmp_path, layers=3, kept=2)
    encoder, predictor = encoder_of(sees, chosen), predictor_of(tmp_path, chosen, visual_tokens=2048)
    clip, (ids, mask) = clip_of(LARGE), padded_query(real=17)
    visual = sees(pixel_values_videos=clip, skip_predictor=True).last_hidden_state
    expected, _, answer = predict(llama, predictor, visual, ids, mask)
    tokens, found = tokens_and_embedding(predictor, encoder(clip), ids, mask)
    assert lowest_cosine(tokens, expected) > LOWEST_COSINE
    assert lowest_cosine(found, answer) > LOWEST_COSINE and difference(found, answer) < LARGEST_DIFFERENCE


# V-JEPA 2.1


def vjepa21_weights(layers: int) -> vjepa21.Weights:
    """`scramble_to_depth` for Meta's names."""
    width = BASE.vision.width
    weights = vjepa21.random_weights(width, layers, BASE.vision.mlp, BASE.vision.patch)
    for key, value in weights.items():
        if ".attn.qkv." in key:
            value[: 2 * width] *= SHARPNESS**0.5
        elif ".attn.proj." in key or ".mlp.fc2." in key:
            value *= layers**-0.5
        elif (key.startswith("patch_embed") and key.endswith("bias")) or key.endswith("mod_embed"):
            value *= 0.3  # every token has them, and at full scale all would be alike
    return weights


@pytest.mark.parametrize(("frames", "size"), [(16, 256), (4, 384), (1, 384)], ids=["video", "large", "image"])
@slow
def test_vjepa21_vitb_at_full_depth(frames: int, size: int) -> None:
    chosen = variant(BASE, frames=frames, size=size)
    weights = vjepa21_weights(chosen.vision.layers)
    ours = VisionEncoder(chosen.vision, chosen.clip, chosen.preprocess).eval()
    ours.load_state_dict(checkpoints.from_meta_vjepa(copy.copy(weights), chosen.vision, image=frames == 1))
    clip = clip_of(chosen)
    with watched(ours.blocks) as stream:
        found = ours(clip)
    stream.check(chosen.vision.layers)
    assert found.shape[1] == max(frames // 2, 1) * (size // 16) ** 2
    expected = vjepa21.encode(weights, clip, chosen.vision.heads)
    assert likeness(expected) < 0.8
    assert lowest_cosine(found, expected) > LOWEST_COSINE


def test_one_layer_of_vjepa21_vitb() -> None:
    chosen = variant(BASE, frames=4, size=384)
    chosen = replace(chosen, vision=replace(chosen.vision, layers=1))
    weights = vjepa21_weights(layers=1)
    ours = VisionEncoder(chosen.vision, chosen.clip, chosen.preprocess).eval()
    ours.load_state_dict(checkpoints.from_meta_vjepa(copy.copy(weights), chosen.vision, image=False))
    clip = clip_of(chosen)
    expected = vjepa21.encode(weights, clip, chosen.vision.heads)
    assert difference(ours(clip), expected) < LARGEST_DIFFERENCE
    cos, sin = rope.vjepa_tables(2, 24, 24, 64)  # V-JEPA 2's: tiled, and not squeezed
    ours.cos, ours.sin = cos[:, None], sin[:, None]
    assert difference(ours(clip), expected) > 1000 * LARGEST_DIFFERENCE
