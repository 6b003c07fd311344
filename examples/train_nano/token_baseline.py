"""A small version of the paper's controlled comparison: same encoder, clips, questions and steps, predicting tokens.

A common vision-language model: bidirectional attention over visual tokens and the question, then the answer, token by
token. It has as many layers as nano's predictor and decoder together, so both models have equally many parameters.
Both are scored on the same clips: the text, and the likeliest of the 50 task captions.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
import torch.nn.functional as F
from batches import encode_queries, make_batch
from checkpoint import load_model, save_model
from clips import ACT, Clip, Sampler, clips_of, load_episodes
from config import CONTROLLED, read_config
from evaluate import NAMES, Scorer, meaning_of
from figures import interval
from generate import generate, greedy
from loop import DEVICE, console, fit, keep_some, mixed_precision
from provenance import add_to, provenance
from tasks import DESCRIBE_QUERIES, TASK_QUERIES, TASKS
from texts import SPECIAL, Texts, load_texts, pad, train_tokenizer
from torch import Tensor, nn
from train import load_stem

from vlj_edge.bundle import seal
from vlj_edge.export.models import VLJepa, rope
from vlj_edge.export.models.llama import Block, RMSNorm, masked_attention
from vlj_edge.export.weights.locations import MODEL_FILE
from vlj_edge.presets import Preset
from vlj_edge.presets import preset as find_preset
from vlj_edge.runtime.evaluation.cider import Cider

BOS = SPECIAL.index("<bos>")
CLIPS_AT_ONCE = 4  # scored against all captions


class TokenModel(nn.Module):
    """Llama layers over [visual tokens; question; <bos> answer], with causal attention in the answer only."""

    cos: Tensor
    sin: Tensor

    def __init__(self, preset: Preset) -> None:
        super().__init__()
        self.preset = preset
        parts = VLJepa(preset)
        self.vision_encoder = parts.vision_encoder
        self.config = config = replace(preset.predictor, layers=preset.predictor.layers + preset.decoder.layers)
        self.vis_proj = nn.Linear(preset.vision.width, config.width)
        self.embed_tokens = nn.Embedding(config.vocabulary, config.width)
        nn.init.normal_(self.embed_tokens.weight, std=0.02)  # tied to the logits: at std 1 the first loss is huge
        self.layers = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.width, eps=config.norm_eps)
        longest = len(parts.vision_encoder.cos) + preset.query_tokens + preset.decoder_tokens
        cos, sin = rope.llama_tables(config, longest)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, visual: Tensor, query_ids: Tensor, query_mask: Tensor, answer: Tensor) -> Tensor:
        """Visual tokens (b, n, width), question (b, q) and answer so far (b, a) -> logits (b, a + 1, vocabulary)."""
        answer = F.pad(answer, (1, 0), value=BOS)
        x = torch.cat((self.vis_proj(visual), self.embed_tokens(query_ids), self.embed_tokens(answer)), dim=1)
        before = torch.cat((torch.ones_like(visual[..., 0], dtype=torch.bool), query_mask), dim=1)
        start, n = before.shape[1], x.shape[1]
        mask = F.pad(before, (0, n - start))[:, None, None, :].repeat(1, 1, n, 1)
        mask[:, :, start:, start:] = torch.ones(n - start, n - start, dtype=torch.bool).tril()
        attend = masked_attention(self.config, mask)
        for layer in self.layers:
            x = layer(x, self.cos[:, :n], self.sin[:, :n], attend)
        return self.norm(x[:, start:]) @ self.embed_tokens.weight.T

    def encode(self, features: Tensor, kept: Tensor | None = None) -> Tensor:
        return self.vision_encoder.encode(features, kept)


def train_tokens(model: TokenModel, texts: Texts, sampler: Sampler, tokenizer, out: Path, config) -> None:
    """Train on next-token loss, with the same batches and random seeds as VL-JEPA's first stage."""
    queries, end = encode_queries(tokenizer), model.preset.decoder_end
    coded = [[*tokenizer.encode(text).ids, end] for text in texts.wordings]
    ids, real = (part.to(DEVICE) for part in pad(coded, model.preset.decoder_tokens, end))

    def step_loss(progress: float, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        batch = make_batch(sampler.batch(config.batch, rng), texts, queries, model.preset, rng).to(DEVICE)
        longest, longest_answer = int(batch.query_mask.sum(1).max()), int(real[batch.texts].sum(1).max())
        targets, counts = ids[batch.texts][:, :longest_answer], real[batch.texts][:, :longest_answer]
        with mixed_precision(config):
            visual = model.encode(batch.features, keep_some(len(model.vision_encoder.cos), config.batch, progress))
            visual_twice = visual.repeat_interleave(2, dim=0)
            logits = model(visual_twice, batch.query_ids[:, :longest], batch.query_mask[:, :longest], targets[:, :-1])
        correct = (logits.argmax(-1) == targets)[counts].float().mean().item()
        return F.cross_entropy(logits[counts].float(), targets[counts]), {"token_right": correct}

    fit(model, config, out, step_loss)


@torch.inference_mode()
def decode_answers(model: TokenModel, features: Tensor, query: list[int], tokenizer) -> list[str]:
    """Return a greedy answer to one question about each clip."""
    visual = model.encode(features)
    ids, mask = pad([query] * len(visual), len(query), 0)
    return greedy(partial(model, visual, ids, mask), len(visual), model.preset, tokenizer)


@torch.inference_mode()
def most_likely(model: TokenModel, features: Tensor, query: list[int], captions: list[list[int]]) -> np.ndarray:
    """Return for each clip the index of the caption with the highest likelihood per token, int (n,)."""
    end, best = model.preset.decoder_end, []
    caption_ids, real = pad([[*caption, end] for caption in captions], model.preset.decoder_tokens, end)
    longest = int(real.sum(1).max())
    caption_ids, real = caption_ids[:, :longest], real[:, :longest]
    for part in features.split(CLIPS_AT_ONCE):
        visual = model.encode(part).repeat_interleave(len(captions), dim=0)
        ids, mask = pad([query] * len(visual), len(query), 0)
        targets = caption_ids.repeat(len(part), 1)
        logits = model(visual, ids, mask, targets[:, :-1]).flatten(0, 1)
        losses = F.cross_entropy(logits, targets.flatten(), reduction="none").view(len(part), len(captions), longest)
        per_token = -(losses * real).sum(-1) / real.sum(-1)
        best.append(per_token.argmax(1))
    return torch.cat(best).numpy()


def middle_acts(features: Path, split: str) -> list[Clip]:
    """Return the middle act clip of each episode whose camera is inside the training range."""
    rng, chosen = np.random.default_rng(0), []
    for episode in load_episodes(features, split):
        acts = [clip for clip in clips_of(episode, 1, rng) if clip.phase == ACT]
        if acts and episode.zone != "outside":
            chosen.append(acts[len(acts) // 2])
    return chosen


def score(clips: list[Clip], decoded: list[str], nearest: np.ndarray, texts: Texts) -> dict[str, Any]:
    """Score a model's texts and nearest tasks against the annotations."""
    tasks = np.array([NAMES.index(clip.task) for clip in clips])
    cider = Cider([TASKS[clip.task].captions for clip in clips])
    meanings = [texts.meaning[texts.index[text]] if text in texts.index else -1 for text in decoded]
    truth = [meaning_of(texts, task, ACT) for task in tasks]
    return {
        "cider": interval(np.array([cider.score(i, text) for i, text in enumerate(decoded)])),
        "right_meaning": interval(np.array(meanings) == np.array(truth)),
        "task_top1": interval(nearest == tasks),
    }


@torch.inference_mode()
def score_embedding(scorer: Scorer, clips: list[Clip], features: Tensor) -> dict[str, Any]:
    """Score nano on the same clips: its decoder's texts and the nearest task captions."""
    visual = scorer.model.vision_encoder.encode(features)
    decoded = generate(
        scorer.model, scorer.predict(visual, [DESCRIBE_QUERIES[0]] * len(clips)), scorer.decoder_tokenizer
    )
    labels = scorer.embed_texts([TASKS[name].captions[0] for name in NAMES])
    nearest = (scorer.predict(visual, [TASK_QUERIES[0]] * len(clips)) @ labels.T).argmax(1).numpy()
    return score(clips, decoded, nearest, scorer.texts)


def parameters(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for name, p in module.named_parameters() if "stem." not in name)


@click.command()
@click.option("--features", type=click.Path(path_type=Path), default=Path("data/nano-features"), show_default=True)
@click.option("--weights", type=click.Path(path_type=Path), default=Path("data/nano-controlled"), show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("data/nano-tokens"), show_default=True)
@click.option(
    "--config", "config_file", type=click.Path(path_type=Path, exists=True), default=CONTROLLED, show_default=True
)
@click.option("--threads", default=None, type=int, help="torch threads; all cores when not given.")
@click.option("--report", type=click.Path(path_type=Path), default=None, help="The JSON to add the comparison to.")
def main(features: Path, weights: Path, out: Path, config_file: Path, threads: int | None, report: Path | None) -> None:
    """Train the baseline and compare it on test clips with weights that train.py made with the same config. Resumes."""
    config, preset = read_config(config_file), find_preset("nano")
    torch.manual_seed(config.seed)
    if threads:
        torch.set_num_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    texts, tokenizer = load_texts(preset), train_tokenizer(preset.predictor.vocabulary)
    model = TokenModel(preset)
    load_stem(model)
    if not load_model(out, model):
        train_tokens(model.to(DEVICE), texts, Sampler(load_episodes(features, "train")), tokenizer, out, config)
        save_model(out, model)
    model.cpu().eval()
    clips = middle_acts(features, "test")
    pictures = torch.from_numpy(np.stack([clip.features for clip in clips])).float()
    queries = encode_queries(tokenizer)
    captions = [tokenizer.encode(TASKS[name].captions[0]).ids for name in NAMES]
    decoded = [
        text
        for part in pictures.split(64)
        for text in decode_answers(model, part, queries[DESCRIBE_QUERIES[0]], tokenizer)
    ]
    nearest = most_likely(model, pictures, queries[TASK_QUERIES[0]], captions)
    scorer = Scorer(weights)
    nano = scorer.model
    found = provenance("python token_baseline.py --report ../../results/nano-eval.json") | {
        "weights": seal(weights / MODEL_FILE).sha256,
        "steps": config.steps,
        "clips": config.steps * config.batch,
        "tokens": {"parameters": parameters(model)} | score(clips, decoded, nearest, texts),
        "embedding": {"parameters": parameters(nano.vision_encoder, nano.predictor, nano.decoder)}
        | score_embedding(scorer, clips, pictures),
    }
    console.print(found)
    if report:
        add_to(report, {"token_baseline": found})


if __name__ == "__main__":
    main()
