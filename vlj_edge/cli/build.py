"""vlj-edge build: TensorRT engines for the card in this machine, or ahead of time for another."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import click

from .options import bundle_argument, key_file_option
from .progress import steps
from .say import say, stdout_console

if TYPE_CHECKING:
    from vlj_edge.export.tensorrt.build import BuildResult

    from ..bundle.engine_cache import RuntimeId
    from ..targets import Target
    from ..tensorrt_package import TensorRtPackage


@click.command(short_help="Build a bundle's TensorRT engines, for this device or others.")
@bundle_argument
@click.option("--target", "target_name", help="Target (jetson-orin, rtx, ...) or compute capability (sm86, ...).")
@click.option("--engine", "names", multiple=True, help="Build this engine only; may be repeated.")
@click.option("--workspace", type=int, metavar="MB", help="Limit of an engine's scratch memory.")
@click.option("--force", is_flag=True, help="Build engines that are up to date too.")
@key_file_option
def build(
    bundle: Path | None, target_name: str | None, names: tuple[str, ...], workspace: int | None, force: bool
) -> None:
    """Build TensorRT engines from BUNDLE (default: nano) into its engines/ folder.

    They are for the card in this machine. For another --target, TensorRT-RTX builds them ahead of time, without a card.
    """
    from ..bundle import nano_bundle

    build_for(bundle or nano_bundle(), target_name, names=names, workspace=workspace, force=force)


def build_for(
    directory: Path,
    target_name: str | None,
    names: tuple[str, ...] = (),
    workspace: int | None = None,
    force: bool = False,
) -> None:
    """Build the engines and print a table of them.

    Raises:
        VljEdgeError: there is nothing to build, no TensorRT that can build it, or the build fails.
    """

    from vlj_edge.export.tensorrt.build import build_engines
    from vlj_edge.runtime.engines.tensorrt.device import driver_found

    from ..bundle import read_manifest
    from ..errors import VljEdgeError, WrongCall
    from ..targets import target

    goal = target(target_name) if target_name is not None else None
    if goal is not None and goal.backend != "tensorrt":
        raise WrongCall(f"{goal.name} runs the bundle on ONNX Runtime: there is nothing to build")
    if workspace is None and goal is not None:
        workspace = goal.workspace_mb
    manifest = read_manifest(directory)
    unknown = [name for name in names if name not in manifest.engines]
    if unknown:
        raise WrongCall(f"{directory} has no {', '.join(unknown)}: it has {', '.join(manifest.engines)}")
    if goal is not None and goal.on_board and not driver_found():
        raise VljEdgeError(
            f"engines for {goal.name} are built on the board, so on a Jetson run vlj-edge build there:"
            f" {on_board(directory, goal)}"
        )
    trt, runtime = runtime_for(goal.sm if goal is not None else None)
    with steps() as step:
        built = build_engines(
            directory,
            manifest,
            trt,
            runtime,
            names=names or None,
            workspace_mb=workspace,
            force=force,
            progress=step,
        )
    _print(directory, runtime, built)
    say(_next(directory, runtime))


def on_board(directory: Path, goal: Target) -> str:
    """Return what to type to bring a bundle to a board and build its engines there."""
    name = quote(directory.resolve().name)
    return f"scp -r {quote(str(directory))} BOARD: and there vlj-edge build {name} --target {goal.name}"


def _next(directory: Path, runtime: RuntimeId) -> str:
    """Return what to type once the engines are built."""
    from ..bundle import BUILT_ENGINES

    if runtime.device is not None:
        return f"next, vlj-edge verify {quote(str(directory))} --backend tensorrt --source VIDEO"
    name = directory.resolve().name
    engines = f"{name}/{BUILT_ENGINES}/{runtime.folder}"
    return (
        f"next, on a machine with such a card: scp -r {quote(str(directory))} MACHINE: and there"
        f" vlj-edge narrate VIDEO --bundle {quote(name)} --engines {quote(engines)}"
    )


def runtime_for(sm: str | None) -> tuple[TensorRtPackage, RuntimeId]:
    """Return the TensorRT package, and the device to build for: the card in this machine, or `sm` ahead of time.

    Raises:
        VljEdgeError: there is no TensorRT, or it cannot build for `sm`; or `sm` is None and there is no card.
    """
    from vlj_edge.export.tensorrt.build import compute_capability
    from vlj_edge.runtime.engines.tensorrt.device import driver_found, open_device

    from ..bundle.engine_cache import RuntimeId
    from ..errors import VljEdgeError
    from ..tensorrt_package import import_tensorrt, installed

    if driver_found():
        device = open_device()
        if sm in (None, device.sm):
            trt = import_tensorrt()
            return trt, RuntimeId(trt.package, trt.version, device.sm, device.name)
    if sm is None:
        raise VljEdgeError(
            "this machine has no NVIDIA card to build for: name one with --target sm86 (or sm89, sm120 ...), or run"
            " this command on the device"
        )
    # Only TensorRT-RTX builds ahead of time; compute_capability() raises for any other.
    trt = import_tensorrt("tensorrt_rtx" if "tensorrt_rtx" in installed() else None)
    compute_capability(trt, sm)
    return trt, RuntimeId(trt.package, trt.version, sm, None)


def _print(directory: Path, runtime: RuntimeId, built: list[BuildResult]) -> None:
    from rich.table import Table

    from ..bundle import BUILT_ENGINES

    console = stdout_console()
    table = Table("engine", "precision", "MB", "s", "layers", "attention", title=runtime.folder, title_justify="left")
    for engine in built:
        fused = f"{engine.attention - engine.decomposed} of {engine.attention} fused" if engine.attention else ""
        fused = f"{engine.ours} by our kernel" if engine.ours else fused
        seconds = "current" if engine.again else f"{engine.seconds:.1f}"
        table.add_row(engine.name, engine.precision, f"{engine.megabytes:.1f}", seconds, str(engine.layers), fused)
    console.print(table)
    for engine in built:
        if len(engine.tokens) > 1:
            *parts, whole = engine.tokens
            console.print(f"{engine.name}: takes {', '.join(map(str, parts))} or all {whole} tokens of a clip")
        if engine.decomposed:
            console.print(
                f"{engine.name}: TensorRT has no fused attention for {engine.precision} in these shapes: decomposed"
            )
        if engine.unfolded:
            console.print(
                f"{engine.name}: {engine.unfolded} weights have 8 bits in the bundle, in a way that TensorRT does not"
                " support: the engine stores them in the type it computes in"
            )
    console.print(f"{directory / BUILT_ENGINES / runtime.folder}")
