"""CPU time of a narrated minute, compared with a vision-language model that captions every window.

python benchmarks/vlm.py      (random weights: its speed does not depend on its text)

That model has the dimensions of SmolVLM-256M. It gets one 512 x 512 frame a window (64 image tokens) and a short
prompt, and writes as many tokens as nano's decoder does for a text: greedy, with a key-value cache, fp32 in torch. Both
sides see as many windows a second; their quality is not compared.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from common import ROOT, write
from transformers import SmolVLMConfig, SmolVLMForConditionalGeneration

import vlj_edge

DEMO = ROOT / "examples" / "media" / "demo.mp4"
IMAGE_TOKENS, PROMPT_TOKENS, REPEATS = 64, 20, 5


def smolvlm() -> SmolVLMForConditionalGeneration:
    """Return a random model with the config.json of HuggingFaceTB/SmolVLM-256M-Instruct."""
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
    """Return the median CPU seconds of a caption of so many tokens, and the number of the model's parameters."""
    model = smolvlm()
    ids = torch.full((1, IMAGE_TOKENS + PROMPT_TOKENS), 100)
    ids[0, 4 : 4 + IMAGE_TOKENS] = model.config.image_token_id
    request: dict[str, Any] = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values": torch.rand(1, 1, 3, 512, 512),
        "min_new_tokens": tokens,
        "max_new_tokens": tokens,
        "do_sample": False,
    }
    model.generate(**request)
    spent = []
    for _ in range(REPEATS):
        started = time.process_time()
        out = model.generate(**request)
        spent.append(time.process_time() - started)
        assert out.shape[1] == ids.shape[1] + tokens
    return float(np.median(spent)), sum(p.numel() for p in model.parameters())


def main() -> None:
    model = vlj_edge.load()
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
