"""The files that commands write: the options that name them, the check that none is an input, and writing results."""

from __future__ import annotations

import glob
import io
import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import Any, TextIO

import click

from ..errors import SourceBrokeOff, VljEdgeError
from ..regular_file import with_home


class OutputPath(click.Path):
    """The type of every option that names an output; all other values may name inputs.

    Files in an output folder are checked where they are written.
    """

    def __init__(self, file_okay: bool = True, dir_okay: bool = False) -> None:
        super().__init__(path_type=Path, file_okay=file_okay, dir_okay=dir_okay, readable=False, writable=True)


output_file = OutputPath()
output_folder = OutputPath(file_okay=False, dir_okay=True)
RESULTS_STAY_AFTER = (KeyboardInterrupt, SourceBrokeOff)  # results until then are kept


def with_outputs_checked(command: click.Command) -> click.Command:
    """Return the command with a check, before it starts, that it overwrites none of its inputs."""
    callback = command.callback
    assert callback is not None

    @wraps(callback)
    def checked(*args: Any, **kwargs: Any) -> Any:
        _check(command, click.get_current_context().params)
        return callback(*args, **kwargs)

    command.callback = checked
    return command


def files_named_by(value: object) -> Iterator[Path | int]:
    """Yield the files and folders that a value on the command line may name, whether or not they exist: as a
    path, NAME=SOURCE, file:// URI, pattern, VIDEO@TIME or folder of videos; 0 for stdin."""
    from vlj_edge.runtime.video.paths import path_of
    from vlj_edge.runtime.video.recordings.stdin import pipe_options

    from ..variables import with_variables
    from .source_names import name_and_uri

    if isinstance(value, (tuple, list)):
        for each in value:
            yield from files_named_by(each)
    if not isinstance(value, (str, Path)):
        return
    uri = name_and_uri(str(value))[1]
    with suppress(VljEdgeError, ValueError):  # unreadable values are refused later
        if pipe_options(uri) is not None:
            yield 0
        path = path_of(with_variables(uri))
        yield from [] if path is None else _with_contents(path)
    yield with_home(value)
    yield Path(str(value).rpartition("@")[0])
    yield from map(Path, re.findall(r"\blocation=[\"']?([^\"'\s]+)", uri) if uri.startswith("gst:") else [])
    if re.search(r"[*?[]", uri):
        yield from map(Path, glob.iglob(uri, recursive=True))


def refuse_overwriting_inputs(outputs: Iterable[tuple[str, Path]], inputs: Iterable[object]) -> None:
    """Check that a command writes none of the files that it reads.

    Args:
        outputs: option and path of each.
        inputs: values that may name files, see files_named_by().

    Raises:
        VljEdgeError: an output, or stdout, is one of the inputs.
        click.UsageError: two outputs are the same file.
    """
    from ..outputs import refuse_overwriting

    outputs = list(outputs)
    if not outputs and not stat.S_ISREG(os.fstat(1).st_mode):
        return
    _refuse_twice(outputs)
    files = list(files_named_by(list(inputs)))
    for option, path in outputs:
        refuse_overwriting(option, path, files)
    refuse_overwriting("the redirection of", 1, files)  # only with >>, since > has emptied it already


def all_written(name: str | None, path: Path, values: dict[str, Any]) -> list[Path]:
    """Return the files that an option makes a command write, with the old files of a rotated log."""
    rotated = range(1, 6) if name == "log" and values.get("log_bytes") else ()
    return [path, *(path.with_name(f"{path.name}.{number}") for number in rotated)]


@contextmanager
def results_file(path: Path, live: bool) -> Iterator[TextIO]:
    """Yield a text stream for the results from a source.

    Of a recording the file is there whole once all was read, and also what could be read until it broke off or Ctrl-C;
    after any other error, what was there before stays. Of a live source, and to what is no file, each line is there as
    soon as it is written.

    Raises:
        OSError: it cannot be written.
    """
    from ..atomic_write import atomic_write, is_no_file, open_directly

    opened = open_directly(path) if live or is_no_file(path) else atomic_write(path, RESULTS_STAY_AFTER)
    with opened as stream:
        text = io.TextIOWrapper(stream, "utf-8", "backslashreplace", write_through=True)
        try:
            yield text
        finally:
            text.detach()


def write_whole(path: Path, text: str) -> None:
    """Write a text file. Raises OSError: it cannot be written; what was there before stays."""
    from ..atomic_write import atomic_write

    with atomic_write(path) as stream:
        stream.write(text.encode("utf-8", "backslashreplace"))


def _check(command: click.Command, values: dict[str, Any]) -> None:
    from ..bundle import nano_bundle
    from ..bundle.signature import KEY_FILE

    outputs: list[tuple[str, Path]] = []
    inputs: list[object] = [nano_bundle(), os.environ.get(KEY_FILE)]  # the default input, and what --key-file sets
    for parameter in command.params:
        value = values.get(parameter.name or "")
        kind = parameter.type
        if not isinstance(kind, OutputPath):
            inputs.append(value)
        elif value is not None and kind.file_okay:
            outputs += [(parameter.opts[0], path) for path in all_written(parameter.name, value, values)]
            _require_folder(parameter.opts[0], value)
    refuse_overwriting_inputs(outputs, inputs)


def _require_folder(option: str, path: Path) -> None:
    """Check that a file can be made where it is wanted, before the work whose result it gets."""
    if path.exists():
        return
    if not path.parent.is_dir():
        raise VljEdgeError(
            f"{option} {path} cannot be written (No such file or directory): make the folder {path.parent}"
        )
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise VljEdgeError(f"{option} {path} cannot be written (Permission denied): name a file in another folder")


def _refuse_twice(outputs: list[tuple[str, Path]]) -> None:
    from ..outputs import identity

    seen: dict[object, str] = {}
    for option, path in outputs:
        key = identity(path) or (None if path.exists() else os.path.realpath(path))  # /dev/null may be named twice
        if key is not None and seen.setdefault(key, option) != option:
            raise click.UsageError(f"{seen[key]} and {option} are the same file: name two")


def _with_contents(path: Path) -> Iterator[Path]:
    """Yield a path, and of a folder that is no bundle or store, its videos and images."""
    from vlj_edge.runtime.video.recordings.folders import find_videos
    from vlj_edge.runtime.video.recordings.image_files import images_in

    from ..outputs import is_whole

    yield path
    if os.path.isdir(path) and not is_whole(path):
        yield from find_videos([path])
        yield from images_in(path)
