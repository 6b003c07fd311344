"""A copy of a bundle with other gates."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

from ..errors import VljEdgeError
from .gate_profile import LabelNumbers, ProfileReceipt, with_label_head, with_tokens
from .gate_settings import GateSettings
from .manifest import write_manifest
from .validate import read_manifest, verify_file


def check_new(out: Path | None) -> None:
    """Check that there is nothing at a path yet, where one is named.

    Raises:
        VljEdgeError: there is.
    """
    if out is not None and (out.exists() or out.is_symlink()):
        raise VljEdgeError(f"{out} is there already: remove it, or name another folder for the bundle")


def copy_with_gates(
    bundle: Path,
    out: Path,
    gates: GateSettings,
    made: ProfileReceipt,
    numbers: LabelNumbers | None = None,
    tokens: Literal["all", "auto"] | None = None,
) -> None:
    """Copy a bundle, without the engines that were built from it, and give the copy other gates.

    Every file is checked. The copy's build receipt says under `gates` how they were made.

    Args:
        numbers: of the label head; None: they stay.
        tokens: that are computed where nothing is asked for; None: as it was.

    Raises:
        VljEdgeError: `out` exists or cannot be written, or a file of the bundle is not the one that was exported.
    """
    check_new(out)
    manifest = read_manifest(bundle)
    scratch: Path | None = None
    try:
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.absolute().parent))
        for name in manifest.files:
            place = scratch / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(verify_file(bundle, name, manifest), place)
        changed = replace(manifest, gates=gates, receipt=manifest.receipt | {"gates": asdict(made)})
        write_manifest(scratch, with_tokens(with_label_head(changed, numbers), tokens))
        scratch.chmod(0o755)  # mkdtemp makes it private
        scratch.rename(out)
    except OSError as error:
        raise VljEdgeError(
            f"{out} cannot be written ({error.strerror or error}): free some space or name another folder"
        ) from error
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)
