"""CPU time of a narrated minute beside a vision-language model of SmolVLM-256M's shape that captions every window.

python benchmarks/vlm.py      (random weights: how long it takes does not depend on what it says)

The other side gets one 512 x 512 frame a window, 64 image tokens, a short prompt, and writes as many tokens as nano's
decoder does for a text; greedy, with its key-value cache, fp32 in torch. Equal windows a second, not equal quality.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from common import ROOT, write
from transformers import SmolVLMConfig, SmolVLMForConditionalGeneration

from vlj_edge.bundle import nano_bundle
from vlj_edge.runtime.model import Model

DEMO = ROOT / "examples" / "media" / "demo.mp4"
IMAGE_TOKENS, PROMPT, REPEATS = 64, 20, 5


def smolvlm() -> SmolVLMForConditionalGeneration:
    """HuggingFaceTB/SmolVLM-256M-Instruct's config.json: SigLIP-B/16 at 512 pixels and SmolLM2-135M."""
    config = SmolVLMConfig(
        vision_config={
            "hidden_size": 768,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "intermediate_size": 3072,
            "image_size": 512,
            "patch_size": 16,
        },
        text_config={
            "model_type": "llama",
            "hidden_size": 576,
            "num_hidden_layers": 30,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "intermediate_size": 1536,
            "vocab_size": 49280,
            "pad_token_id": 2,
        },
        scale_factor=4,
        image_token_id=49190,
    )
    torch.manual_seed(0)
    return SmolVLMForConditionalGeneration(config).eval()


@torch.no_grad()
def cpu_seconds_a_caption(tokens: int) -> tuple[float, int]:
    """Median over the repeats, and the model's parameters."""
    model = smolvlm()
    ids = torch.full((1, IMAGE_TOKENS + PROMPT), 100)
    ids[0, 4 : 4 + IMAGE_TOKENS] = model.config.image_token_id
    given: dict[str, Any] = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values": torch.rand(1, 1, 3, 512, 512),
        "min_new_tokens": tokens,
        "max_new_tokens": tokens,
        "do_sample": False,
    }
    model.generate(**given)
    spent = []
    for _ in range(REPEATS):
        started = time.process_time()
        out = model.generate(**given)
        spent.append(time.process_time() - started)
        assert out.shape[1] == ids.shape[1] + tokens
    return float(np.median(spent)), sum(p.numel() for p in model.parameters())


def main() -> None:
    model = Model(nano_bundle())
    clip = model.manifest.clip
    a_minute = 60 * clip.frames_per_second / clip.stride
    ours = []
    for _ in range(REPEATS):
        started = time.process_time()
        run = model.narrate(DEMO)
        list(run)
        ours.append((time.process_time() - started) / run.totals.video_seconds * 60)
    tokens = round(run.totals.decoder_tokens / run.totals.decoder_runs)
    caption, parameters = cpu_seconds_a_caption(tokens)
    found = {
        "parameters": parameters,
        "tokens_a_caption": tokens,
        "windows_a_minute": a_minute,
        "cpu_seconds_a_caption": round(caption, 3),
        "cpu_seconds_a_minute": round(caption * a_minute, 2),
        "ours_cpu_seconds_a_minute": round(float(np.median(ours)), 3),
        "ratio": round(caption * a_minute / float(np.median(ours)), 1),
        "equivalence": "none: random weights, the same windows a second",
    }
    print(found)
    write("runtime.json", {"caption every window": found}, "the programs in benchmarks/")


if __name__ == "__main__":
    main()
