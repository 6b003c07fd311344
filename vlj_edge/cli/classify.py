"""vlj-edge classify: rank labels by how well they describe a source."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import VljEdgeError, without_credentials
from ..json_text import json_text
from ..text_list import texts_of_file
from .batch import each_video, hint_at_photos, stands_for_videos, videos_of
from .options import (
    REPEAT_AFTER,
    SOURCE,
    EngineOptions,
    NumberRange,
    bank_option,
    bundle_option,
    engine_options,
    gates_option,
    json_lines_option,
    label_query_option,
    load_model,
    template_option,
    top_option,
)
from .part_options import PartOptions, part_options
from .progress import progress
from .say import say, tell, tell_once

if TYPE_CHECKING:
    from vlj_edge.runtime.embedding.labels import LabelBank
    from vlj_edge.runtime.embedding.own_labels import OwnLabels
    from vlj_edge.runtime.model import Model
    from vlj_edge.runtime.stream.run import Run

    from ..bundle import LabelSettings
    from ..results import Classification, WindowEmbedding


@click.command(short_help="Rank labels by how well they describe a video or camera.", epilog=SOURCE)
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@click.option(
    "--labels",
    "label_list",
    help="Comma-separated labels, or a text file with one on each line; # begins a comment line.",
)
@bank_option
@template_option
@top_option
@click.option(
    "--none-below",
    type=NumberRange(-1, 1),
    help="Answer 'none of these' below this similarity; the bundle's if not given.",
)
@click.option("--stream", is_flag=True, help="Print the answer whenever it changes, not one for the whole source.")
@part_options
@bundle_option
@gates_option
@engine_options
@label_query_option
@json_lines_option
def classify(
    sources: tuple[str, ...],
    label_list: str | None,
    bank: Path | None,
    templates: tuple[str, ...],
    top: int,
    none_below: float | None,
    stream: bool,
    part: PartOptions,
    bundle: Path | None,
    gates: Path | None,
    engine_options: EngineOptions,
    query: str | None,
    as_json: bool,
) -> None:
    """Rank labels by how well they describe SOURCE: one answer for all of it, or with --stream one at every change.

    Of a camera, the answer is printed whenever it changes and once a minute, and that for all of it on Ctrl-C or after
    --duration. If several things happen in a video, its average resembles none of them: use --stream.

    The number beside a label is its probability. 'none of these' counts like one more label, whose cosine ('similarity'
    in --json) is --none-below: it is the answer if all labels have a lower one. The numbers add up to 1.

    A model that has labels of its own (a V-JEPA 2 classifier) ranks all of them without --labels, or those that are
    given. Then --none-below is the probability of the likeliest, and 'none of these' is shown where it is the answer.
    Without --labels, a bundle with captions ranks these.

    For several videos, or a folder, one line is printed for each video, with its answer.
    """
    from vlj_edge.runtime.embedding.labels import load_bank, read_labels
    from vlj_edge.runtime.embedding.own_labels import OwnLabels

    if label_list is not None and bank is not None:
        raise click.UsageError("give either --labels or --bank")
    if bank is not None and templates:
        raise click.UsageError("--template is for --labels: a bank keeps the wordings it was made with")
    labels = None if label_list is None else read_labels(label_list)
    several = len(sources) > 1 or stands_for_videos(sources[0])
    if several and stream:
        raise click.UsageError("--stream is for one source")
    videos = videos_of(sources) if several else []
    if not several:
        part.check(sources[0])
    with load_model(bundle, engine_options, gates=gates) as model:
        with texts_of_file(label_list or ""):
            label_bank = load_bank(bank, model) if bank is not None else _embedded(model, labels, templates)
        settings = model.manifest.labels
        if none_below is not None:
            settings = replace(settings, none_below=none_below)
            label_bank = replace(label_bank, none_below=none_below) if isinstance(label_bank, OwnLabels) else label_bank
        _warn_of_one_label(label_bank, settings)
        if not several and not stream:
            hint_at_photos(sources[0], part, f"vlj-edge classify {sources[0]}/* answers for each")
        job = _Job(model, label_bank, settings, query or settings.query or None, part, top, as_json)
        if several:
            each_video(videos, job.print_line)
        elif stream:
            job.print_changes(sources[0])
        else:
            job.print_answer(sources[0])


def _embedded(model: Model, labels: list[str] | None, templates: tuple[str, ...]) -> LabelBank | OwnLabels:
    from vlj_edge.runtime.embedding.own_labels import offered_labels

    from .labels import labels_shown

    if labels is None:
        _tell_of_captions(model)
    with labels_shown() as shown:
        return offered_labels(model, labels, templates or None, shown)


def _warn_of_one_label(bank: LabelBank | OwnLabels, settings: LabelSettings) -> None:
    from vlj_edge.runtime.embedding.labels import LabelBank

    if len(bank.labels) == 1 and isinstance(bank, LabelBank) and settings.none_below <= -1:
        tell("warning: one label is always the answer: name what else may be seen, or say --none-below")


def _tell_of_captions(model: Model) -> None:
    """Say which labels are meant where none are named, and how to be quicker next time.

    Raises:
        WrongCall: the bundle brings no texts.
    """
    from ..bundle import nano_bundle
    from ..errors import WrongCall

    named = "" if model.directory == nano_bundle() else f" --bundle {model.directory}"
    if model.manifest.captions is not None:
        tell(
            f"the labels are the captions of {model.directory}, which are embedded first: to do that once, vlj-edge"
            f" labels{named} --out bank.npz, and then --bank bank.npz; or name --labels"
        )
    elif model.manifest.label_head is None:
        raise WrongCall(
            f"{model.directory} has no labels or captions of its own: give either --labels or --bank, as --labels"
            " 'a dog,a cat'"
        )


@dataclass(frozen=True)
class _Job:
    """The arguments that are the same for every source."""

    model: Model
    bank: LabelBank | OwnLabels
    settings: LabelSettings
    query: str | None
    part: PartOptions
    top: int
    as_json: bool

    @property
    def _none_below(self) -> float:
        return getattr(self.bank, "none_below", self.settings.none_below)

    @contextmanager
    def _embeddings(self, uri: str) -> Iterator[Run[WindowEmbedding]]:
        with self.part.open(uri, self.model.manifest.clip) as source:
            run = self.model.embed(source, query=self.query)
            with run:
                tell_once(self.settings.caveat)
                with progress(run, source):
                    yield run

    def print_answer(self, uri: str) -> None:
        """Print one answer for a whole source, or for the part until Ctrl-C; for a live source also each change.

        Raises:
            VljEdgeError: no window was seen.
        """
        from vlj_edge.runtime.embedding.classify import classified
        from vlj_edge.runtime.embedding.running_mean import RunningMean

        from .interrupts import finishing

        whole, shown = RunningMean(), without_credentials(uri)

        def print_whole() -> None:
            span = whole.span()
            if span is not None:
                answer = classified(span, self.bank, self.settings, self.top)
                lines = [self._json(shown, answer)] if self.as_json else _answer(answer, self._none_below)
                for line in lines:
                    say(line)

        with self._embeddings(uri) as run, finishing(print_whole):
            if run.live:
                self._print_each(shown, whole.of(run), REPEAT_AFTER)
            else:
                deque(whole.of(run), maxlen=0)
        if not whole.count:
            raise VljEdgeError(f"{shown} has no window to look at: give a longer video")

    def print_changes(self, uri: str) -> None:
        """Print an answer whenever it changes.

        Raises:
            VljEdgeError: there was none.
        """
        with self._embeddings(uri) as run:
            printed = self._print_each(without_credentials(uri), run, REPEAT_AFTER if run.live else float("inf"))
        if not printed:
            raise VljEdgeError(f"{without_credentials(uri)} shows no label for two windows: leave --stream out")

    def _print_each(self, shown: str, items: Iterable[WindowEmbedding], every: float) -> int:
        """Print an answer whenever it changes, and after `every` seconds; return how many."""
        from vlj_edge.runtime.embedding.classify import watch

        from .interrupts import interrupts_deferred

        printed = 0
        for answer in watch(items, self.bank, self.settings, self.top, every=every):
            with interrupts_deferred():
                say(self._json(shown, answer) if self.as_json else _change(answer))
            printed += 1
        return printed

    def print_line(self, video: Path) -> None:
        """Print the answer for one of several videos, with its path."""
        from vlj_edge.runtime.embedding.classify import classify

        from .interrupts import until_broken

        with self._embeddings(str(video)) as items:
            for answer in until_broken(lambda: [classify(items, self.bank, self.settings, self.top)]):
                line = f"{video}  {answer.label or 'none of these'}  {answer.score:.2f}"
                say(self._json(str(video), answer) if self.as_json else line)

    @staticmethod
    def _json(source: str, answer: Classification) -> str:
        fields = {"source": source, "clock": time.time()} | answer.as_dict()
        return json_text(fields)


def _change(answer: Classification) -> str:
    return f"{(answer.start + answer.end) / 2:6.1f} s  {answer.label or 'none of these'}  ({answer.score:.2f})"


def _answer(answer: Classification, none_below: float) -> list[str]:
    """Return a line for each label and, unless there is no such answer, for none of them, likeliest first."""
    lines = [f"{guess.score:.2f}  {guess.label}" for guess in answer.guesses]
    if none_below > -1 and answer.none_score > 0:
        why = f" (similarity {answer.guesses[0].similarity:.2f} is below {none_below:.2f})" if not answer.label else ""
        rank = sum(guess.similarity >= none_below for guess in answer.guesses)
        lines.insert(rank, f"{answer.none_score:.2f}  none of these{why}")
    return lines
