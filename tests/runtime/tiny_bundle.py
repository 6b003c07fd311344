"""A bundle small enough to compute by hand, with the real engine interface and a real key-value cache.

The embedding of a clip is the direction of its mean colour: (red, green, blue, query), each colour -1..1. So the text
of a plain red video is known, and the time at which it must change when the video turns blue.

Like an exported decoder, this one writes a row of each cache with ScatterElements and masks the rows beyond it. It
outputs <wrong> as soon as the caches do not hold exactly the history of the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers

from vlj_edge import bundle
from vlj_edge.presets import Clip, Preprocess

OPSET = 21  # ONNX Runtime 1.23, the newest for Python 3.10, has no LpNormalization of opset 22
FRAMES, CROP, EMBEDDING, QUERY, CAPACITY = 4, 16, 4, 6, 6
CLIP = Clip(frames=FRAMES, frames_per_second=4.0, stride=2)
PREPROCESS = Preprocess(short_side=16, crop=16, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))

TEXT = "<pad> <end> <unk> <wrong> a red screen green light glows blue yellow forever what colour is it describe"
WORDS = TEXT.split()
PAD, END, UNKNOWN, WRONG = range(4)

# By direction of the embedding. Yellow never ends: the capacity of the cache must stop it. Black has an empty text.
TEXTS = {
    (1, -1, -1): "a red screen",
    (-1, 1, -1): "green light glows",
    (-1, -1, 1): "blue",
    (1, 1, -1): "yellow forever forever forever forever forever",
    (-1, -1, -1): "",
}

# BGR, as frames are
RED, GREEN, BLUE, YELLOW, BLACK = (0, 0, 255), (0, 255, 0), (255, 0, 0), (0, 255, 255), (0, 0, 0)


def build(directory: Path, half: bool = False, gates: bundle.GateSettings | None = None) -> Path:
    """Write the bundle. With `half`, pixels, visual tokens and caches are float16."""
    directory.mkdir(parents=True)
    dtype = "float16" if half else "float32"
    engines = {
        "vision_encoder": _vision_encoder(directory, dtype),
        "predictor": _predictor(directory, dtype),
        "decoder": _decoder(directory, dtype),
        "text_encoder": _text_encoder(directory),
    }
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["<pad>", "<end>"])
    tokenizer.save(str(directory / "tokenizer.json"))
    files = sorted(path.name for path in directory.iterdir())
    bundle.write_manifest(
        directory,
        bundle.Manifest(
            preset="by-hand",
            embedding=EMBEDDING,
            preprocess=PREPROCESS,
            clip=CLIP,
            default_query="describe",
            engines=engines,
            tokenizers={
                "query": bundle.TokenizerSpec("tokenizer.json", QUERY, PAD),
                "decoder": bundle.TokenizerSpec("tokenizer.json", CAPACITY, PAD, END),
                "text_encoder": bundle.TokenizerSpec("tokenizer.json", QUERY, PAD, text_prefix="a "),
            },
            gates=gates or bundle.GateSettings(),
            files={name: bundle.seal(directory / name) for name in files},
            receipt={},
            parity={},
        ),
    )
    return directory


def embedding_of(colour: tuple[int, int, int], query: str = "describe") -> np.ndarray:
    """Return the embedding that the engines must compute for a clip in one colour (BGR)."""
    blue, green, red = (value / 127.5 - 1 for value in colour)
    of_query = 0.01 * sum(WORDS.index(word) for word in query.split())
    vector = np.array([red, green, blue, of_query], np.float32)
    return np.asarray(vector / np.linalg.norm(vector))


def _vision_encoder(directory: Path, dtype: str) -> bundle.EngineSpec:
    """Mean colour of each frame."""
    nodes = [
        helper.make_node("Cast", ["pixels"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["wide", "sides"], ["mean"], keepdims=0),
        helper.make_node("Cast", ["mean"], ["visual_tokens"], to=_element(dtype)),
    ]
    inputs = [("pixels", dtype, (1, FRAMES, 3, CROP, CROP))]
    outputs = [("visual_tokens", dtype, (1, FRAMES, 3))]
    return _save(directory, "vision_encoder", nodes, inputs, outputs, {"sides": np.array([3, 4])})


def _predictor(directory: Path, dtype: str) -> bundle.EngineSpec:
    """Mean over the frames, with a fourth component that depends on the query's words."""
    nodes = [
        helper.make_node("Cast", ["visual_tokens"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["wide", "frames"], ["colour"], keepdims=0),
        helper.make_node("Where", ["query_mask", "query_ids", "nothing"], ["words"]),
        helper.make_node("ReduceSum", ["words", "one"], ["sum"], keepdims=1),
        helper.make_node("Cast", ["sum"], ["asked"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["asked", "hundredth"], ["query"]),
        helper.make_node("Concat", ["colour", "query"], ["joined"], axis=1),
        helper.make_node("LpNormalization", ["joined"], ["embedding"], axis=1, p=2),
    ]
    inputs = [
        ("visual_tokens", dtype, (1, FRAMES, 3)),
        ("query_ids", "int64", (1, QUERY)),
        ("query_mask", "bool", (1, QUERY)),
    ]
    constants = {
        "frames": np.array([1]),
        "one": np.array([1]),
        "nothing": np.array(0),
        "hundredth": np.array(0.01, np.float32),
    }
    return _save(directory, "predictor", nodes, inputs, [("embedding", "float32", (1, EMBEDDING))], constants)


def _decoder(directory: Path, dtype: str) -> bundle.EngineSpec:
    """Caches: value 0 holds the embedding, key p the token that was fed in at position p."""
    cache = (1, 1, CAPACITY, EMBEDDING)
    inputs = [
        ("embedding", "float32", (1, EMBEDDING)),
        ("token", "int64", (1, 1)),
        ("position", "int64", (1,)),
        ("key_cache_0", dtype, cache),
        ("value_cache_0", dtype, cache),
    ]
    outputs = [
        ("next_token", "int64", (1, 1)),
        ("logits", "float32", (1, len(WORDS))),
        ("key_cache_out_0", dtype, cache),
        ("value_cache_out_0", dtype, cache),
    ]
    in_place = {"key_cache_out_0": "key_cache_0", "value_cache_out_0": "value_cache_0"}
    return _save(directory, "decoder", _decoder_nodes(_element(dtype)), inputs, outputs, _decoder_constants(), in_place)


def _decoder_nodes(element: int) -> list[Any]:
    return [
        helper.make_node("Expand", ["position", "row"], ["written_row"]),
        helper.make_node("Cast", ["embedding"], ["prefix"], to=element),
        helper.make_node("Reshape", ["prefix", "row"], ["value"]),
        helper.make_node("ScatterElements", ["value_cache_0", "written_row", "value"], ["value_cache_out_0"], axis=2),
        helper.make_node("Equal", ["position", "nothing"], ["begins"]),
        helper.make_node("Where", ["begins", "nothing2", "token"], ["fed"]),
        helper.make_node("Cast", ["fed"], ["fed_value"], to=element),
        helper.make_node("Expand", ["fed_value", "row"], ["key"]),
        helper.make_node("ScatterElements", ["key_cache_0", "written_row", "key"], ["key_cache_out_0"], axis=2),
        # select the text by the embedding that is in the cache since position 0
        helper.make_node("Cast", ["value_cache_out_0"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("Slice", ["values", "zero", "one", "two"], ["first"]),
        helper.make_node("Reshape", ["first", "flat"], ["direction"]),
        helper.make_node("MatMul", ["direction", "directions"], ["scores"]),
        helper.make_node("ArgMax", ["scores"], ["text"], axis=1, keepdims=1),
        helper.make_node("Gather", ["said", "position"], ["here"], axis=1),
        helper.make_node("GatherElements", ["here", "text"], ["right_token"], axis=0),
        # compare the history in the cache with that of the text; later positions are masked
        helper.make_node("Cast", ["key_cache_out_0"], ["keys"], to=TensorProto.FLOAT),
        helper.make_node("Slice", ["keys", "zero", "one", "three"], ["column"]),
        helper.make_node("Reshape", ["column", "flat_cache"], ["tokens"]),
        helper.make_node("LessOrEqual", ["positions", "position"], ["seen"]),
        helper.make_node("Where", ["seen", "tokens", "nothing_float"], ["seen_tokens"]),
        helper.make_node("ReduceSum", ["seen_tokens", "one"], ["sum"], keepdims=1),
        helper.make_node("Gather", ["history", "position"], ["wanted_here"], axis=1),
        helper.make_node("GatherElements", ["wanted_here", "text"], ["wanted"], axis=0),
        helper.make_node("Equal", ["sum", "wanted"], ["right"]),
        helper.make_node("Where", ["right", "right_token", "wrong"], ["choice"]),
        helper.make_node("Gather", ["one_hot", "choice"], ["rows"], axis=0),
        helper.make_node("Reshape", ["rows", "flat_words"], ["logits"]),
        helper.make_node("ArgMax", ["logits"], ["next_token"], axis=1, keepdims=1),
    ]


def _decoder_constants() -> dict[str, np.ndarray]:
    ids = [[WORDS.index(word) for word in text.split()] + [END] for text in TEXTS.values()]
    said = np.array([(row + [END] * CAPACITY)[:CAPACITY] for row in ids])  # [text, position]: token chosen there
    fed = np.concatenate([np.zeros((len(said), 1), np.int64), said[:, :-1]], axis=1)  # token that was fed in
    history = np.cumsum(fed, axis=1).astype(np.float32)
    directions = np.array([[*colour, 0] for colour in TEXTS], np.float32)
    return {
        "row": np.array([1, 1, 1, EMBEDDING]),
        "nothing": np.array([0]),
        "nothing2": np.array([[0]]),
        "nothing_float": np.array(0, np.float32),
        "zero": np.array([0]),
        "one": np.array([1]),
        "two": np.array([2]),
        "three": np.array([3]),
        "flat": np.array([1, EMBEDDING]),
        "flat_cache": np.array([1, CAPACITY]),
        "flat_words": np.array([1, len(WORDS)]),
        "positions": np.arange(CAPACITY)[None],
        "directions": (directions / np.linalg.norm(directions, axis=1, keepdims=True)).T.copy(),
        "said": said,
        "history": history,
        "wrong": np.array([[WRONG]]),
        "one_hot": np.eye(len(WORDS), dtype=np.float32),
    }


def _text_encoder(directory: Path) -> bundle.EngineSpec:
    """Mean of the words' directions; the word of a colour has the direction of its frames."""
    table = np.full((len(WORDS), EMBEDDING), 0.01, np.float32)
    for word, colour in (("red", (1, -1, -1)), ("green", (-1, 1, -1)), ("blue", (-1, -1, 1))):
        table[WORDS.index(word)] = (*colour, 0.15)
    nodes = [
        helper.make_node("Gather", ["table", "text_ids"], ["words"], axis=0),
        helper.make_node("Cast", ["text_mask"], ["weights"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["weights", "two"], ["column"]),
        helper.make_node("Mul", ["words", "column"], ["weighted"]),
        helper.make_node("ReduceSum", ["weighted", "one"], ["sum"], keepdims=0),
        helper.make_node("LpNormalization", ["sum"], ["embedding"], axis=1, p=2),
    ]
    inputs = [("text_ids", "int64", (1, QUERY)), ("text_mask", "bool", (1, QUERY))]
    constants = {"table": table, "one": np.array([1]), "two": np.array([2])}
    return _save(directory, "text_encoder", nodes, inputs, [("embedding", "float32", (1, EMBEDDING))], constants)


def _element(dtype: str) -> int:
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def _save(
    directory: Path,
    name: str,
    nodes: list[Any],
    inputs: Sequence[tuple[str, str, tuple[int, ...]]],
    outputs: Sequence[tuple[str, str, tuple[int, ...]]],
    constants: dict[str, np.ndarray],
    in_place: dict[str, str] | None = None,
) -> bundle.EngineSpec:
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info(n, _element(dtype), shape) for n, dtype, shape in inputs],
        [helper.make_tensor_value_info(n, _element(dtype), shape) for n, dtype, shape in outputs],
        [numpy_helper.from_array(np.asarray(value), n) for n, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, directory / f"{name}.onnx")
    return bundle.EngineSpec(
        file=f"{name}.onnx",
        precision="fp32",
        opset=OPSET,
        inputs=tuple(bundle.TensorSpec(*tensor) for tensor in inputs),
        outputs=tuple(bundle.TensorSpec(*tensor) for tensor in outputs),
        in_place=in_place or {},
    )
