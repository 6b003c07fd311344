"""The weights of an export as paths: what a public repository's name stands for is fetched, with a bar."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import VljEdgeError, WrongCall, require
from .say import stderr_console, tell

if TYPE_CHECKING:
    from vlj_edge.export.hub import Name, Repository, Wanted
    from vlj_edge.export.hub.fetch import Watcher
    from vlj_edge.export.hub.listing import Listing

PARTS = ("weights", "vision_encoder", "predictor", "text_encoder", "decoder")
_CHECKPOINTS = (".pt", ".pth")  # of open-vljepa, see WeightSources.is_open_vljepa
_FILES = (*_CHECKPOINTS, ".safetensors", ".gguf", ".onnx", ".bin")


def with_public_weights(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of `export` with a path for each of PARTS, and "repositories", those that were fetched.

    Whatever can be checked before a download is.

    Raises:
        VljEdgeError: a name is of another form, the call is wrong, or a repository cannot be fetched.
    """
    from vlj_edge.export.hub import Wanted, open_vljepa

    given = {part: str(options[part]) for part in PARTS if options[part] is not None}
    names = {part: name for part, text in given.items() if (name := _name_in(text)) is not None}
    if not names:
        return {**options, **{part: Path(text) for part, text in given.items()}}
    if options["fp16"] and options["precision"] is not None:
        raise WrongCall("--fp16 and --precision exclude each other: --fp16 means --precision fp16")
    is_open_vljepa = "weights" in names and names["weights"].repository == open_vljepa.REPOSITORY
    if is_open_vljepa:
        options = _for_open_vljepa(options)
    options = {**options, "out": options["out"] or _default_out(options, names)}
    _check(options)
    paths = {part: Path(text) for part, text in given.items()}
    repositories: list[Repository] = []
    if is_open_vljepa:
        found, repositories = open_vljepa.fetch_all(names.pop("weights"), given, _fetch)
        paths.update(found)
    has_checkpoint = "weights" in paths and paths["weights"].suffix in _CHECKPOINTS
    for part, name in names.items():
        needs = open_vljepa.PARTS.get(part) if has_checkpoint else None
        check = partial(_check_family, name, options["frames"]) if part == "weights" else _check_nothing
        repositories.append(_fetch(name, needs[1] if needs is not None else Wanted(), check))
        paths[part] = repositories[-1].directory
    return {**options, **paths, "repositories": tuple(repositories)}


def _for_open_vljepa(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options with those that open-vljepa needs, where they were left at their defaults."""
    from vlj_edge.export.hub import open_vljepa

    precision = "fp16" if options["fp16"] else options["precision"]
    if precision in open_vljepa.PRECISION:
        tell(f"--precision {open_vljepa.PRECISION[precision]} is taken: EmbeddingGemma does not run in fp16")
    return {
        **options,
        "preset_name": open_vljepa.PRESET if options["preset_name"] == "nano" else options["preset_name"],
        "frames": options["frames"] or open_vljepa.FRAMES,
        "fp16": False,
        "precision": open_vljepa.PRECISION.get(precision, precision),
    }


def _name_in(text: str) -> Name | None:
    """Return the repository that a text names, or None if it is a path. What exists here is a path: of a directory that
    could also be a repository, a line says so.

    Raises:
        VljEdgeError: it is neither.
    """
    from vlj_edge.export.hub import parse_name

    if Path(text).is_dir():
        with suppress(VljEdgeError):
            other = f"{parse_name(text).repository}@main"
            tell(f"{text} is a directory here, and that is used; the repository of that name is {other}")
        return None
    if Path(text).exists():
        return None
    if text.startswith((".", "/", "~")) or text.endswith(_FILES) or not ("/" in text or "@" in text):
        return None
    return parse_name(text)


def _default_out(options: dict[str, Any], names: dict[str, Name]) -> Path | None:
    """Return NAME-PRECISION or NAME-TARGET for a repository with all the weights."""
    if "weights" not in names:
        return None
    precision = "fp16" if options["fp16"] else options["precision"] or "fp32"
    suffix = options["target_name"] or precision.partition(",")[0].rpartition("=")[2]
    return Path(f"{names['weights'].repository.partition('/')[2]}-{suffix}")


def _check(options: dict[str, Any]) -> None:
    """Check what makes an export fail whatever the weights are."""
    from vlj_edge.export.precisions import select_precision, vision_is_scaled
    from vlj_edge.export.request import check_out, check_packages, clips_missing

    from ..presets import preset
    from ..targets import target
    from .build import runtime_for

    goal = target(options["target_name"]) if options["target_name"] is not None else None
    if options["engine"] == "tensorrt":
        runtime_for(goal.sm if goal is not None else None)
    if options["calibrate_on"] is not None and not options["calibrate_on"].exists():
        raise VljEdgeError(f"{options['calibrate_on']} does not exist: name a video with --calibrate-on")
    if options["out"] is not None:
        check_out(options["out"], options["overwrite"])
    precision, flavour = options["precision"], options["flavour"] or "native"
    chosen = "fp16" if options["fp16"] else precision or (goal.precision if goal is not None else None)
    if options["calibrate_on"] is None and vision_is_scaled(chosen):
        raise clips_missing(["vision_encoder"])
    select_precision(preset(options["preset_name"]), precision, flavour)  # whether there are such
    check_packages()
    require("huggingface_hub", "export")


def _check_nothing(directory: Path) -> None:
    """Check nothing: what a part of VL-JEPA holds is checked with all others."""


def _check_family(name: Name, frames: int | None, directory: Path) -> None:
    """Check, before the weights are fetched, that they can be exported."""
    from vlj_edge.export.families.find import architectures, is_checkpoint, read_shape
    from vlj_edge.export.weights.locations import CONFIG_FILE, QUERY_TOKENIZER

    if is_checkpoint(directory):
        read_shape(directory, frames)
    elif not (directory / QUERY_TOKENIZER).is_file():
        raise VljEdgeError(
            f"{name} has no {CONFIG_FILE}, so its family is not known: name a repository of"
            f" {', '.join(architectures())} (vlj-edge models lists some)"
        )


def _fetch(name: Name, wanted: Wanted, before_weights: Callable[[Path], None] = _check_nothing) -> Repository:
    """Fetch a repository and show how far it is."""
    from vlj_edge.export.hub import fetch

    with _bar() as watcher:
        return fetch(name, wanted=wanted, before_weights=before_weights, watcher=watcher)


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
