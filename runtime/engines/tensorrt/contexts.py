"""The execution contexts of an engine, one for each number of tokens that it is given, and their CUDA graphs.

A graph that was captured from a context is wrong once the context is changed, so each number of tokens has a context of
its own, with its optimization profile. Since no two of them run at the same time, they share their scratch memory: both
is NVIDIA's advice (TensorRT's developer guide, CUDA graphs). The weights belong to the engine, and are there once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlj_edge.bundle import EngineSpec
from vlj_edge.errors import VljEdgeError

from .device import Buffer

if TYPE_CHECKING:
    from .engine import Session


@dataclass(eq=False)
class CapturedContext:
    """An execution context, and the CUDA graph that was captured from it; None: it has none yet."""

    context: Any
    graph: Any = None


class Contexts:
    """Makes each context when it is first needed.

    Args:
        path: of the engine, for errors.
        spec: of the engine.
        buffers: of all tensors, by name; as large as all tokens need.
        stream: on which every context runs.
    """

    def __init__(
        self, session: Session, path: Path, engine: Any, spec: EngineSpec, buffers: dict[str, Buffer], stream: int
    ) -> None:
        self._session, self._path, self._engine, self._spec = session, path, engine, spec
        self._buffers, self._stream = buffers, stream
        self._profiles = profiles_of(engine, spec)
        self._scratch = session.device.allocate(engine.device_memory_size_v2) if self._profiles else None
        self._made: dict[int | None, CapturedContext] = {}

    def of(self, tokens: int | None) -> CapturedContext:
        """Return the context for so many tokens, one of profiles_of(); None: of an engine that takes all alone.

        Raises:
            VljEdgeError: the card has no memory for it, or TensorRT refuses it.
        """
        if tokens not in self._made:
            self._made[tokens] = CapturedContext(self._create(tokens))
        return self._made[tokens]

    def rebind(self, name: str) -> None:
        """Give a tensor's buffer, which was exchanged, to all contexts. Their graphs are captured again.

        Raises:
            VljEdgeError: TensorRT refuses the buffer.
        """
        for made in self._made.values():
            made.graph = None
            self._set_address(made.context, name)

    def _create(self, tokens: int | None) -> Any:
        context = self._engine.create_execution_context() if self._scratch is None else self._without_scratch()
        if context is None:
            raise VljEdgeError(
                f"{self._path} does not fit on the card ({self._session.last_error()}): close other programs"
            )
        if self._scratch is not None and tokens is not None:
            self._shape(context, tokens)
            context.set_device_memory(self._scratch.address, self._scratch.size)
        for name in self._buffers:
            self._set_address(context, name)
        return context

    def _without_scratch(self) -> Any:
        """Return a context that has no scratch memory yet."""
        trt, engine = self._session.trt, self._engine
        strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        if not hasattr(engine, "create_runtime_config"):  # such as TensorRT 10.3
            return engine.create_execution_context(strategy)
        config = engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(strategy)
        if hasattr(trt, "DynamicShapesKernelSpecializationStrategy"):
            # Otherwise TensorRT-RTX may begin with slower kernels that fit any shape, and the graph would keep them.
            config.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.EAGER
        return engine.create_execution_context(config)

    def _shape(self, context: Any, tokens: int) -> None:
        try:  # False or, in most versions, an exception says that a profile is refused
            accepted = context.set_optimization_profile_async(self._profiles[tokens], self._stream)
        except RuntimeError:
            accepted = False
        for tensor in self._spec.by_tokens:
            accepted = accepted and context.set_input_shape(tensor.name, tensor.shape_of(tokens))
        if not accepted:
            raise VljEdgeError(
                f"{self._path}: TensorRT refuses {tokens} tokens ({self._session.last_error()}): build it again with"
                " vlj-edge build --force, or give --tokens all"
            )

    def _set_address(self, context: Any, name: str) -> None:
        if not context.set_tensor_address(name, self._buffers[name].address):
            raise VljEdgeError(
                f"{self._path}: TensorRT refuses the memory of {name} ({self._session.last_error()}): build it again"
                " with vlj-edge build --force, or run with --backend onnxruntime"
            )


def profiles_of(engine: Any, spec: EngineSpec) -> dict[int, int]:
    """Return the numbers of tokens that an engine was built for -> its optimization profile; empty: it takes all tokens
    alone."""
    names = [engine.get_tensor_name(number) for number in range(engine.num_io_tensors)]
    for tensor in spec.by_tokens:
        shape = tuple(engine.get_tensor_shape(tensor.name)) if tensor.name in names else ()
        if -1 in shape:
            profiles = range(engine.num_optimization_profiles)
            shapes = [tuple(engine.get_tensor_profile_shape(tensor.name, number)[1]) for number in profiles]
            return {built_for[shape.index(-1)]: number for number, built_for in enumerate(shapes)}
    return {}
