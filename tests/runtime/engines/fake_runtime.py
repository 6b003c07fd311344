"""A fake TensorRT that enforces the rules of the real one, and runs the bundle's own graphs on a FakeCard.

Rules: TensorRT's developer guide (enqueueV3, tensor addresses, optimization profiles, one context a profile and a
graph, capture after a first run, aliased key-value caches).
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort

from tests.runtime.engines.fake_card import BrokenRule, FakeCard
from vlj_edge.bundle import EngineSpec

_NAMES = {"float32": "FLOAT", "float16": "HALF", "bfloat16": "BF16", "int64": "INT64", "int32": "INT32", "bool": "BOOL"}


class FakeRuntimeConfig:
    """IRuntimeConfig."""

    def __init__(self) -> None:
        self.strategy, self.dynamic_shapes_kernel_specialization_strategy = "static", "lazy"

    def set_execution_context_allocation_strategy(self, strategy: str) -> None:
        self.strategy = strategy


class FakeEngine:
    """ICudaEngine of one graph of a bundle. With `aliases` None it lacks aliased tensors and runtime configurations,
    like TensorRT 10.3.

    Args:
        counts: numbers of tokens that it was built for, a profile each; empty: all tokens alone.
    """

    def __init__(
        self,
        card: FakeCard,
        graph: Path,
        spec: EngineSpec,
        aliases: dict[str, str] | None,
        counts: tuple[int, ...] = (),
    ) -> None:
        self.card, self.spec = card, spec if counts else spec.of_all_tokens
        self.counts = counts if self.spec.by_tokens else ()
        self.num_optimization_profiles = len(self.counts) or 1
        self.device_memory_size_v2 = 1000
        self.contexts: list[FakeContext] = []
        self.tensors = [*spec.inputs, *spec.outputs]
        self.aliases = aliases or {}
        if aliases is not None:
            self.get_aliased_input_tensor = lambda name: aliases.get(name, "")
            self.create_runtime_config = FakeRuntimeConfig
        options = ort.SessionOptions()
        options.log_severity_level = 4
        self.graph = ort.InferenceSession(graph, options)
        self.num_io_tensors = len(self.tensors)

    def get_tensor_name(self, number: int) -> str:
        return self.tensors[number].name

    def get_tensor_dtype(self, name: str) -> Any:
        return SimpleNamespace(name=_NAMES[self._tensor(name).dtype])

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        tensor = self._tensor(name)
        return tuple(tensor.shape_of(-1 if self.counts else None))

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        return [self._tensor(name).shape_of(self.counts[profile])] * 3

    def create_execution_context(self, given: str | FakeRuntimeConfig = "static") -> FakeContext:
        if isinstance(given, FakeRuntimeConfig) and given.dynamic_shapes_kernel_specialization_strategy != "eager":
            raise BrokenRule("a graph would keep kernels that fit any shape")
        self.contexts.append(FakeContext(self, given.strategy if isinstance(given, FakeRuntimeConfig) else given))
        return self.contexts[-1]

    def _tensor(self, name: str) -> Any:
        return next(tensor for tensor in self.tensors if tensor.name == name)


class FakeContext:
    """IExecutionContext. `version` changes with everything that makes a graph wrong which was captured before."""

    def __init__(self, engine: FakeEngine, strategy: str) -> None:
        self.engine, self.addresses, self.ran = engine, dict[str, int](), False
        self.profile = None if engine.contexts else 0  # the first context of an engine has the first profile
        self.tokens: dict[str, int] = {}
        self.scratch: int | None = None
        self.has_own_scratch, self.version = strategy == "static", 0

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        if any(other.profile == profile for other in self.engine.contexts if other is not self):
            raise RuntimeError("Error in set optimization profile async.")  # another context has it
        self.engine.card._require_stream(stream)
        self.profile, self.tokens, self.ran, self.version = profile, {}, False, self.version + 1
        return 0 <= profile < self.engine.num_optimization_profiles

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        if self.profile is None or shape != self.engine.get_tensor_profile_shape(name, self.profile)[1]:
            return False
        self.tokens[name], self.ran, self.version = self.engine.counts[self.profile], False, self.version + 1
        return True

    def set_device_memory(self, address: int, size: int) -> None:
        if self.has_own_scratch or size < self.engine.device_memory_size_v2 or address % 256:
            raise BrokenRule(f"{size} bytes of scratch memory at {address:#x} are not what the context needs")
        self.engine.card.bytes_at(address, size)
        self.scratch, self.version = address, self.version + 1

    def set_tensor_address(self, name: str, address: int) -> bool:
        known = any(tensor.name == name for tensor in self.engine.tensors)
        if known:
            self.addresses[name] = address
        return known

    def execute_async_v3(self, stream: int) -> bool:
        engine, card = self.engine, self.engine.card
        if set(self.tokens) != {tensor.name for tensor in engine.spec.by_tokens}:
            raise BrokenRule("an input has no shape")
        if self.scratch is None and not self.has_own_scratch:
            raise BrokenRule("the context has no scratch memory")
        for tensor in engine.tensors:
            if tensor.name not in self.addresses:
                raise BrokenRule(f"{tensor.name} has no address")
            card.bytes_at(self.addresses[tensor.name], _size(tensor))
        self._check_aliases()
        if stream in card.recordings and not self.ran:
            raise BrokenRule("an engine was captured before it had run once")
        self.ran = self.ran or stream not in card.recordings
        addresses, version = dict(self.addresses), self.version
        card.queue_execution(stream, lambda: self._compute(addresses, version))
        return True

    def _check_aliases(self) -> None:
        inputs = {self.addresses[t.name]: t.name for t in self.engine.spec.inputs}
        for tensor in self.engine.spec.outputs:
            shared, expected = inputs.get(self.addresses[tensor.name]), self.engine.aliases.get(tensor.name)
            if shared != expected:
                raise BrokenRule(f"{tensor.name} shares memory with {shared}, and the engine expects {expected}")

    def _compute(self, addresses: dict[str, int], version: int) -> None:
        if version != self.version:
            raise BrokenRule("a context was changed before its work or graph was run")
        engine, card = self.engine, self.engine.card
        if self.scratch is not None:  # whatever another context left there is gone
            card.bytes_at(self.scratch, engine.device_memory_size_v2)[...] = 0xA5
        tokens = next(iter(self.tokens.values()), None)
        feed = {t.name: _view(card, addresses[t.name], t, tokens).copy() for t in engine.spec.inputs}
        names = [tensor.name for tensor in engine.spec.outputs]
        for tensor, values in zip(engine.spec.outputs, engine.graph.run(names, feed), strict=True):
            _view(card, addresses[tensor.name], tensor, tokens)[...] = values


class FakeTensorRT:
    """The module `tensorrt`. `plans` maps the bytes of a serialised engine to its graph; they were built for `counts`
    of tokens."""

    __version__ = "9.9.9"
    ExecutionContextAllocationStrategy = SimpleNamespace(STATIC="static", USER_MANAGED="of the user")
    DynamicShapesKernelSpecializationStrategy = SimpleNamespace(LAZY="lazy", EAGER="eager")

    class ILogger:
        INTERNAL_ERROR, ERROR, WARNING = 0, 1, 2

        def __init__(self) -> None:
            pass

    def __init__(self, card: FakeCard, aliased: bool = True, counts: tuple[int, ...] = ()) -> None:
        self.card, self.aliased, self.counts = card, aliased, counts
        self.plans: dict[bytes, tuple[Path, EngineSpec]] = {}

    def Runtime(self, log: Any) -> Any:
        def deserialize(plan: bytes) -> FakeEngine | None:
            if plan not in self.plans:
                log.log(self.ILogger.WARNING, "this is only a warning")
                log.log(self.ILogger.ERROR, "Serialization assertion\n magicTag failed")
                return None
            graph, spec = self.plans[plan]
            aliases = dict(spec.in_place) if self.aliased else None
            return FakeEngine(self.card, graph, spec, aliases, self.counts)

        return SimpleNamespace(deserialize_cuda_engine=deserialize)


def _size(tensor: Any) -> int:
    return int(np.prod(tensor.shape)) * np.dtype(tensor.dtype).itemsize


def _view(card: FakeCard, address: int, tensor: Any, tokens: int | None) -> np.ndarray:
    shape = tensor.shape_of(tokens)
    size = int(np.prod(shape)) * np.dtype(tensor.dtype).itemsize
    return card.bytes_at(address, size).view(tensor.dtype).reshape(shape)
