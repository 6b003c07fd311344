"""The engines of a bundle, joined: encode, predict, embed_text, decode.

Every engine writes into buffers of its own that are allocated once, so two threads must never use one at the same
time: each method takes a first-come-first-served lock and copies its result before it releases it. There are two
locks, since the decoder works on one window while the encoder works on the next.
"""

from __future__ import annotations

import atexit
import threading
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from vlj_edge.bundle import DECODER, PREDICTOR, TEXT_ENCODER, Manifest
from vlj_edge.errors import VljEdgeError, WrongCall

from .engines.base import Engine, open_engine, usable_cores
from .engines.tensorrt.preprocess import gpu_preprocessor
from .gating.clip_window import Embedding, Encoded
from .gating.known import KnownData
from .profiling.probe import Probe, TimedEngine
from .stream.cancellation import Cancellation
from .stream.fair_lock import FairLock
from .video.preprocess import CpuPreprocessor, SampledFrame
from .vision import Query, Vision
from .words.decode import decode, nearest_caption, read_captions
from .words.label_head import choose_label, label_logits
from .words.queries import TrainedQueries
from .words.tokenizer import FixedLengthTokenizer

Result = TypeVar("Result")
KeptTokens: TypeAlias = npt.NDArray[np.int64]  # [n], ascending
DecodedText: TypeAlias = tuple[str, int]  # a text, and how often the decoder engine ran for it


class Chain:
    """The engines of one bundle on one backend. Each is verified and loaded when it is first needed.

    Args:
        directory: the bundle.
        engine_options: fields of engines.base.EngineRequest: backend, threads, spin, bf16, engines.
        probe: records when each stage works; None: no measurements.
        gpu_pixels: resize and normalise frames with this project's CUDA kernel (TensorRT only).
    """

    def __init__(
        self,
        directory: Path,
        manifest: Manifest,
        engine_options: dict[str, Any],
        probe: Probe | None = None,
        gpu_pixels: bool = False,
    ) -> None:
        self.directory, self.manifest, self.probe = directory, manifest, probe
        self.trained_queries, self.known = TrainedQueries(manifest), KnownData(directory, manifest)
        self.engine_options, self._gpu_pixels = engine_options, gpu_pixels
        self._vision_lock = FairLock()  # encoder and predictor
        self._text_lock = FairLock()  # decoder and text encoder, which share a stream on a card
        self._loading = threading.RLock()  # so that no engine is loaded twice
        self._storing = threading.Lock()  # held only briefly: close() does not wait for a load
        self._loaded: dict[str, Any] = {}
        self._closed = self._has_part = False  # _has_part: the engines are given a part of the tokens
        _chains.add(self)

    @property
    def threads(self) -> int:
        """CPU threads of an engine."""
        return self.engine_options.get("threads") or usable_cores()

    @property
    def vision(self) -> Vision:
        """The vision encoder, its preprocessor, and the predictor."""
        return self._load_once("vision", self._load_vision)

    @property
    def takes_parts(self) -> bool:
        """Whether the vision engines take a part of a clip's tokens; TensorRT's do if they were built for it."""
        return all(engine.takes_parts for engine in self.vision.engines.values())

    @property
    def decoder(self) -> tuple[Engine, FixedLengthTokenizer]:
        """The decoder of a bundle whose decoder is a language model, and its tokenizer.

        Raises:
            VljEdgeError: the bundle has no decoder.
        """
        return self._load_once("decoder", self._load_decoder)

    @property
    def text_encoder(self) -> tuple[Engine, FixedLengthTokenizer]:
        """The text encoder and its tokenizer.

        Raises:
            VljEdgeError: the model has none.
        """
        return self._load_once("text_encoder", self._load_text_encoder)

    @property
    def label_head(self) -> tuple[Engine, list[str]]:
        """The engine that turns an embedding into logits of labels, and these labels.

        Raises:
            VljEdgeError: the model has no labels of its own.
        """
        return self._load_once("label_head", self._load_label_head)

    @property
    def makes_texts(self) -> bool:
        """Whether the bundle has a decoder or a bank of captions."""
        return DECODER in self.manifest.engines

    def load(self, words: bool = False) -> None:
        """Load the engines that a run needs, so that an unusable file is an error now and not at the first window.

        Args:
            words: load the decoder or the caption bank as well.

        Raises:
            VljEdgeError: a file is not the one that was exported, or the backend cannot load it.
        """
        _ = self.vision
        if words:
            _ = self._decode_text

    def query(self, text: str | None) -> Query | None:
        """Return the tokens of a query to the predictor; None: the bundle's default query, or none if it takes none.

        Raises:
            VljEdgeError: the text is empty or too long, or the model takes no query.
        """
        if not self.manifest.takes_query:
            if text is None:
                return None
            raise WrongCall(
                f"this model takes no query: {self.manifest.family} embeds what it sees, whatever is asked; leave the"
                " query out, or compare with labels (vlj-edge classify)"
            )
        tokenizer = self._load_once("query", lambda: self._tokenizer("query"))
        return tokenizer.encode(self.manifest.default_query if text is None else text)

    def encode(
        self,
        frames: Sequence[SampledFrame],
        queries: Sequence[Query | None],
        on_device: bool = False,
        cancellation: Cancellation | None = None,
        kept: KeptTokens | None = None,
    ) -> list[Encoded]:
        """Encode a clip once and predict one embedding a query; one for a model that takes none ([None]).

        Args:
            frames: as many as the clip has, from `vision.preprocessor`.
            on_device: also keep each embedding in device memory, for decode().
            cancellation: of the clip's run; cancelling it interrupts the engines.
            kept: the clip's tokens that the engines are given (gating/kept_tokens.py); None: all. A bundle without
                `manifest.tokens` takes all alone.

        Raises:
            VljEdgeError: the backend failed, or an embedding is not finite.
            Cancelled: the run was cancelled before the engines began.
        """
        vision = self.vision
        interrupts = [engine.interrupt for engine in vision.engines.values()]
        with self._vision_lock, (cancellation or Cancellation()).interrupting(*interrupts):
            self.timed("normalise", vision.preprocessor.fill)(frames)
            self._keep_tokens(vision, kept)
            vision.encoder.run()
            return [self._embedding(vision, query, on_device) for query in queries]

    def decode(self, embedding: object, last: str = "") -> DecodedText:
        """Return the text of an embedding, and how often the decoder engine ran for it.

        Args:
            embedding: float32 [embedding], unit length, or Encoded.on_device.
            last: the text before, which a label head keeps while another label is hardly likelier.

        Raises:
            VljEdgeError: the bundle has no decoder, or the backend failed.
        """
        decode_text = self._decode_text
        with self._text_lock:
            return decode_text(embedding, last)

    def embed_text(self, text: str) -> Embedding:
        """Return the embedding of a text, float32 [embedding], unit length.

        Raises:
            VljEdgeError: the text is empty or too long, or the backend failed.
        """
        engine, tokenizer = self.text_encoder
        ids, mask = tokenizer.encode(text)
        with self._text_lock:
            engine.inputs["text_ids"][...], engine.inputs["text_mask"][...] = ids, mask
            engine.run()
            return _read_embedding(engine, "text_encoder")

    def label_logits(self, embedding: Embedding) -> npt.NDArray[np.float32]:
        """Return the logits of the model's own labels, float32 [labels].

        Raises:
            VljEdgeError: it has none, or the backend failed.
        """
        head, _ = self.label_head
        with self._text_lock:
            return label_logits(head, embedding)

    def text_ids(self, text: str) -> bytes:
        """Return the text encoder's token ids for a text: texts with the same ids have the same embedding.

        Raises:
            VljEdgeError: the text is empty or too long.
        """
        ids, _ = self.text_encoder[1].encode(text)
        return ids.tobytes()

    def close(self) -> None:
        """Release all engines. Calls in progress finish; later calls fail."""
        with self._storing:
            self._closed, self._loaded = True, {}

    def stop_for_good(self) -> None:
        """Interrupt all engines and refuse further calls, since the interpreter is shutting down."""
        loaded = list(self._loaded.values())
        self.close()
        for lock in (self._vision_lock, self._text_lock):
            for part in loaded:
                for engine in part if isinstance(part, tuple) else ():
                    getattr(engine, "interrupt", lambda: None)()
            lock.acquire(timeout=1.0)

    def timed(self, stage: str, action: Callable[..., Result]) -> Callable[..., Result]:
        """Return the same function; its calls are recorded as `stage` if there is a probe."""
        return action if self.probe is None else self.probe.time_calls(stage, action)

    def _keep_tokens(self, vision: Vision, kept: KeptTokens | None) -> None:
        tokens = self.manifest.tokens
        if tokens is None or (kept is None and not self._has_part):
            return
        self._has_part = kept is not None
        vision.keep_tokens(np.arange(tokens.counts[-1]) if kept is None else kept)

    def _embedding(self, vision: Vision, query: Query | None, on_device: bool) -> Encoded:
        """Return the embedding of what the encoder has just encoded."""
        vision.set_query(query)
        if vision.predictor is not None:
            vision.predictor.run()
        on_device_copy = vision.last.keep_output("embedding") if on_device else None
        return Encoded(_read_embedding(vision.last, self.manifest.vision_engines[-1]), on_device_copy)

    @property
    def _decode_text(self) -> Callable[[object, str], DecodedText]:
        return self._load_once("decode_text", self._load_decode_text)

    def _load_once(self, name: str, load: Callable[[], Result]) -> Result:
        """Return the object of this name, which is loaded by the first call.

        Raises:
            VljEdgeError: the chain is closed, or was closed meanwhile.
        """
        loaded: Result | None = self._loaded.get(name)
        if loaded is not None:
            return loaded
        with self._loading:
            loaded = self._loaded.get(name)
            if loaded is None and not self._closed:
                loaded = load()
            with self._storing:
                if self._closed or loaded is None:
                    raise VljEdgeError(f"the model of {self.directory} is closed: load it again with vlj_edge.load()")
                self._loaded[name] = loaded
            return loaded

    def _load_vision(self) -> Vision:
        predictor, embedding = None, ("embedding",)
        encoder = self._open("vision_encoder", outputs_read=() if self.manifest.takes_query else embedding)
        if self.manifest.takes_query:
            predictor = self._open(PREDICTOR, inputs_from={"visual_tokens": encoder}, outputs_read=embedding)
        preprocess = self.manifest.preprocess
        if self._gpu_pixels:
            engine: Any = getattr(encoder, "engine", encoder)
            return Vision(encoder, gpu_preprocessor(engine, preprocess), predictor)
        return Vision(encoder, CpuPreprocessor(encoder.inputs["pixels"], preprocess), predictor)

    def _load_text_encoder(self) -> tuple[Engine, FixedLengthTokenizer]:
        check_embeds_texts(self.directory, self.manifest)
        return self._open(TEXT_ENCODER), self._tokenizer(TEXT_ENCODER)

    def _load_decoder(self) -> tuple[Engine, FixedLengthTokenizer]:
        if not self.makes_texts:
            raise WrongCall(
                f"{self.directory} has no decoder, so it makes embeddings and no texts: export it without --no-decoder"
                " and --target wearable, or with --captions or --decoder (docs/weights.md)"
            )
        decoder = self._open(DECODER, constant_inputs=("embedding",), outputs_read=("next_token",))
        return decoder, self._tokenizer(DECODER)

    def _load_label_head(self) -> tuple[Engine, list[str]]:
        head = self.manifest.label_head
        if head is None:
            raise WrongCall(f"{self.directory} has no labels of its own: name those to compare with")
        classifier = self._open(DECODER, constant_inputs=("embedding",))
        labels = read_captions(self.directory, self.manifest, head.file)
        if len(labels) != classifier.outputs["logits"].shape[1]:
            raise VljEdgeError(
                f"{self.directory / head.file} has {len(labels)} labels, not one a logit: export it again"
            )
        return classifier, labels

    def _load_decode_text(self) -> Callable[[object, str], DecodedText]:
        head = self.manifest.label_head
        if head is not None:
            classifier, labels = self.label_head
            return lambda embedding, last: (choose_label(label_logits(classifier, embedding), labels, head, last), 1)
        if self.manifest.captions is not None:
            bank = self._open(DECODER, constant_inputs=("embedding",))
            captions = read_captions(self.directory, self.manifest, self.manifest.captions)
            return lambda embedding, last: (nearest_caption(bank, embedding, captions), 1)
        decoder, tokenizer = self.decoder
        spec = self.manifest.tokenizers[DECODER]

        def text_of(embedding: object, last: str) -> DecodedText:
            ids, runs = decode(decoder, embedding, spec.end, spec.length)
            return tokenizer.decode(ids), runs

        return text_of

    def _open(self, name: str, inputs_from: dict[str, Engine] | None = None, **request: Any) -> Engine:
        sources = {key: getattr(engine, "engine", engine) for key, engine in (inputs_from or {}).items()}
        engine = open_engine(self.directory, self.manifest, name, inputs_from=sources, **self.engine_options, **request)
        if self.probe is None:
            return engine
        return TimedEngine(engine, name, self.probe, waited_for=request.get("outputs_read") != ())

    def _tokenizer(self, name: str) -> FixedLengthTokenizer:
        return FixedLengthTokenizer(self.directory, self.manifest, name)


def _read_embedding(engine: Engine, name: str) -> Embedding:
    engine.wait()
    embedding: Embedding = engine.outputs["embedding"][0].copy()
    if not np.isfinite(embedding).all():
        raise VljEdgeError(f"the {name} gave values that are not numbers: export the bundle without --fp16")
    return embedding


def check_embeds_texts(directory: Path, manifest: Manifest) -> None:
    """Raise WrongCall if a model embeds no texts: the line says what it can do instead."""
    if not manifest.embeds_texts:
        raise WrongCall(
            f"{directory} has no text encoder, since {manifest.family} knows its own labels alone: vlj-edge classify"
            f" VIDEO --bundle {directory} ranks them (vlj-edge labels --bundle {directory} lists them), and a search"
            " takes --similar VIDEO@TIME"
        )


_chains: weakref.WeakSet[Chain] = weakref.WeakSet()


@atexit.register
def _stop_engines() -> None:
    """A caller's daemon thread that is inside an engine while the interpreter shuts down would abort the process."""
    for chain in list(_chains):
        chain.stop_for_good()
