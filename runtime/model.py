"""The way of a frame. Everything that happens to it happens in this file, in this order:

source -> samples -> clip window -> scene gate -> pixels -> VISION ENCODER -> PREDICTOR -> embedding
       -> meaning gate -> caption memory -> TEXT DECODER -> text

The meaning gate asks for the embedding of a window where it must know it; what lies before it is done then, or never.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from vlj_edge import bundle
from vlj_edge.bundle import GateSettings, Manifest, read_manifest
from vlj_edge.errors import VljEdgeError
from vlj_edge.results import Narration, Totals, Window, WindowAnswers, WindowEmbedding, WindowReport

from .engines.base import Engine, open_engine
from .engines.select import select_backend
from .engines.tensorrt.preprocess import gpu_preprocessor
from .gating.caption_memory import CaptionMemory
from .gating.meaning import Change, Encoded, MeaningGate
from .gating.motion import at_rest
from .gating.scene import SceneGate
from .profiling.probe import Probe, TimedEngine
from .stream.fair_lock import FairLock
from .stream.prefetch import prefetch
from .stream.run import Run
from .video.preprocess import CpuPreprocessor, Preprocessor, SampledFrame
from .video.sampling import samples, windows
from .video.source import Source
from .video.uri import open_source
from .words.decode import decode, nearest_caption, read_captions
from .words.tokenizer import FixedLengthTokenizer

Item = TypeVar("Item")
AnySource: TypeAlias = str | Path | int | Source
Embedding: TypeAlias = npt.NDArray[np.float32]
Query: TypeAlias = tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]
Encode: TypeAlias = Callable[[list[SampledFrame]], tuple[list[Encoded], bool]]  # one a query; did the encoder run?

_WINDOWS_AHEAD = 4  # of a file, seen before they are encoded: as many pictures are held in memory besides the clip
_CHANGES_AHEAD = 8  # texts to decode, behind which encoding waits: a stream that never rests must not pile them up

NO_GATES = GateSettings(
    bundle.SceneGateSettings(enabled=False),
    bundle.MeaningGateSettings(enabled=False),
    bundle.CaptionMemorySettings(enabled=False),
    bundle.RestSettings(enabled=False),
)


class Model:
    """A bundle, ready to run. Engines are verified and loaded when they are first needed.

    One Model serves one thread, unless it is `shared`: its engines' buffers serve everything that it does.

    Args:
        backend: a name of engine.BACKENDS; None: the best that works here (`Model.backend` says which, and why).
        threads: CPU threads of the backend; None: what `vlj-edge tune` kept, otherwise as many as this process may use.
        engines: a folder of TensorRT engines that were built elsewhere and are to be trusted.
        overlap: read and see frames, encode, and decode beside each other, in threads. What comes out is the same.
        probe: notes when each stage is at work.
        shared: several sources may be narrated at once, each in a thread of its own; they take turns at the engines.
        pixels_on_card: frames are resized and normalised by a kernel of ours. What comes out is the same (TensorRT).

    Raises:
        VljEdgeError: no bundle there, a manifest that cannot be read, an unknown backend, or one that is broken.
    """

    def __init__(
        self,
        directory: str | Path,
        backend: str | None = None,
        threads: int | None = None,
        engines: str | Path | None = None,
        overlap: bool = True,
        probe: Probe | None = None,
        shared: bool = False,
        pixels_on_card: bool = False,
    ) -> None:
        self.overlap, self._probe, self._pixels_on_card = overlap, probe, pixels_on_card
        self._turns = FairLock() if shared else None
        self.directory = Path(directory)
        self.manifest: Manifest = read_manifest(self.directory)
        built = Path(engines) if engines is not None else None
        self.backend = select_backend(self.directory, self.manifest, backend, built)
        if pixels_on_card and self.backend.name != "tensorrt":
            raise VljEdgeError(f"pixels are made on the card by TensorRT alone, and this is {self.backend.line}")
        tuning = self.backend.tuning
        self._wanted: dict[str, Any] = {"backend": self.backend.name, "threads": threads, "engines": built}
        if tuning is not None:
            self._wanted["bf16"] = tuning.bf16
            if threads is None:
                self._wanted |= {"threads": tuning.threads, "spin": tuning.spin}
        if shared:  # loaded now, and not by several threads at once
            _ = self._encoder, self._query_tokens, bundle.DECODER in self.manifest.engines and self._say

    def alike(self, threads: int) -> Model:
        """Another one of the same bundle, backend and engines, for another thread."""
        built, on_card = self._wanted["engines"], self._pixels_on_card
        return Model(self.directory, self.backend.name, threads, built, self.overlap, pixels_on_card=on_card)

    def check(self, query: str | None, gates: GateSettings | None) -> None:
        """Raises VljEdgeError: narrate() could not be called with these."""
        if query is not None:
            self._query_tokens.encode(query)
        if gates is not None:
            MeaningGate(gates.meaning)

    def narrate(
        self,
        source: AnySource,
        query: str | None = None,
        every_window: bool = False,
        gates: GateSettings | None = None,
        watch: Callable[[WindowReport], None] | None = None,
    ) -> Run[Narration]:
        """Say what happens in a source, when it changes.

        Args:
            source: what open_source takes, or a Source.
            query: what the predictor is asked; None: the bundle's default query.
            every_window: decode every window with all gates off, and say the same text again where it is the same.
            gates: settings in place of the bundle's.
            watch: is told of every window, by the thread that encodes.

        Raises:
            VljEdgeError: at the call, for a source, query or bundle that cannot be used.
        """
        gates = NO_GATES if every_window else gates or self.manifest.gates
        totals = Totals()
        # What is decoded is then one window's embedding, and no mean; and nobody else uses the places it is kept in.
        keep = gates.meaning.smoothing == 1 and self._turns is None
        frames, encode = self._start(source, [query], gates, totals, keep)
        memory = CaptionMemory(gates.memory, self.manifest.embedding)
        meaning = MeaningGate(gates.meaning)
        _ = self._say  # a decoder that cannot be loaded is an error of this call, not of the first change
        changes = self._changes(frames, encode, meaning, gates.rest, totals, watch)
        if self.overlap:  # texts are decoded here while the next windows are encoded
            changes = prefetch(changes, _CHANGES_AHEAD)
        said = self._narrations(changes, memory, every_window, totals)
        return Run(said, frames, totals)

    def embed(
        self,
        source: AnySource,
        query: str | None = None,
        every_window: bool = False,
        gates: GateSettings | None = None,
        pause: float = 0.0,
    ) -> Run[WindowEmbedding]:
        """The embedding of every window. No decoder is loaded. Arguments and errors as for narrate().

        Args:
            pause: seconds from the start of one window to that of the next that is looked at. 0: every window is.
        """
        gates = NO_GATES if every_window else gates or self.manifest.gates
        totals = Totals()
        frames, encode = self._start(source, [query], gates, totals, keep=False)
        return Run(self._embeddings(frames, encode, gates.rest, totals, pause), frames, totals)

    def ask(
        self, source: AnySource, queries: Sequence[str], every_window: bool = False, gates: GateSettings | None = None
    ) -> Run[WindowAnswers]:
        """What every window means under each of several queries: encoded once, predicted once a query. Otherwise as
        embed()."""
        if not queries:
            raise VljEdgeError("there is no question: give at least one")
        gates = NO_GATES if every_window else gates or self.manifest.gates
        totals = Totals()
        frames, encode = self._start(source, queries, gates, totals, keep=False)
        return Run(self._answers(frames, encode, totals), frames, totals)

    def embed_text(self, text: str) -> Embedding:
        """The embedding of a text, float32 [embedding], unit length. Only the text encoder is loaded.

        Raises:
            VljEdgeError: the text is empty, or the bundle cannot be used.
        """
        return self._in_turn(self._embed_text)(text)

    def text_ids(self, text: str) -> bytes:
        """What the text encoder sees of a text: texts with the same ids have the same embedding.

        Raises:
            VljEdgeError: as embed_text().
        """
        ids, _ = self._in_turn(lambda: self._text_encoder[1])().encode(text)
        return ids.tobytes()

    def _start(
        self, source: AnySource, queries: Sequence[str | None], gates: GateSettings, totals: Totals, keep: bool
    ) -> tuple[Source, Encode]:
        tokens = [self._query_tokens.encode(self.manifest.default_query if q is None else q) for q in queries]
        if not isinstance(source, Source):
            source = open_source(source, self.manifest.clip.frames_per_second)
        return source, self._in_turn(self._encoding(tokens, gates, totals, keep))

    def _encoding(self, queries: list[Query], gates: GateSettings, totals: Totals, keep: bool) -> Encode:
        """Encodes a clip, unless the scene gate says that it looks like the one before: then that stands."""
        encoder, pixels, predictor = self._encoder  # loaded now, for the same reason as the decoder
        scene = SceneGate(gates.scene, self.manifest.clip.frames)
        has_changed, fill = self._timed("scene gate", scene.changed), self._timed("normalise", pixels.fill)
        last: list[Encoded] = []

        def predict(query: Query) -> Encoded:
            predictor.inputs["query_ids"][...], predictor.inputs["query_mask"][...] = query
            predictor.run()
            totals.predictor_runs += 1
            kept = predictor.keep("embedding") if keep else None
            return Encoded(_embedding_of(predictor, "predictor"), kept)

        def encode(pictures: list[SampledFrame]) -> tuple[list[Encoded], bool]:
            nonlocal last
            changed = has_changed(pictures)
            if changed:
                fill(pictures)
                encoder.run()  # its visual_tokens are the predictor's input, the same memory
                totals.encoder_runs += 1
                last = [predict(query) for query in queries]
            return last, changed

        return encode

    def _embeddings(
        self, frames: Source, encode: Encode, rest: bundle.RestSettings, totals: Totals, pause: float
    ) -> Generator[WindowEmbedding, None, None]:
        rate, due = self.manifest.clip.frames_per_second, 0.0
        with closing(self._windows(frames, totals)) as seen:
            for window, pictures in seen:
                totals.windows += 1
                if window.start < due:
                    continue
                due = window.start + pause
                [encoded], changed = encode(pictures)
                yield WindowEmbedding(window, encoded.embedding, changed, at_rest(pictures, rest, rate))

    def _answers(self, frames: Source, encode: Encode, totals: Totals) -> Generator[WindowAnswers, None, None]:
        with closing(self._windows(frames, totals)) as seen:
            for window, pictures in seen:
                encoded, changed = encode(pictures)
                totals.windows += 1
                yield WindowAnswers(window, np.stack([each.embedding for each in encoded]), changed)

    def _changes(
        self,
        frames: Source,
        encode: Encode,
        meaning: MeaningGate,
        rest: bundle.RestSettings,
        totals: Totals,
        watch: Callable[[WindowReport], None] | None,
    ) -> Generator[Change, None, None]:
        """Every window is offered to the meaning gate, which has encoded what it must know."""
        probe, rate = self._probe, self.manifest.clip.frames_per_second
        cosine: float | None = None
        made: Embedding | None = None
        offer = self._timed("meaning gate", meaning.offer)

        def encode_window(window: Window, pictures: list[SampledFrame]) -> Encoded:
            nonlocal cosine, made
            [encoded], _ = encode(pictures)
            made = encoded.embedding
            cosine = meaning.cosine_to_said(encoded.embedding)
            if probe is not None:
                probe.compare(window.centre, encoded.embedding)
            return encoded

        with closing(self._windows(frames, totals)) as seen:
            for window, pictures in seen:
                if probe is not None:
                    probe.take_window(window.start)
                totals.windows += 1
                resting, cosine, made = at_rest(pictures, rest, rate), None, None
                change = offer(window.centre, partial(encode_window, window, pictures), resting)
                if probe is not None:
                    probe.decide(change.embedding if change is not None else None)
                if watch is not None:
                    watch(WindowReport(window, cosine, bool(resting), change is not None, made))
                if change is not None:
                    yield change
        change = meaning.flush()
        if change is not None:
            yield change

    def _windows(self, frames: Source, totals: Totals) -> Generator[tuple[Window, list[SampledFrame]], None, None]:
        """Every window of a file; of a camera those for which there is time, always the newest."""
        clip = self.manifest.clip
        look = self._timed("preprocess", self._encoder[1].see)
        captured = frames if self._probe is None else self._probe.each("capture", frames)
        pictures = samples(captured, clip, look, frames.period)
        seen = windows(pictures, clip)
        if self._probe is not None:
            seen = self._probe.complete(seen)
        if not self.overlap:
            return (yield from seen)

        def dropped() -> None:
            totals.windows_dropped += 1

        yield from prefetch(seen, 1, dropped) if frames.live else prefetch(seen, _WINDOWS_AHEAD)

    def _narrations(
        self, changes: Generator[Change, None, None], memory: CaptionMemory, every_window: bool, totals: Totals
    ) -> Generator[Narration, None, None]:
        last = ""
        clip = self.manifest.clip
        half = clip.frames / clip.frames_per_second / 2  # seconds between a window's centre and its end
        with closing(changes):
            for change in changes:
                started = time.perf_counter()
                text, origin = self._text(change, memory, totals)
                if self._probe is not None:
                    self._probe.speak(time.perf_counter() - started)
                if every_window or text not in ("", last):  # other meaning, same words: nothing new to the listener
                    last = text
                    totals.said += 1
                    yield Narration(change.first - half, change.last + half, text, origin, change.similarity)

    def _text(self, change: Change, memory: CaptionMemory, totals: Totals) -> tuple[str, Literal["decoder", "memory"]]:
        known = memory.recall(change.embedding, change.resting)
        if known is not None:
            totals.memory_hits += 1
            return known, "memory"
        text, runs = self._in_turn(self._say)(change.embedding if change.kept is None else change.kept)
        totals.decoder_runs += 1
        totals.decoder_tokens += runs
        memory.put(change.embedding, text, change.resting)
        return text, "decoder"

    def _open(self, name: str, inputs_from: dict[str, Engine] | None = None, **wanted: Any) -> Engine:
        sources = {key: getattr(engine, "engine", engine) for key, engine in (inputs_from or {}).items()}
        engine = open_engine(self.directory, self.manifest, name, inputs_from=sources, **self._wanted, **wanted)
        if self._probe is None:
            return engine
        return TimedEngine(engine, name, self._probe, waited_for=wanted.get("outputs_read") != ())

    @cached_property
    def _encoder(self) -> tuple[Engine, Preprocessor, Engine]:
        encoder = self._open("vision_encoder", outputs_read=())
        predictor = self._open("predictor", inputs_from={"visual_tokens": encoder}, outputs_read=("embedding",))
        if not self._pixels_on_card:
            return encoder, CpuPreprocessor(encoder.inputs["pixels"], self.manifest.preprocess), predictor
        engine: Any = getattr(encoder, "engine", encoder)
        return encoder, gpu_preprocessor(engine, self.manifest.preprocess), predictor

    @cached_property
    def _decoder(self) -> tuple[Engine, FixedLengthTokenizer]:
        if bundle.DECODER not in self.manifest.engines:
            raise VljEdgeError(
                f"{self.directory} has no decoder, so it makes embeddings and no texts: export it with --decoder"
            )
        decoder = self._open("decoder", given=("embedding",), outputs_read=("next_token",))
        return decoder, FixedLengthTokenizer(self.directory, self.manifest, "decoder")

    @cached_property
    def _say(self) -> Callable[[object], tuple[str, int]]:
        """The text of an embedding, or of one that the predictor keeps, and how often the engine ran for it."""
        if self.manifest.captions is not None:
            bank = self._open(bundle.DECODER, given=("embedding",))
            captions = read_captions(self.directory, self.manifest, self.manifest.captions)

            def choose_caption(embedding: object) -> tuple[str, int]:
                return nearest_caption(bank, embedding, captions), 1

            return choose_caption
        decoder, tokens = self._decoder

        def say(embedding: object) -> tuple[str, int]:
            spec = self.manifest.tokenizers[bundle.DECODER]
            ids, runs = decode(decoder, embedding, spec.end, spec.length)
            return tokens.decode(ids), runs

        return say

    def _embed_text(self, text: str) -> Embedding:
        engine, tokens = self._text_encoder
        engine.inputs["text_ids"][...], engine.inputs["text_mask"][...] = tokens.encode(text)
        engine.run()
        return _embedding_of(engine, "text_encoder")

    def _in_turn(self, action: Callable[..., Item]) -> Callable[..., Item]:
        turns = self._turns
        if turns is None:
            return action

        def act(*arguments: Any) -> Item:
            with turns:
                return action(*arguments)

        return act

    def _timed(self, stage: str, action: Callable[..., Item]) -> Callable[..., Item]:
        return action if self._probe is None else self._probe.timed(stage, action)

    @cached_property
    def _text_encoder(self) -> tuple[Engine, FixedLengthTokenizer]:
        return self._open("text_encoder"), FixedLengthTokenizer(self.directory, self.manifest, "text_encoder")

    @cached_property
    def _query_tokens(self) -> FixedLengthTokenizer:
        return FixedLengthTokenizer(self.directory, self.manifest, "query")


def _embedding_of(engine: Engine, name: str) -> Embedding:
    engine.wait()
    embedding: Embedding = engine.outputs["embedding"][0].copy()
    if not np.isfinite(embedding).all():
        raise VljEdgeError(f"the {name} gave values that are not numbers: export the bundle without --fp16")
    return embedding
