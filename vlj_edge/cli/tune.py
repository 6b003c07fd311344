"""vlj-edge tune: measure the fastest backend, threads and arithmetic on this machine, and keep the result."""

from __future__ import annotations

from pathlib import Path

import click

from .options import bundle_argument
from .progress import steps
from .say import stdout_console, tell


@click.command(short_help="Find the fastest backend and settings for this machine.")
@bundle_argument
def tune(bundle: Path | None) -> None:
    """Try backends, threads, spinning, bf16 and TF32 with BUNDLE (nano if not given); save the best in its engines/
    folder.

    OpenVINO is tried if it is installed (pip install 'vlj-edge[openvino]'), CUDA with vlj-edge[gpu] in place of
    vlj-edge[cpu] where there is a card. TensorRT is not compared: once its engines are built, they run. A setting whose
    embeddings have a cosine below 0.999 to ONNX Runtime's on the CPU is refused, however fast.
    """
    from rich.table import Table

    from vlj_edge.runtime.engines import tuning

    from ..bundle import nano_bundle, read_manifest
    from ..telemetry import import_onnxruntime

    directory = bundle or nano_bundle()
    manifest = read_manifest(directory)
    import_onnxruntime()
    with steps() as step:
        tried = tuning.tune(directory, manifest, progress=step, left_out=tell)
    console = stdout_console()
    table = Table("backend", "threads", "how", "ms a window", "CPU ms a window", "cosine", "")
    for one in tried:
        how = {one.tuning.spin: "spinning", one.tuning.bf16: "bf16", one.tuning.tf32: "TF32"}.get(True, "")
        kept = "kept" if one is tried[0] else "" if one.accepted else "refused"
        times = (f"{one.wall:.2f}", f"{one.cpu:.2f}", f"{one.cosine:.5f}")
        table.add_row(one.tuning.backend, str(one.tuning.threads), how, *times, kept)
    console.print(table)
