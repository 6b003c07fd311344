"""vlj-edge eval: how well a model does on somebody's own videos."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import VljEdgeError, errors_at
from ..json_text import json_text
from .options import EngineOptions, bundle_option, engine_options, load_model, open_model
from .outputs import output_file, write_whole
from .progress import steps
from .say import say, tell

if TYPE_CHECKING:
    from vlj_edge.runtime.evaluation.data import Clip, Data
    from vlj_edge.runtime.evaluation.embed import TextEmbeddings, Vectors
    from vlj_edge.runtime.evaluation.evaluation import Evaluation
    from vlj_edge.runtime.evaluation.narration import Said
    from vlj_edge.runtime.model import Model


@click.command(name="eval", short_help="Measure how well a model does on your own videos.")
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--against", multiple=True, type=click.Path(path_type=Path), help="Another bundle, to compare with.")
@click.option("--videos", type=click.Path(path_type=Path), help="Folder of the videos of a published file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--md", "markdown", type=output_file, help="Write the tables to this file, as Markdown.")
@click.option("--html", type=output_file, help="Write the figures, with pictures of mistakes, to this file.")
@bundle_option
@engine_options
def evaluate(
    data: Path,
    against: tuple[Path, ...],
    videos: Path | None,
    as_json: bool,
    markdown: Path | None,
    html: Path | None,
    bundle: Path | None,
    engine_options: EngineOptions,
) -> None:
    """Measure how well a model does on DATA: a folder with one folder of videos a class, or a .csv, .tsv or .jsonl file
    with the columns video, start, end, text, question, choices, answer; or an annotation file of MSR-VTT,
    Something-Something v2, Kinetics or Ego-Exo4D, with its videos in --videos or beside it.

    Printed are zero-shot classification (top-1, top-5) where texts are classes, retrieval of videos by text and of
    texts by video (R@1, 5, 10, median rank), the accuracy of multiple choice and, where texts have times, the quality
    of narration with the bundle's gates and at fixed rates; each with a bootstrap interval of 95 % over videos.

    All bundles, the data and the outputs are checked before the work. A video that cannot be read is named and left
    out. Ctrl-C prints the figures of the clips until then.
    """
    from vlj_edge.runtime.evaluation.data import read_data

    from ..bundle import nano_bundle, read_manifest
    from ..outputs import refuse_overwriting
    from .interrupts import finishing

    given = read_data(data, videos)
    if given.missing:
        tell(
            f"warning: left out, since they are not in {videos or data.parent}: {given.missing} of the videos of {data}"
        )
    if given.ignored:
        tell(f"warning: columns without a meaning here are left out: {', '.join(given.ignored)}")
    for option, target in (("--md", markdown), ("--html", html)):
        if target is not None:
            refuse_overwriting(option, target, [clip.video for clip in given.clips])
    bundles = (bundle or nano_bundle(), *against)
    for each in bundles:
        read_manifest(each)  # so that a wrong path is refused before another bundle is opened
    work = _Work(data, given)
    for each in against:
        with open_model(each, engine_options) as model:
            work.check(model)
    with finishing(lambda: work.print_all(as_json, markdown, html)):
        for number, each in enumerate(bundles):
            with load_model(each, engine_options) as model:
                if not number:
                    work.check(model)
                    work.leave_out_missing()
                if len(work.skipped) == len(given.clips):
                    break
                work.measure(str(each) if number or bundle else "nano", model)
    if work.skipped:
        raise VljEdgeError(f"{len(work.skipped)} of {len(given.clips)} clips could not be read: see above")
    if work.unheard:
        raise VljEdgeError(f"{len(work.unheard)} of {len(given.events)} videos could not be narrated: see above")


def _left_out(name: str, error: VljEdgeError) -> str:
    """Tell why something is left out, and return the reason."""
    from .interrupts import was_interrupted

    if was_interrupted():  # and the error is only a consequence
        raise KeyboardInterrupt from error
    tell(f"warning: left out:{'' if name in str(error) else f' {name}:'} {error}")
    return str(error)


@dataclass
class _Measured:
    """A model's embeddings of the texts and of the clips so far, and what it said of each video that is annotated."""

    name: str
    texts: TextEmbeddings
    clips: dict[Clip, Vectors] = field(default_factory=dict)
    said: dict[Path, dict[int | None, Said]] = field(default_factory=dict)


@dataclass
class _Work:
    """What was embedded, by each model, and which clips were not, with the reasons."""

    path: Path
    data: Data
    models: list[_Measured] = field(default_factory=list)
    skipped: dict[Clip, str] = field(default_factory=dict)
    unheard: dict[Path, str] = field(default_factory=dict)  # videos that could not be narrated

    def check(self, model: Model) -> None:
        """Check what the work with a model needs: its files, that its backend loads them, and that it takes the texts.

        Raises:
            VljEdgeError: it could not be measured; the message says why.
        """
        from vlj_edge.runtime.evaluation.embed import check_texts

        with errors_at(str(self.path)):
            check_texts(model, self.data)
        model.chain.load(words=bool(self.data.events) and model.chain.makes_texts)
        model.chain.known.load()

    def leave_out_missing(self) -> None:
        """Name the clips whose videos are not there, before the others take their time."""
        from vlj_edge.runtime.evaluation.embed import check_recording

        for clip in self.data.clips:
            try:
                check_recording(clip.video)
            except VljEdgeError as error:
                self.skipped[clip] = _left_out(clip.name, error)

    def measure(self, name: str, model: Model) -> None:
        """Embed everything with a model. Clips that one model could not read are left out of all figures."""
        from vlj_edge.runtime.evaluation.embed import embed_clip, embed_texts

        if any(clip.questions for clip in self.data.clips) and not model.manifest.takes_query:
            tell(f"{name} takes no query: of a question, only the choices are compared with the video")
        if model.manifest.labels.caveat:
            tell(f"{name}: {model.manifest.labels.caveat}")
        with steps() as step:
            step(f"{name}: texts")
            measured = _Measured(name, embed_texts(model, self.data))
            self.models.append(measured)
            for number, clip in enumerate(self.data.clips, 1):
                if clip in self.skipped:
                    continue
                step(f"{name}: clip {number} of {len(self.data.clips)}")
                try:
                    measured.clips[clip] = embed_clip(model, clip)
                except VljEdgeError as error:
                    self.skipped[clip] = _left_out(clip.name, error)
            self._narrate(measured, model, step)

    def _narrate(self, measured: _Measured, model: Model, step: Callable[[str], None]) -> None:
        from vlj_edge.runtime.evaluation.narrate import narrate_video

        events = {
            video: happening
            for video, happening in self.data.events.items()
            if video not in self.unheard and not any(clip.video == video for clip in self.skipped)
        }
        if events and not model.chain.makes_texts:
            tell(f"{measured.name} makes no texts: no narration is measured")
            return
        for number, (video, happening) in enumerate(events.items(), 1):
            step(f"{measured.name}: narration {number} of {len(events)}")
            try:
                measured.said[video] = narrate_video(model, video, happening)
            except VljEdgeError as error:
                self.unheard[video] = _left_out(f"the narration of {video}", error)

    def evaluations(self) -> list[tuple[str, Evaluation]]:
        """Return the figures of each model that has read a clip."""
        from vlj_edge.runtime.evaluation.evaluation import evaluate

        found = []
        for model in self.models:
            clips = {clip: vectors for clip, vectors in model.clips.items() if clip not in self.skipped}
            said = {
                video: texts
                for video, texts in model.said.items()
                if video not in self.unheard and not any(clip.video == video for clip in self.skipped)
            }
            if clips:
                found.append((model.name, evaluate(self.data, model.texts, clips, said)))
        return found

    def print_all(self, as_json: bool, markdown: Path | None, html: Path | None) -> None:
        """Print what was measured, if anything was."""
        from .eval_output import markdown_of, print_tables

        evaluations = self.evaluations()
        if not evaluations:
            return
        if as_json:
            say(json_text(self._as_dict(evaluations)))
        else:
            print_tables(evaluations, len(self.data.clips))
        if markdown is not None:
            write_whole(markdown, markdown_of(evaluations, len(self.data.clips)))
        if html is not None:
            from vlj_edge.runtime.evaluation.picture import picture

            from .eval_page import page

            write_whole(html, page(str(self.path), len(self.data.clips), evaluations, picture))

    def _as_dict(self, evaluations: Sequence[tuple[str, Evaluation]]) -> dict[str, Any]:
        from .eval_output import differences_as_dicts

        return {
            "data": str(self.path),
            "clips": len(self.data.clips),
            "videos": len({clip.video for clip in self.data.clips}),
            "texts": len(self.data.texts),
            "missing": self.data.missing,
            "skipped": [
                {"video": str(clip.video), "start": clip.start, "end": clip.end, "reason": reason}
                for clip, reason in self.skipped.items()
            ],
            "not_narrated": [{"video": str(video), "reason": reason} for video, reason in self.unheard.items()],
            "models": [{"bundle": name, **found.as_dict()} for name, found in evaluations],
            "differences": differences_as_dicts(evaluations),
        }
