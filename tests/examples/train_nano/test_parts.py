"""The parts of training: captions, clip labels, the loss, the score."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

# The modules are programs in a folder of their own; conftest.py puts it on the path.
from batches import Batch
from clips import ACT, APPROACH, HELD, SHORTEST, STILL, Episode, clip_label, timeline
from features import HOLDS, episode_pixels
from loop import learning_rate
from narration_score import score
from tasks import OPPOSITES, TASKS, meanings, phase_texts
from texts import Texts, train_tokenizer, whitening
from train import contrastive_loss

from vlj_edge.presets import preset
from vlj_edge.results import Narration


def test_there_are_50_tasks_and_each_says_something_of_its_own() -> None:
    assert len(TASKS) == 50
    captions = [caption for task in TASKS.values() for caption in task.captions]
    assert len(set(captions)) == len(captions), "one wording would mean two tasks"
    for task in TASKS:
        assert phase_texts(task, ACT)
        assert phase_texts(task, STILL)


def test_opposites_are_pairs_of_tasks() -> None:
    assert len(OPPOSITES) >= 7
    for pair in OPPOSITES:
        assert len(set(pair)) == 2 and set(pair) <= TASKS.keys()


def test_every_caption_fits_the_engines() -> None:
    nano = preset("nano")
    tokenizer = train_tokenizer(nano.decoder.vocabulary)
    assert tokenizer.get_vocab_size() <= nano.decoder.vocabulary
    assert tokenizer.token_to_id("<eos>") == nano.decoder_end
    for text in (text for group in meanings() for text in group):
        ids = tokenizer.encode(text).ids
        assert len(ids) < nano.decoder_tokens
        assert tokenizer.decode(ids) == text


@pytest.mark.parametrize(
    ("phases", "label"),
    [([ACT] * 8, ACT), ([APPROACH] * 5 + [ACT] * 3, APPROACH), ([STILL] * 4 + [ACT] * 4, None)],
)
def test_a_clip_is_called_after_the_phase_of_most_of_its_frames(phases: list[int], label: int | None) -> None:
    assert clip_label(np.array(phases, np.uint8)) == label


def test_a_pause_holds_takes_of_its_frame_and_is_stillness_when_it_is_long() -> None:
    # Every stored row is the number of the frame that it shows.
    pictures = np.broadcast_to(np.arange(20, dtype=np.uint8)[:, None, None, None] * 10, (20, 96, 96, 3))
    pixels, pause = episode_pixels(pictures, "val", seed=3, copy=0)
    shown = (pixels.mean(axis=(1, 2, 3)) / 10).round().astype(int)
    phases = np.array([APPROACH] * 10 + [ACT] * 10, np.uint8)
    episode = Episode("door-open", 0, "training", 120.0, -30.0, shown, HOLDS, pause, phases, phases > 9, np.zeros(0))
    lengths = set()
    for seed in range(60):
        rows, frames, labels = timeline(episode, np.random.default_rng(seed), paused=1.0)
        assert (shown[rows] == frames).all(), "a held picture is a take of its own frame"
        inside = slice(HELD, -HELD)
        pauses = len(rows) - 2 * HELD - 20
        lengths.add(pauses)
        held = labels[inside][pause + 1 : pause + 1 + pauses]
        assert (held == (STILL if pauses >= SHORTEST else phases[pause])).all()
        assert (frames[inside][pause : pause + 1 + pauses] == pause).all()
        assert (np.delete(labels[inside], np.s_[pause + 1 : pause + 1 + pauses]) == phases).all()
    assert min(lengths) < SHORTEST < max(lengths)
    rows, frames, labels = timeline(episode, np.random.default_rng(0))
    assert len(rows) == len(labels) == 20 + 2 * HELD, "no pause unless asked for"


def test_wordings_of_one_meaning_do_not_push_each_other_away() -> None:
    torch.manual_seed(0)
    texts = Texts(["a", "b", "c"], np.array([0, 0, 1]), np.array([0, 2]), torch.zeros(3, 4))
    captions = F.normalize(torch.randn(3, 4), dim=-1)
    batch = Batch(torch.empty(0), torch.empty(0), torch.empty(0), torch.tensor([0, 1]))
    predicted = F.normalize(torch.randn(2, 4), dim=-1)
    scale = torch.tensor(10.0)
    found = contrastive_loss(predicted, captions, batch, texts, scale)
    # Each clip has one negative caption ("c"), and each caption no negative clip at all.
    logits = scale * predicted @ captions.T
    own = logits[[0, 1], [0, 1]]
    expected = (torch.stack((own, logits[:, 2])).logsumexp(0) - own).mean() / 2
    assert torch.allclose(found, expected, atol=1e-5)


def test_whitening_spreads_what_lies_close_together() -> None:
    rng = torch.Generator().manual_seed(0)
    common = torch.randn(16, generator=rng)
    raw = common + 0.2 * torch.randn(40, 16, generator=rng)
    weight, bias = whitening(raw)
    before = F.normalize(raw, dim=-1) @ F.normalize(raw, dim=-1).T
    spread = F.normalize(raw @ weight.T + bias, dim=-1)
    assert before.mean() > 0.8
    assert (spread @ spread.T).mean() < 0.1


def test_the_learning_rate_warms_up_and_ends_annealed() -> None:
    rates = [learning_rate(step / 1000) for step in range(1001)]
    assert rates[0] < 0.05 and max(rates) == pytest.approx(1, abs=0.01) and rates[-1] == pytest.approx(0.01)
    assert all(math.isfinite(rate) for rate in rates)


def say(start: float, text: str) -> Narration:
    return Narration(start, start + 2, text, "decoder")


def test_the_score_of_a_narration_counts_texts_and_time() -> None:
    events = [
        {"start": 0.0, "end": 4.0, "captions": ["rest", "nothing"]},
        {"start": 4.0, "end": 10.0, "captions": ["push"]},
    ]
    perfect = score(events, [say(-1, "nothing"), say(3, "push")])
    assert perfect == {"texts": 2, "texts_true": 1.0, "seconds_true": 1.0}
    late = score(events, [say(-1, "rest"), say(6, "push")])
    assert late["texts_true"] == 1.0
    assert late["seconds_true"] == pytest.approx(0.7), "3 of 10 seconds pass under the old text"
    assert score(events, [say(-1, "push")]) == {"texts": 1, "texts_true": 0.0, "seconds_true": 0.6}
    assert score(events, [])["seconds_true"] == 0.0
