"""Checkpoints at random weights, small, with the files that their owners publish, written by transformers itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from tests.export.families import perception_encoder

TEXTS = [
    "a person opens the door",
    "two dogs run across the grass",
    "someone pours coffee into a white cup",
    "a red car drives along the street at night",
    "nothing moves in the kitchen",
]
SIDE = 32


def write_clip(directory: Path, **changes: Any) -> Any:
    """Write openai/clip-vit-base-patch32's files at small size. Returns the CLIPModel."""
    tokenizer = _clip_tokenizer()
    shared = {"num_hidden_layers": 2, "num_attention_heads": 2, "projection_dim": 24}
    config = transformers.CLIPConfig(
        projection_dim=24,
        text_config=shared
        | {
            "hidden_size": 32,
            "intermediate_size": 64,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 77,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config=shared | {"hidden_size": 40, "intermediate_size": 72, "image_size": SIDE, "patch_size": 8},
        **changes,
    )
    model = _random(transformers.CLIPModel, config)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    size = {"shortest_edge": SIDE}, {"height": SIDE, "width": SIDE}
    transformers.CLIPImageProcessorPil(size=size[0], crop_size=size[1]).save_pretrained(directory)
    return model


def write_siglip(directory: Path, second: bool = True) -> Any:
    """Write google/siglip2-base-patch16-224's files at small size, or those of the first SigLIP. Returns the model."""
    tokenizer = _siglip2_tokenizer() if second else _siglip_tokenizer()
    shared = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 32, "intermediate_size": 72}
    size = len(tokenizer) if second else tokenizer.get_vocab_size()
    config = transformers.SiglipConfig(
        text_config=shared | {"vocab_size": size, "max_position_embeddings": 64, "projection_size": 48},
        vision_config=shared | {"hidden_size": 48, "image_size": SIDE, "patch_size": 8},
    )
    model = _random(transformers.SiglipModel, config)
    with torch.no_grad():  # about those of the published models
        model.logit_scale.fill_(4.7)
        model.logit_bias.fill_(-16.5)
    model.save_pretrained(directory)
    if second:
        tokenizer.save_pretrained(directory)
    else:
        tokenizer.save(str(directory / "tokenizer.json"))
        settings = {"pad_token": {"content": "</s>"}, "tokenizer_class": "SiglipTokenizer", "model_max_length": 64}
        (directory / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    resample = 2 if second else 3
    square = {"height": SIDE, "width": SIDE}
    transformers.SiglipImageProcessorPil(size=square, resample=resample).save_pretrained(directory)
    return model


def write_naflex(directory: Path, most_patches: int = 18) -> Any:
    """Write google/siglip2-base-patch16-naflex's files at small size. Returns the Siglip2Model."""
    tokenizer = _siglip2_tokenizer()
    shared = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 72}
    config = transformers.Siglip2Config(
        text_config=shared
        | {"hidden_size": 32, "vocab_size": len(tokenizer), "max_position_embeddings": 64, "projection_size": 48},
        vision_config=shared | {"hidden_size": 48, "num_patches": 36, "patch_size": 8},
    )
    model = _random(transformers.Siglip2Model, config)
    with torch.no_grad():  # about those of the published models
        model.logit_scale.fill_(4.7)
        model.logit_bias.fill_(-16.5)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    processor = transformers.Siglip2ImageProcessorPil(patch_size=8, max_num_patches=most_patches)
    processor.save_pretrained(directory)
    return model


ACTIONS = ("Pushing something from left to right", "Opening something", "Dropping something", "Nothing moves", "Waving")


def write_vjepa2(directory: Path, **changes: Any) -> Any:
    """Write facebook/vjepa2-vitl-fpc16-256-ssv2's files at small size. Returns the VJEPA2ForVideoClassification."""
    config = transformers.VJEPA2Config(
        **{
            "patch_size": 8,
            "crop_size": SIDE,
            "frames_per_clip": 4,
            "hidden_size": 64,
            "num_attention_heads": 2,
            "num_hidden_layers": 2,
            "mlp_ratio": 2.5,
            "num_pooler_layers": 2,
            "pred_hidden_size": 24,
            "pred_num_attention_heads": 2,
            "pred_num_hidden_layers": 1,
            "id2label": dict(enumerate(ACTIONS)),
            "label2id": {label: number for number, label in enumerate(ACTIONS)},
        }
        | changes
    )
    model = _random(transformers.VJEPA2ForVideoClassification, config)
    model.save_pretrained(directory)
    processor = {
        "video_processor_type": "VJEPA2VideoProcessor",
        "size": {"shortest_edge": SIDE * 256 // 224},
        "crop_size": {"height": SIDE, "width": SIDE},
        "do_center_crop": True,
        "resample": 2,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
        "rescale_factor": 1 / 255,
    }
    (directory / "video_preprocessor_config.json").write_text(json.dumps(processor), encoding="utf-8")
    return model


def write_videoprism(directory: Path) -> Any:
    """Write google/videoprism-lvt-base-f16r288's files at small size. Returns the VideoPrismClipModel."""
    tokenizer = _videoprism_tokenizer()
    shared = {"hidden_size": 48, "intermediate_size": 96, "num_attention_heads": 2}
    config = transformers.VideoPrismConfig(
        text_config=shared | {"vocab_size": 130, "num_hidden_layers": 2, "max_position_embeddings": 64},
        vision_config=shared
        | {
            "image_size": SIDE,
            "num_frames": 4,
            "tubelet_size": [1, 8, 8],
            "num_spatial_layers": 2,
            "num_temporal_layers": 2,
            "num_auxiliary_layers": 1,
        },
    )
    model = _random(transformers.VideoPrismClipModel, config)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    processor = {
        "size": {"height": SIDE, "width": SIDE},
        "resample": 3,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    (directory / "video_preprocessor_config.json").write_text(json.dumps(processor), encoding="utf-8")
    return model


def write_xclip(directory: Path, **changes: Any) -> Any:
    """Write microsoft/xclip-base-patch32's files at small size. Returns the XCLIPModel."""
    tokenizer = _clip_tokenizer()
    shared = {"num_hidden_layers": 2, "num_attention_heads": 2}
    text = {"hidden_size": 32, "intermediate_size": 64, "vocab_size": len(tokenizer), "max_position_embeddings": 77}
    vision = {"hidden_size": 40, "intermediate_size": 72, "image_size": SIDE, "patch_size": 8, "num_frames": 4}
    joined = {"mit_hidden_size": 24, "mit_intermediate_size": 56, "mit_num_attention_heads": 2}
    config = transformers.XCLIPConfig(
        projection_dim=24,
        prompt_num_attention_heads=2,
        text_config=shared | text,
        vision_config=shared | vision | joined,
        **changes,
    )
    model = _random(transformers.XCLIPModel, config)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    processor = {  # as it was written in 2022
        "feature_extractor_type": "VideoMAEFeatureExtractor",
        "do_resize": True,
        "size": SIDE,
        "resample": 2,
        "do_center_crop": True,
        "do_normalize": True,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
    }
    (directory / "preprocessor_config.json").write_text(json.dumps(processor), encoding="utf-8")
    return model


PE_TRUNK = "vit_pe_core_small_for_tests"


def write_pe_core(directory: Path, class_token: bool = True, **text: int) -> dict[str, torch.Tensor]:
    """Write timm/PE-Core-B-16's files at small size, as open_clip's save_for_hf() does. Returns the state dict.

    The vision tower is PE_TRUNK: 2 layers of width 48, 2 heads, an MLP of 96, patches of 8 of 32 pixels.
    """
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer = _clip_tokenizer()
    text_cfg = {"context_length": 20, "vocab_size": len(tokenizer), "width": 32, "heads": 2, "layers": 2} | text
    vision_cfg = {
        "image_size": SIDE,
        "timm_model_name": PE_TRUNK,
        "timm_model_pretrained": False,
        "timm_pool": "map",
        "timm_proj": None,
    }
    config = {
        "model_cfg": {"embed_dim": 24, "vision_cfg": vision_cfg, "text_cfg": text_cfg, "custom_text": True},
        "preprocess_cfg": {
            "mean": [0.5, 0.5, 0.5],
            "std": [0.5, 0.5, 0.5],
            "interpolation": "bilinear",
            "resize_mode": "squash",
        },
    }
    state = perception_encoder.random_state(
        perception_encoder.Dimensions(48, 2, 96, 8, SIDE // 8, class_token),
        text_cfg["width"],
        text_cfg["layers"],
        text_cfg["vocab_size"],
        text_cfg["context_length"],
        24,
    )
    safetensors.torch.save_file(state, directory / "open_clip_model.safetensors")
    (directory / "open_clip_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    tokenizer.save_pretrained(directory)
    return state


def _videoprism_tokenizer() -> Any:
    """T5's pieces, without an end of the text."""
    trained = Tokenizer(models.Unigram())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()  # type: ignore[assignment]
    trainer = trainers.UnigramTrainer(
        vocab_size=120, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    trained.train_from_iterator(TEXTS, trainer)
    pieces = [(piece, score) for piece, score in json.loads(trained.to_str())["model"]["vocab"]]
    return transformers.VideoPrismTokenizer(vocab=pieces, extra_ids=2, model_max_length=64)


def _siglip2_tokenizer() -> Any:
    """Gemma's kind: pieces with a mark for spaces, bytes for what it does not know."""
    trained = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))  # type: ignore[arg-type]
    trained.normalizer = normalizers.Replace(" ", "\u2581")  # type: ignore[assignment]
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=special, show_progress=False)
    trained.train_from_iterator(TEXTS, trainer)
    model = json.loads(trained.to_str())["model"]
    return transformers.Siglip2Tokenizer(
        vocab=model["vocab"],
        merges=[tuple(pair) for pair in model["merges"]],
        add_bos_token=False,
        add_eos_token=True,
        padding_side="right",
        model_max_length=64,
    )


def _siglip_tokenizer() -> Tokenizer:
    """SentencePiece's kind, as its tokenizer.json has it."""
    trained = Tokenizer(models.Unigram())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()  # type: ignore[assignment]
    trainer = trainers.UnigramTrainer(
        vocab_size=120, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    trained.train_from_iterator(TEXTS, trainer)
    trained.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single="$A </s>", special_tokens=[("</s>", trained.token_to_id("</s>"))]
    )
    return trained


def _random(kind: Any, config: Any, seed: int = 0) -> Any:
    """Weights large enough for embeddings to differ from one another."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = kind(config)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.ndim > 1:
                    parameter.normal_(0, 0.15)
                elif name.endswith("bias"):
                    parameter.normal_(0, 0.05)
    return model.eval()


def _clip_tokenizer() -> Any:
    special = ["<|startoftext|>", "<|endoftext|>"]
    trained = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token="<|endoftext|>"))  # type: ignore[arg-type]
    trained.normalizer = normalizers.Lowercase()  # type: ignore[assignment]
    trained.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    trained.train_from_iterator(TEXTS, trainer)
    model = json.loads(trained.to_str())["model"]
    vocabulary = model["vocab"]
    for letter in pre_tokenizers.ByteLevel.alphabet():
        vocabulary.setdefault(f"{letter}</w>", len(vocabulary))
    merges = [tuple(pair) for pair in model["merges"]]
    # As in the published vocabularies, the last token is the end of a text: CLIP finds it by its number.
    tokens = [token for token in vocabulary if token not in special] + special
    vocabulary = {token: number for number, token in enumerate(tokens)}
    return transformers.CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=20)
