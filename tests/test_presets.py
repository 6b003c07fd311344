"""The dimensions of the presets, compared with the published models."""

from __future__ import annotations

import math

import pytest

from vlj_edge import VljEdgeError
from vlj_edge.presets import PRESETS, Llama, Preset, VisionEncoder, preset

STEM_STRIDE = {None: 1, "efficientnet-lite0": 16}  # pixels a cell of what tubelets are cut from

every_preset = pytest.mark.parametrize("each", PRESETS.values(), ids=PRESETS)


def vision_parameters(vision: VisionEncoder) -> int:
    """V-JEPA 2: a 3-D convolution, pre-norm blocks with biases everywhere, a last LayerNorm."""
    width, mlp = vision.width, vision.mlp
    patches = 3 * vision.tubelet * vision.patch**2 * width + width
    attention = 4 * (width * width + width)
    layer = attention + (width * mlp + mlp) + (mlp * width + width) + 2 * 2 * width
    return patches + vision.layers * layer + 2 * width


def llama_layer_parameters(llama: Llama) -> int:
    """Grouped-query attention and SwiGLU without biases, two RMSNorms."""
    queries, keys = llama.heads * llama.head_dim, llama.kv_heads * llama.head_dim
    attention = llama.width * (2 * queries + 2 * keys)
    return attention + 3 * llama.width * llama.mlp + 2 * llama.width


def visual_tokens(each: Preset) -> int:
    """Tokens of one clip."""
    side = each.preprocess.crop // STEM_STRIDE[each.vision.stem] // each.vision.patch
    return each.clip.frames // each.vision.tubelet * side**2


# --- vl-jepa-1.6b is the model of the paper


def test_the_vision_encoder_has_the_parameters_of_v_jepa_2_vit_l() -> None:
    assert vision_parameters(preset("vl-jepa-1.6b").vision) == 303_885_312


def test_a_predictor_layer_has_the_parameters_of_llama_3_2_1b() -> None:
    assert round(llama_layer_parameters(preset("vl-jepa-1.6b").predictor) / 1e6, 2) == 60.82


def test_the_predictor_has_about_490_million_trainable_parameters() -> None:
    each = preset("vl-jepa-1.6b")
    width = each.predictor.width
    projections = each.vision.width * width + width * each.embedding
    trainable = each.predictor.layers * llama_layer_parameters(each.predictor) + projections
    assert trainable == pytest.approx(490e6, rel=0.01)


def test_the_decoder_has_the_parameters_of_smollm2_135m() -> None:
    decoder = preset("vl-jepa-1.6b").decoder
    tied = decoder.vocabulary * decoder.width  # one table for words in and words out
    assert tied + decoder.layers * llama_layer_parameters(decoder) + decoder.width == 134_515_008


def test_sixteen_frames_of_256_pixels_make_2048_visual_tokens() -> None:
    assert preset("vl-jepa-1.6b").clip.frames == 16
    assert visual_tokens(preset("vl-jepa-1.6b")) == 2048


def test_the_encoder_heads_are_64_wide() -> None:
    vision = preset("vl-jepa-1.6b").vision
    assert (vision.width / vision.heads, 2 * ((64 // 3) // 2)) == (64, 20)


def test_the_predictor_takes_llamas_context_scaling() -> None:
    predictor = preset("vl-jepa-1.6b").predictor
    scaling = predictor.rope_scaling
    assert scaling is not None
    assert (predictor.rope_theta, predictor.vocabulary) == (500_000, 128_256)
    assert (scaling.factor, scaling.low, scaling.high, scaling.original_context) == (32, 1, 4, 8192)


def test_the_frames_are_prepared_as_v_jepa_2_was_evaluated() -> None:
    preprocess = preset("vl-jepa-1.6b").preprocess
    assert (preprocess.short_side, preprocess.crop) == (292, 256)
    assert (preprocess.mean, preprocess.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_the_shared_space_has_1536_dimensions() -> None:
    assert preset("vl-jepa-1.6b").embedding == 1536


def test_padding_is_a_token_that_llama_has() -> None:
    assert preset("vl-jepa-1.6b").query_pad == 128_001  # <|end_of_text|>, for Llama has no pad token


# --- nano is the same architecture, small


def test_nano_is_a_hundredth_of_the_paper_model() -> None:
    def transformers(each: Preset) -> int:
        layers = [part.layers * llama_layer_parameters(part) for part in (each.predictor, each.decoder)]
        return vision_parameters(each.vision) + sum(layers)

    assert transformers(preset("nano")) < transformers(preset("vl-jepa-1.6b")) / 100


def test_nano_embeds_as_minilm_does() -> None:
    assert preset("nano").embedding == preset("nano").text.width == 384


# --- what must hold for every preset


def test_presets_are_found_by_their_own_names() -> None:
    assert {name: preset(name).name for name in PRESETS} == {name: name for name in PRESETS}


@pytest.mark.parametrize("name", ["", "Nano", "vl-jepa", "nano "])
def test_an_unknown_name_lists_the_known_ones(name: str) -> None:
    with pytest.raises(VljEdgeError) as caught:
        preset(name)
    assert f"'{name}'" in str(caught.value)
    assert all(known in str(caught.value) for known in PRESETS)


@every_preset
def test_frames_divide_into_tubelets_and_pictures_into_patches(each: Preset) -> None:
    assert each.clip.frames % each.vision.tubelet == 0
    assert each.preprocess.crop % (STEM_STRIDE[each.vision.stem] * each.vision.patch) == 0


@every_preset
def test_no_frame_falls_between_two_windows(each: Preset) -> None:
    assert 1 <= each.clip.stride <= each.clip.frames


@every_preset
def test_the_crop_lies_inside_the_resized_picture(each: Preset) -> None:
    assert each.preprocess.crop <= each.preprocess.short_side


@every_preset
def test_the_width_divides_into_heads_that_rope_can_turn(each: Preset) -> None:
    vision = each.vision
    assert vision.width % vision.heads == 0
    assert (vision.width // vision.heads) // 3 // 2 >= 1, "each of three axes turns at least one pair"


@every_preset
@pytest.mark.parametrize("part", ["predictor", "decoder"])
def test_query_heads_share_key_heads_evenly(each: Preset, part: str) -> None:
    llama: Llama = getattr(each, part)
    assert llama.heads % llama.kv_heads == 0
    assert llama.head_dim % 2 == 0, "rotate-half turns halves against each other"


@every_preset
def test_special_tokens_are_in_the_vocabularies(each: Preset) -> None:
    assert 0 <= each.query_pad < each.predictor.vocabulary
    assert 0 <= each.decoder_end < each.decoder.vocabulary


@every_preset
def test_query_and_answer_fit_their_engines(each: Preset) -> None:
    assert each.default_query.strip()
    assert 1 <= each.query_tokens <= 512, "the paper pads to 512"
    assert each.decoder_tokens >= 1
    assert each.text.tokens >= 1


@every_preset
def test_normalised_pixels_are_of_unit_scale(each: Preset) -> None:
    for mean, std in zip(each.preprocess.mean, each.preprocess.std, strict=True):
        assert -3 < (0 - mean) / std < 0 < (1 - mean) / std < 3


@every_preset
def test_a_clip_is_some_seconds_long(each: Preset) -> None:
    seconds = each.clip.frames / each.clip.frames_per_second
    assert math.isfinite(seconds)
    assert 0.5 <= seconds <= 60
