"""The weights of an export as paths: what a public repository's name stands for is fetched, with a bar."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import VljEdgeError, require
from .say import stderr_console, tell

if TYPE_CHECKING:
    from vlj_edge.export.hub import Name, Repository
    from vlj_edge.export.hub.fetch import Watcher
    from vlj_edge.export.hub.listing import Listing

PARTS = ("weights", "vision_encoder", "predictor", "text_encoder", "decoder")
_FILES = (".pt", ".pth", ".safetensors", ".gguf", ".onnx", ".bin")


def with_public_weights(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of `export` with a path for each of PARTS, and "repositories", those that were fetched.

    Whatever can be checked before a download is.

    Raises:
        VljEdgeError: a name is of another form, the call is wrong, or a repository cannot be fetched.
    """
    given = {part: str(options[part]) for part in PARTS if options[part] is not None}
    names = {part: name for part, text in given.items() if (name := _name_in(text)) is not None}
    if not names:
        return {**options, **{part: Path(text) for part, text in given.items()}}
    options = {**options, "out": options["out"] or _default_out(options, names)}
    _check(options)
    fetched = {part: _fetch(name) for part, name in names.items()}
    paths = {part: fetched[part].directory if part in fetched else Path(text) for part, text in given.items()}
    return {**options, **paths, "repositories": tuple(fetched.values())}


def _name_in(text: str) -> Name | None:
    """Return the repository that a text names, or None if it is a path. What exists here is a path.

    Raises:
        VljEdgeError: it is neither.
    """
    from vlj_edge.export.hub import parse_name

    if Path(text).exists():
        with suppress(VljEdgeError):
            other = f"{parse_name(text).repository}@main"
            tell(f"{text} is a path here, and that is used; the repository of that name is {other}")
        return None
    if text.startswith((".", "/", "~")) or text.endswith(_FILES) or not ("/" in text or "@" in text):
        return None
    return parse_name(text)


def _default_out(options: dict[str, Any], names: dict[str, Name]) -> Path | None:
    """Return NAME-PRECISION or NAME-TARGET for a repository with all the weights."""
    if "weights" not in names:
        return None
    precision = "fp16" if options["fp16"] else options["precision"] or "fp32"
    suffix = options["target_name"] or (precision if "=" not in precision else "mixed")
    return Path(f"{names['weights'].repository.partition('/')[2]}-{suffix}")


def _check(options: dict[str, Any]) -> None:
    """Check what makes an export fail whatever the weights are."""
    from vlj_edge.export.precisions import select_precision
    from vlj_edge.export.request import check_out, check_packages

    from ..presets import preset
    from ..targets import target

    if options["fp16"] and options["precision"] is not None:
        raise VljEdgeError("--fp16 and --precision exclude each other: --fp16 means --precision fp16")
    if options["target_name"] is not None:
        target(options["target_name"])
    if options["calibrate_on"] is not None and not options["calibrate_on"].exists():
        raise VljEdgeError(f"{options['calibrate_on']} does not exist: name a video with --calibrate-on")
    if options["out"] is not None:
        check_out(options["out"], options["overwrite"])
    select_precision(preset("nano"), options["precision"], options["flavour"] or "native")  # whether such are known
    check_packages()
    require("huggingface_hub", "export")


def _fetch(name: Name) -> Repository:
    """Fetch a repository and show how far it is."""
    from vlj_edge.export.hub import fetch

    with _bar() as watcher:
        return fetch(name, watcher=watcher)


@contextmanager
def _bar() -> Iterator[Watcher]:
    """Yield what shows a download on stderr, where that is a terminal."""
    from rich import progress

    console = stderr_console()
    columns = (progress.BarColumn(), progress.DownloadColumn(), progress.TransferSpeedColumn())
    with progress.Progress(
        *columns, progress.TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("", start=False, visible=False)

        class Shown:
            def begin(self, name: Name, listing: Listing, missing: int) -> None:
                size = f"{missing / 1e6:,.1f} MB to fetch" if missing else "in the cache"
                licence = f"licence {listing.licence}" if listing.licence else "no licence stated"
                if console.is_terminal:
                    tell(f"{name.repository}: commit {listing.commit}, {licence}, {size}")
                bar.update(task, total=missing, visible=missing > 0)
                bar.start_task(task)

            def add(self, count: int) -> None:
                bar.update(task, advance=count)

        yield Shown()
