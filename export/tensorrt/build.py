"""Build TensorRT engines from a bundle's graphs, on the device or ahead of time, into the bundle's engines/ folder."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlj_edge.bundle import FileSeal, Manifest
from vlj_edge.bundle.engine_cache import Receipt, RuntimeId, engine_sources, is_up_to_date, read_report, store_engine
from vlj_edge.bundle.graph_files import unchanged, verify_graph
from vlj_edge.cuda import cubins
from vlj_edge.errors import VljEdgeError
from vlj_edge.memory import require_memory
from vlj_edge.tensorrt_package import TensorRtPackage

from .fused_attention import register
from .int8_blocks import without_int8_blocks
from .network import Network, add_profiles, attention, check, parse, plugin_layers, quiet

_MEMORY_PER_BYTE = 4  # a build was measured to take 3 to 4 times the memory of the weights


@dataclass(frozen=True)
class BuildResult:
    """One engine, built now or earlier.

    Attributes:
        seconds: duration of the build.
        layers: number of layers of the TensorRT network.
        attention: number of Attention operators in the graph; 0 in the portable flavour.
        decomposed: those of them for which TensorRT has no fused kernel.
        unfolded: number of weights stored in 8 bits in a way that TensorRT does not support (int8_blocks.py).
        again: whether the engine was up to date and not built.
        ours: number of attention operators that run this project's kernel (the fused flavour).
        tokens: numbers of a clip's tokens that it takes, an optimization profile each; empty: it takes no other number.
    """

    name: str
    precision: str
    megabytes: float
    seconds: float
    layers: int
    attention: int
    decomposed: int
    unfolded: int
    again: bool
    ours: int = 0
    tokens: Sequence[int] = ()


def build_engines(
    directory: Path,
    manifest: Manifest,
    trt: TensorRtPackage,
    runtime: RuntimeId,
    *,
    names: Iterable[str] | None = None,
    workspace_mb: int | None = None,
    force: bool = False,
    progress: Callable[[str], None] = lambda step: None,
) -> list[BuildResult]:
    """Build the bundle's engines for `runtime` into engines/<device>-<version>/; those that are up to date stay.

    Args:
        runtime: with a device, the card of this machine; without one, engines are built ahead of time for its sm, which
            only TensorRT-RTX can.
        names: of the engines to build; None: all.
        workspace_mb: limit of the engines' scratch memory.
        force: build what is up to date too.

    Raises:
        VljEdgeError: a file does not match the manifest, this TensorRT cannot build the graph or build for this sm, or
            an engine would compute in another precision than the bundle's. Engines built before that stay.
    """
    done = []
    for name in names or manifest.engines:
        spec = manifest.engines[name]
        options: dict[str, Any] = {"workspace_mb": workspace_mb, "ahead_of_time": runtime.device is None}
        if manifest.tokens is not None and spec.by_tokens:
            options["tokens"] = list(manifest.tokens.counts)
        if spec.plugins:  # the engine contains the kernel, so a changed kernel makes it out of date
            options["kernels"] = cubins.seal()["sha256"]
        again = not force and is_up_to_date(directory, manifest, name, runtime, options)
        if not again:
            progress(f"building {name} for {runtime.sm}")
            with unchanged(directory, engine_sources(manifest, name)):
                unsealed, plan = _build(directory, manifest, name, trt, runtime, options)
            store_engine(directory, unsealed, memoryview(plan))
        report = read_report(directory, name, runtime)
        done.append(BuildResult(name=name, precision=spec.precision, again=again, **report))
    return done


def _build(
    directory: Path, manifest: Manifest, name: str, trt: TensorRtPackage, runtime: RuntimeId, options: dict[str, Any]
) -> tuple[Receipt, Any]:
    """Return an engine and its receipt."""
    spec = manifest.engines[name]
    path, *weights = verify_graph(directory, spec.file, manifest)
    size = sum(each.stat().st_size for each in (path, *weights))
    require_memory(_MEMORY_PER_BYTE * size, f"building {name}", "close programs, or export it with --precision int4w")
    with tempfile.TemporaryDirectory() as scratch:
        if spec.plugins:
            register(trt, spec, runtime.sm)
        graph, unfolded = without_int8_blocks(path, Path(scratch))
        network = parse(trt, graph)
        check(network, path, spec)
        started = time.perf_counter()
        config = _config(network, trt, runtime, options)
        add_profiles(network, config, spec, options.get("tokens", ()))
        plan, decomposed = _serialise(network, trt, path, runtime, config)
        report = {
            "megabytes": round(plan.nbytes / 1e6, 2),
            "seconds": round(time.perf_counter() - started, 2),
            "layers": network.definition.num_layers,
            "attention": len(attention(network)),
            "decomposed": decomposed,
            "unfolded": unfolded,
            "ours": len(plugin_layers(network)),
            "tokens": options.get("tokens", ()),
        }
    return Receipt(name, "", FileSeal(0, ""), engine_sources(manifest, name), options, runtime, report), plan


def _serialise(network: Network, trt: TensorRtPackage, path: Path, runtime: RuntimeId, config: Any) -> tuple[Any, int]:
    """Return the serialised engine, and the number of attention operators that had to be decomposed."""
    operators = attention(network)
    with quiet():
        plan = network.builder.build_serialized_network(network.definition, config)
        if plan is None and operators:  # no fused kernel for this type or shape
            for operator in operators:
                operator.decomposable = True
            network.errors.clear()
            plan = network.builder.build_serialized_network(network.definition, config)
            if plan is not None:
                return plan, len(operators)
    if plan is None:
        raise VljEdgeError(
            f"{trt.package} {trt.version} cannot build {path} for {runtime.sm} ({network.first_error}): report this"
        )
    return plan, 0


def _config(network: Network, trt: TensorRtPackage, runtime: RuntimeId, options: dict[str, Any]) -> Any:
    module = trt.module
    config = network.builder.create_builder_config()
    if options["workspace_mb"] is not None:
        config.set_memory_pool_limit(module.MemoryPoolType.WORKSPACE, options["workspace_mb"] << 20)
    config.profiling_verbosity = module.ProfilingVerbosity.DETAILED  # keep the layers' names in the engine
    if "tokens" in options and hasattr(module.BuilderFlag, "REQUIRE_USER_ALLOCATION"):
        # With shapes that vary, TensorRT-RTX might allocate during a run otherwise, which no CUDA graph can hold.
        config.set_flag(module.BuilderFlag.REQUIRE_USER_ALLOCATION)
    if options["ahead_of_time"]:
        capability = compute_capability(trt, runtime.sm)
        config.num_compute_capabilities = 1
        config.set_compute_capability(capability, 0)
        if hasattr(module.BuilderFlag, "DISABLE_TIMING_CACHE"):  # timing needs a card
            config.set_flag(module.BuilderFlag.DISABLE_TIMING_CACHE)
    return config


def compute_capability(trt: TensorRtPackage, sm: str) -> Any:
    """Return TensorRT's member of ComputeCapability for "sm86".

    Raises:
        VljEdgeError: this TensorRT cannot build ahead of time, or not for this card; the message lists the others.
    """
    known = getattr(trt.module, "ComputeCapability", None)
    if known is None:
        raise VljEdgeError(
            f"{trt.package} {trt.version} cannot build ahead of time: run vlj-edge build on the device, or for a"
            " desktop's card install TensorRT-RTX (pip install 'vlj-edge[rtx]')"
        )
    names = [name for name in known.__members__ if name.startswith("SM")]
    if sm.upper() not in names:
        raise VljEdgeError(
            f"{trt.package} {trt.version} cannot build ahead of time for {sm}, only for"
            f" {', '.join(sorted(name.lower() for name in names))}: on a Jetson run vlj-edge build there"
        )
    return known.__members__[sm.upper()]
