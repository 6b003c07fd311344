"""A text decoder for a checkpoint that has none: SmolLM2 learns to say what an embedding means, from text alone.

python train.py TEXTS --bundle BUNDLE --out DIR, then vlj-edge export ... --decoder DIR

Each line of TEXTS goes through the bundle's text encoder, noise bridges the gap to the embeddings that the predictor
makes of clips, and a projection to one prefix token is trained, with low-rank changes of the attention's weights.
Videos without any text (--clips) show what that gap looks like; without them the noise has no direction.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import track
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import parametrize

import vlj_edge
from vlj_edge.errors import VljEdgeError
from vlj_edge.export.models.decoder import Decoder
from vlj_edge.export.weights.causal_llama import CausalLlama
from vlj_edge.export.weights.decoders import packaged_smollm2, read_causal_llama
from vlj_edge.presets import preset

console = Console(stderr=True)
ADAPTED = ("q_proj", "v_proj", "o_proj")
SHARPNESS = 10.0  # of the softmax over cosines that says what resembles a text
LARGEST_SHARE = 0.3  # of another text in a mixture
SPREAD = 0.3  # of random noise beside a clip's gap: a few minutes of video do not show every direction
VIDEOS = {".mp4", ".avi", ".mkv", ".mov", ".webm"}


class LowRank(nn.Module):
    """A weight plus a product of two thin matrices, which begins as nothing (LoRA, arXiv 2106.09685)."""

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.randn(rank, weight.shape[1]) / weight.shape[1] ** 0.5)
        self.up = nn.Parameter(torch.zeros(weight.shape[0], rank))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.up @ self.down


def embed_texts(bundle: Path, texts: list[str]) -> Tensor:
    """float32 (texts, embedding), by the bundle's text encoder."""
    model = vlj_edge.load(bundle)
    shown = track(texts, "texts", console=console, disable=not console.is_terminal)
    return torch.from_numpy(np.stack([model.embed_text(text) for text in shown]))


def embed_clips(bundle: Path, clips: Path) -> Tensor:
    """Return the embeddings of all windows of the videos in a folder, float32 (windows, embedding). They need no
    texts."""
    model = vlj_edge.load(bundle)
    videos = sorted(path for path in clips.iterdir() if path.suffix.lower() in VIDEOS)
    if not videos:
        raise VljEdgeError(f"no video in {clips}: name a folder of {', '.join(sorted(VIDEOS))} files")
    shown = track(videos, "clips", console=console, disable=not console.is_terminal)
    return torch.from_numpy(np.stack([seen.embedding for video in shown for seen in model.embed(video)]))


def make_decoder(llama: CausalLlama, embedding: int, rank: int) -> Decoder:
    """Return the pretrained decoder; only its prefix is trained and, with a rank, low-rank changes of the attention."""
    decoder = Decoder(replace(preset("vl-jepa-1.6b"), embedding=embedding, decoder=llama.config))
    decoder.load_state_dict(llama.state, strict=False)  # all but prefix_proj, which keeps its random start
    with torch.no_grad():  # a unit embedding should become as long as a token's
        length = decoder.embed_tokens.weight.norm(dim=-1).mean()
        decoder.prefix_proj.weight.mul_(length / decoder.prefix_proj.weight.norm(dim=1).mean() / embedding**0.5)
    decoder.requires_grad_(False)
    decoder.prefix_proj.requires_grad_(True)
    for layer in decoder.layers if rank else ():
        for name in ADAPTED:
            linear = getattr(layer.self_attn, name)
            parametrize.register_parametrization(linear, "weight", LowRank(linear.weight, rank))
    return decoder


def token_rows(llama: CausalLlama, texts: list[str], longest: int) -> tuple[Tensor, Tensor]:
    """Return token ids with end and padding, int64 (texts, n), and the bool mask of tokens that count in the loss."""
    rows = [[*llama.tokenizer.encode(text, add_special_tokens=False).ids[: longest - 1], llama.end] for text in texts]
    width = max(map(len, rows))
    ids = torch.tensor([row + [llama.end] * (width - len(row)) for row in rows])
    return ids, torch.arange(width) < torch.tensor([[len(row)] for row in rows])


def gaps(seen: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
    """Return the difference between the embedding of each clip and that of its nearest text, and that text.

    The difference is float32 (windows, embedding), relative to the part along the text; the text's index int64
    (windows,).
    """
    along, nearest = (seen @ texts.T).max(dim=-1)
    along = along.clamp(min=0.3)[:, None]  # otherwise a clip that no text describes would give a huge difference
    return seen / along - texts[nearest], nearest


def bridged(
    chosen: Tensor, texts: Tensor, gap: tuple[Tensor, Tensor] | None, most: float, generator: torch.Generator
) -> Tensor:
    """Return the embeddings of the chosen texts as a predictor might give them: unit vectors (chosen, embedding).

    A predictor in doubt gives a mean of several texts, so each is mixed with a similar one. Then a predictor's own
    deviation is added: the difference of a clip whose text is similar, otherwise a random direction.
    """
    count, own = len(chosen), texts[chosen]
    likeness = (SHARPNESS * own @ texts.T).scatter(1, chosen[:, None], -torch.inf)
    other = texts[torch.multinomial(F.softmax(likeness, dim=-1), 1, generator=generator)[:, 0]]
    share = LARGEST_SHARE * torch.rand(count, 1, generator=generator)
    noise = F.normalize(torch.randn(own.shape, generator=generator), dim=-1)
    if gap is not None:
        beside, nearest = gap
        # Each text that a clip was nearest to counts once: a stream rests most of the time, and a rest's gap beside
        # every text would teach the decoder to overlook rests.
        clips_a_text = torch.bincount(nearest, minlength=len(texts))[nearest]
        likeness = F.softmax(SHARPNESS * own @ texts[nearest].T - clips_a_text.log(), dim=-1)
        noise = beside[torch.multinomial(likeness, 1, generator=generator)[:, 0]] + SPREAD * noise
    amount = most * torch.rand(count, 1, generator=generator).sqrt()  # more often far than near
    amount[: count // 8] = 0  # texts themselves stay readable
    return F.normalize(F.normalize((1 - share) * own + share * other, dim=-1) + amount * noise, dim=-1)


def fit(
    decoder: Decoder,
    texts: Tensor,
    gap: tuple[Tensor, Tensor] | None,
    rows: tuple[Tensor, Tensor],
    steps: int,
    batch: int,
    rate: float,
    noise: float,
) -> None:
    """Next-token loss of each text under embeddings like those that a predictor would give for it."""
    ids, mask = rows
    generator = torch.Generator().manual_seed(0)
    parameters = [p for p in decoder.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.98), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.05)
    shown = time.monotonic()
    for step in range(steps):
        chosen = torch.randint(len(ids), (batch,), generator=generator)
        with torch.autocast("cpu", torch.bfloat16):
            logits = decoder(bridged(chosen, texts, gap, noise, generator), ids[chosen][:, :-1])
        loss = F.cross_entropy(logits[mask[chosen]], ids[chosen][mask[chosen]])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        if time.monotonic() - shown > 15 or step == steps - 1:
            console.print(f"step {step + 1} of {steps}, loss {loss.item():.4f}", highlight=False)
            shown = time.monotonic()


def write(decoder: Decoder, llama: CausalLlama, out: Path) -> None:
    """A transformers directory with prefix.safetensors beside it, which is what --decoder takes."""
    for module in decoder.modules():
        if parametrize.is_parametrized(module):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
    out.mkdir(parents=True, exist_ok=True)
    state = {key: value.contiguous() for key, value in decoder.state_dict().items()}
    prefix = {key: state.pop(key) for key in list(state) if key.startswith("prefix_proj.")}
    save_file(prefix, out / "prefix.safetensors")
    save_file({f"model.{key}": value.half() for key, value in state.items()}, out / "model.safetensors")
    llama.tokenizer.save(str(out / "tokenizer.json"))
    config, scaling = llama.config, llama.config.rope_scaling
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": config.rope_theta}
    if scaling is not None:
        rope |= {"rope_type": "llama3", "factor": scaling.factor, "low_freq_factor": scaling.low}
        rope |= {
            "high_freq_factor": scaling.high,
            "original_max_position_embeddings": scaling.original_context,
        }
    settings = {
        "model_type": "llama",
        "vocab_size": config.vocabulary,
        "hidden_size": config.width,
        "intermediate_size": config.mlp,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "rms_norm_eps": config.norm_eps,
        "rope_parameters": rope,
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "eos_token_id": llama.end,
    }
    (out / "config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


@click.command()
@click.argument("texts", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--bundle", type=click.Path(path_type=Path), help="Whose embeddings to read; nano when not named.")
@click.option("--clips", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Videos without texts.")
@click.option("--base", type=click.Path(path_type=Path), help="A causal Llama; the packaged SmolLM2-135M if not named.")
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--steps", default=400, show_default=True)
@click.option("--batch", default=48, show_default=True)
@click.option("--rank", default=16, show_default=True, help="Of the low-rank changes; 0 trains the prefix alone.")
@click.option("--rate", default=2e-3, show_default=True)
@click.option("--noise", default=1.1, show_default=True, help="At most, in lengths of the gap; without --clips, of 1.")
def main(
    texts: Path, bundle: Path | None, clips: Path | None, base: Path | None, out: Path, steps: int, batch: int,
    rank: int, rate: float, noise: float
) -> None:  # fmt: skip
    """Train a decoder on the lines of TEXTS."""
    torch.manual_seed(0)
    lines = list(dict.fromkeys(line.strip() for line in texts.read_text(encoding="utf-8").splitlines() if line.strip()))
    if len(lines) < 2:
        raise VljEdgeError(f"{texts} has {len(lines)} texts: there is nothing to tell apart; name a file with more")
    llama = read_causal_llama(base or packaged_smollm2())
    bundle = bundle or vlj_edge.bundle.nano_bundle()
    embeddings = embed_texts(bundle, lines)
    gap = gaps(embed_clips(bundle, clips), embeddings) if clips else None
    decoder = make_decoder(llama, embeddings.shape[1], rank)
    ids, mask = token_rows(llama, lines, decoder.capacity)
    console.print(f"{len(lines)} texts of at most {ids.shape[1]} tokens")
    fit(decoder, embeddings, gap, (ids, mask), steps, batch, rate, noise)
    write(decoder, llama, out)
    console.print(f"{out}: next, vlj-edge export --decoder {out}")


if __name__ == "__main__":
    try:
        main()
    except VljEdgeError as error:
        raise SystemExit(f"error: {error}") from None
