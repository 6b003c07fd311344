"""A bundle, ready to run. The way of a frame through this file, run_state.py and chain.py, from top to bottom:

source -> samples -> clip window -> scene gate -> VISION ENCODER -> PREDICTOR -> embedding
       -> meaning gate -> caption memory -> TEXT DECODER -> narration

The meaning gate runs first: it gets every window, and a window is encoded only if the gate's decision depends on its
embedding. Encoding passes through the scene gate, which skips the encoder while the picture is unchanged.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np

from vlj_edge.bundle import NO_GATES, GateSettings, Manifest, RestSettings, read_manifest
from vlj_edge.bundle.gate_profile import with_gates
from vlj_edge.bundle.gate_ranges import check_gates
from vlj_edge.decisions import TextReport
from vlj_edge.errors import WrongCall
from vlj_edge.results import Narration, Window, WindowAnswers, WindowEmbedding, WindowReport

from .chain import Chain
from .engines.select import select_backend
from .gating.answer_memory import AnswerMemory
from .gating.budget import Budget
from .gating.caption_memory import CaptionMemory
from .gating.clip_window import ClipWindow, Embedding, Encoded, RecordedWindow
from .gating.kept_tokens import Choice, check_choice
from .gating.meaning import Change, MeaningGate
from .gating.picture_noise import PictureNoise
from .gating.report import report
from .gating.stream_noise import StreamNoise
from .profiling.probe import Probe
from .run_state import RunState
from .stream.prefetch import prefetch
from .stream.run import Run, close_all
from .video.arrays import AnySource, to_source
from .video.preprocess import SampledFrame
from .video.sampling import samples, windows
from .video.source import Frame
from .words.narrator import Narrator
from .words.pictures import KeptPictures
from .words.words import Speak, Words

_WINDOWS_AHEAD = 4  # windows of a file that are sampled before they are encoded; their frames are held in memory
_CHANGES_AHEAD = 8  # changes that may wait for the decoder; with more, encoding waits


class Model:
    """A bundle, ready to run: narrate, embed, ask, embed_text. A context manager; load it with vlj_edge.load().

    Engines are verified and loaded when they are first needed. A Model may be used from several threads, and for
    several sources at once: they share the engines, first come, first served.

    Args:
        directory: the bundle.
        backend: a key of BACKENDS or WITH_SETTINGS in engines/base.py; None: the best that works here (`Model.backend`
            names it).
        threads: CPU threads of the backend; None: what `vlj-edge tune` stored, otherwise as many as this process may
            use.
        engines: a folder of TensorRT engines that were built elsewhere and that the caller trusts.
        overlap: capture, encode and decode in three threads. The results do not depend on it.
        probe: records when each stage works.
        pixels_on_card: resize and normalise frames with a CUDA kernel. The results do not depend on it (TensorRT only).
        gates: settings, or a file of them (vlj_edge.bundle.gate_profile), in place of the bundle's. A file that was
            made for another bundle is logged as a warning.
        tokens: which visual tokens of a clip are computed: "all"; "auto", those that carry news; or a share, 0..1 (only
            a bundle that was exported with --token-shares can leave some out); None: the bundle's or the file's choice.

    Example:
        >>> import vlj_edge
        >>> with vlj_edge.load() as model:
        ...     for event in model.narrate("examples/media/demo.mp4"):
        ...         print(f"{event.begins:.1f} s  {event.text}")
        ...         break
        1.0 s  the robot arm stays still

    Raises:
        VljEdgeError: there is no bundle, its manifest cannot be read, or the backend is unknown or broken.
    """

    def __init__(
        self,
        directory: str | Path,
        backend: str | None = None,
        threads: int | None = None,
        engines: str | Path | None = None,
        overlap: bool = True,
        probe: Probe | None = None,
        pixels_on_card: bool = False,
        gates: GateSettings | str | Path | None = None,
        tokens: Choice | None = None,
    ) -> None:
        self.overlap, self._probe, self._pixels_on_card = overlap, probe, pixels_on_card
        self.directory = Path(directory)
        self.manifest: Manifest = with_gates(read_manifest(self.directory), gates)
        built = Path(engines) if engines is not None else None
        self.backend = select_backend(self.directory, self.manifest, backend, built)
        if pixels_on_card and self.backend.name != "tensorrt":
            raise WrongCall(f"pixels_on_card needs TensorRT, and this model runs on {self.backend.name}")
        self.tokens = check_choice(tokens, self.manifest)
        options = self.backend.engine_options(threads, built)
        self._engines = built
        self.chain = Chain(self.directory, self.manifest, options, probe, pixels_on_card)
        self._runs: weakref.WeakSet[Run[Any]] = weakref.WeakSet()

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every open run and release the engines. Calls after that fail. May be called twice."""
        try:
            close_all(self._runs)
        finally:
            self.chain.close()

    def narrate(
        self,
        source: AnySource,
        query: str | None = None,
        every_window: bool = False,
        gates: GateSettings | None = None,
        watch: Callable[[WindowReport], None] | None = None,
        watch_texts: Callable[[TextReport], None] | None = None,
        budget: Budget | None = None,
        noise: StreamNoise | None = None,
        words: Words | Speak | None = None,
        wants: Callable[[Window], bool] | None = None,
    ) -> Run[Narration]:
        """Describe what happens in a source, with a text whenever its meaning changes.

        Args:
            source: what open_source() takes; a Source, which the run closes; frames, uint8 [frames, height, width, 3],
                BGR, at the model's own rate (`manifest.clip.frames_per_second`); or an iterable of (seconds, image).
            query: to the predictor; None: the bundle's default. One that it was not trained on is logged as a warning.
            every_window: decode every window with all gates off, and report texts that are the same as before.
            gates: settings in place of the bundle's.
            watch: called with the WindowReport of every window, in the thread that encodes.
            watch_texts: called with the TextReport of every text, in the thread that iterates.
            budget: of earlier runs over the same source, begun with the settings of this one; None: a new budget.
            noise: what the gates learned of this camera in an earlier run, and go on learning; None: nothing yet.
            words: a function (pictures, context) -> text, or Words: says it in place of the decoder (docs/words.md).
            wants: returns whether `watch` needs the embedding of a window that no gate has encoded.

        Raises:
            VljEdgeError: at the call, for a source, query or bundle that cannot be used.
            TypeError: at the call, if `source` is no source; during the run, if it yields anything but frames.
        """
        gates = NO_GATES if every_window else gates or self.manifest.gates
        check_gates(gates)  # before memory is made for a capacity
        budget, noise = budget or Budget(gates.budget), noise or StreamNoise()
        meaning = MeaningGate(gates.meaning, budget, noise.embedding)
        words = Words(words) if words is not None and not isinstance(words, Words) else words
        self.chain.load(words=words is None or self.chain.makes_texts)
        on_device = gates.meaning.smoothing == 1  # otherwise the text is that of a mean, which the host computes
        self.chain.known.load()
        run = self._prepare(source, [query], gates, budget, on_device, noise.picture)
        run.resemblance, run.wants = self.chain.known.resemblance(query, run.source.name), wants
        if words is not None:
            run.pictures = KeptPictures(words.frame_size)
            answers = AnswerMemory(gates.memory, run.resemblance or self.chain.known)
            narrator = Narrator(words, answers, run, self.manifest.clip, every_window, watch_texts)
            return self._started(run, narrator.narrations(self._changes(run, meaning, watch, True), self.overlap))
        changes = self._changes(run, meaning, watch)
        if self.overlap:  # texts are decoded in the caller's thread while the next windows are encoded
            changes = prefetch(changes, _CHANGES_AHEAD, run.cancellation)
        memory = CaptionMemory(gates.memory, self.manifest.embedding)
        return self._started(run, self._narrations(changes, memory, every_window, run, watch_texts))

    def embed(
        self,
        source: AnySource,
        query: str | None = None,
        every_window: bool = False,
        gates: GateSettings | None = None,
        every: float = 0.0,
    ) -> Run[WindowEmbedding]:
        """Compute the embedding of every window. No decoder is loaded. Arguments and errors as for narrate().

        Args:
            every: seconds between the starts of two embedded windows; 0: all windows are embedded.
        """
        gates = NO_GATES if every_window else gates or self.manifest.gates
        run = self._prepare(source, [query], gates)
        return self._started(run, self._embeddings(run, every))

    def ask(
        self,
        source: AnySource,
        queries: Sequence[str],
        every_window: bool = False,
        gates: GateSettings | None = None,
    ) -> Run[WindowAnswers]:
        """Compute the embeddings of every window under several queries: encoded once, predicted once for each query.

        Arguments and errors as for embed(). vlj_edge.answer_questions() turns them into answers.
        """
        if isinstance(queries, str):
            raise WrongCall(f"queries are one string, '{queries[:60]}': give a list, [...]")
        if not queries:
            raise WrongCall("there is no question: give at least one")
        gates = NO_GATES if every_window else gates or self.manifest.gates
        run = self._prepare(source, queries, gates)
        return self._started(run, self._answers(run))

    def see(self, source: AnySource, query: str | None = None, rest: RestSettings | None = None) -> Run[RecordedWindow]:
        """Encode every window, and yield what the gates decide on; vlj_edge.runtime.calibration stores it.

        Arguments and errors as for embed(), except for `rest`: settings of rest detection in place of the bundle's.
        """
        gates = replace(NO_GATES, rest=rest or self.manifest.gates.rest)
        run = self._prepare(source, [query], gates)
        return self._started(run, self._seen(run))

    def embed_text(self, text: str) -> Embedding:
        """Return the embedding of a text, float32 [embedding], unit length. Only the text encoder is loaded.

        Raises:
            VljEdgeError: the text is empty or too long, or the bundle cannot be used.
        """
        return self.chain.embed_text(text)

    def _prepare(
        self,
        source: AnySource,
        queries: Sequence[str | None],
        gates: GateSettings,
        budget: Budget | None = None,
        on_device: bool = False,
        noise: PictureNoise | None = None,
    ) -> RunState:
        """Check and load everything a run needs. The source is opened last, so that no error leaves it open."""
        tokens = [self.chain.query(query) for query in queries]
        self.chain.load()
        source = to_source(source, self.manifest.clip.frames_per_second)
        self.chain.trained_queries.warn_of_others(queries)
        check_gates(gates)
        return RunState(
            self.chain, source, tokens, gates, budget or Budget(gates.budget), on_device, noise, self.tokens
        )

    def _started(self, run: RunState, items: Generator[Any, None, None]) -> Run[Any]:
        started: Run[Any] = Run(items, run.source, run.totals, run.cancellation)
        self._runs.add(started)
        return started

    def _embeddings(self, run: RunState, every: float) -> Generator[WindowEmbedding, None, None]:
        with closing(self._windows(run, every)) as sampled:
            for window, frames in sampled:
                run.totals.windows += 1
                [encoded], is_new = run.encode_within_budget(window, frames)
                run.count_left_out()
                yield WindowEmbedding(window, encoded.embedding, is_new, run.at_rest(frames)[0])

    def _answers(self, run: RunState) -> Generator[WindowAnswers, None, None]:
        with closing(self._windows(run)) as sampled:
            for window, frames in sampled:
                encoded, is_new = run.encode_within_budget(window, frames)
                run.totals.windows += 1
                run.count_left_out()
                yield WindowAnswers(window, np.stack([answer.embedding for answer in encoded]), is_new)

    def _seen(self, run: RunState) -> Generator[RecordedWindow, None, None]:
        with closing(self._windows(run)) as sampled:
            for window, frames in sampled:
                run.totals.windows += 1
                motion = run.at_rest(frames)
                [encoded], _ = run.encode(frames)
                yield RecordedWindow(window, frames, *motion, deepcopy(run.rest.noise), encoded.embedding)

    def _changes(
        self, run: RunState, meaning: MeaningGate, watch: Callable[[WindowReport], None] | None, times_too: bool = False
    ) -> Generator[Any, None, None]:
        """Pass every window to the meaning gate, which encodes those it needs; yield the changes that get a text.

        Args:
            times_too: yield the time of each window without one, too, seconds.
        """
        probe = self._probe
        gate_decision = self.chain.timed("meaning gate", meaning.offer)
        with closing(self._windows(run)) as sampled:
            for times, frames in sampled:
                if probe is not None:
                    probe.start_window(times.start)
                run.totals.windows += 1
                if run.resemblance is not None:
                    run.resemblance.add_window()
                run.encodings.clear()
                rest, cut, in_part = run.at_rest(frames)
                encode = partial(self._encode_window, run, times)
                window = ClipWindow(times, frames, rest, encode, cut, in_part, run.pictures_of(frames))
                last_embedding = meaning.last_embedding
                change = gate_decision(window)
                run.encode_wanted(window)
                run.count_left_out()
                if probe is not None:
                    probe.record_decision(change.embedding if change is not None else None)
                if watch is not None:
                    decisions = (run.rest.decision(times.index), meaning.decision, *run.encodings)
                    watch(report(window, last_embedding, change is not None, decisions))
                if change is not None or times_too:
                    yield times.centre if change is None else change
        if run.resemblance is not None:
            run.resemblance.finish()
        change = meaning.flush()
        run.budget.change_is_over()
        run.count_left_out()
        if change is not None:
            yield change

    def _encode_window(self, run: RunState, times: Window, frames: Sequence[SampledFrame]) -> Encoded:
        [encoded], is_new = run.encode(frames)
        if is_new and run.resemblance is not None:
            run.resemblance.add_picture(encoded.embedding)
        run.encodings.append(run.scene.decision(times.index))
        if self._probe is not None:
            self._probe.record_similarity(times.centre, encoded.embedding)
        return encoded

    def _windows(self, run: RunState, every: float = 0.0) -> Generator[tuple[Window, list[SampledFrame]], None, None]:
        """Yield every window of a file; of a live source the newest one each time, so that windows may be skipped."""
        clip, source = self.manifest.clip, run.source
        crop = self.chain.timed("preprocess", self.chain.vision.preprocessor.crop)
        crop = crop if run.pictures is None else run.pictures.cropping(crop)
        captured: Iterator[Frame] = run.cancellation.until_requested(source)
        if self._probe is not None:
            captured = self._probe.time_items("capture", captured)
        sampled = windows(samples(captured, clip, crop, source.period, run.warn_of_slow_source), clip, every)
        if self._probe is not None:
            sampled = self._probe.record_completion(sampled)
        if not self.overlap:
            yield from sampled
        elif source.live:
            yield from prefetch(sampled, 1, run.cancellation, run.count_dropped_window)
        else:
            yield from prefetch(sampled, _WINDOWS_AHEAD, run.cancellation)

    def _narrations(
        self,
        changes: Generator[Change, None, None],
        memory: CaptionMemory,
        every_window: bool,
        run: RunState,
        watch: Callable[[TextReport], None] | None,
    ) -> Generator[Narration, None, None]:
        last = ""
        clip = self.manifest.clip
        half = clip.frames / clip.frames_per_second / 2  # seconds between a window's centre and its end
        with closing(changes):
            for change in changes:
                started = time.perf_counter()
                text, origin = self._text(change, memory, run, last)
                if self._probe is not None:
                    self._probe.record_text(time.perf_counter() - started)
                narration = Narration(
                    change.first - half, change.last + half, text, origin, change.similarity, change.since
                )
                told = every_window or text not in ("", last)  # the same text again is no event
                if watch is not None:
                    watch(TextReport(narration.start, narration.end, text, origin, told, memory.decision))
                if told:
                    last = text
                    run.totals.narrations += 1
                    yield narration

    def _text(
        self, change: Change, memory: CaptionMemory, run: RunState, last: str
    ) -> tuple[str, Literal["decoder", "memory"]]:
        remembered = memory.recall(change.embedding, change.resting, change.apart)
        if remembered is not None:
            run.totals.memory_hits += 1
            return remembered, "memory"
        text = run.decode(change, last)
        memory.put(change.embedding, text, change.resting)
        return text, "decoder"


def copy_of(model: Model, threads: int) -> Model:
    """Return another Model of the same bundle, backend and engines, with buffers of its own."""
    same = (model._engines, model.overlap, None, model._pixels_on_card, model.manifest.gates, model.tokens)
    return Model(model.directory, model.backend.requested, threads, *same)
