"""The group of all commands; errors become one line and an exit code."""

from __future__ import annotations

import codecs
import io
import logging
import os
import re
import sys

import click

from .. import VljEdgeError, __version__
from ..errors import WrongCall, printable
from ..json_text import escape_unencodable
from ..loopback import reach_loopback_directly
from .alerts import alerts
from .ask import ask
from .build import build
from .calibrate import calibrate
from .classify import classify
from .embed import embed
from .eval import evaluate
from .export import export
from .index import index
from .inspect import inspect
from .interrupts import was_interrupted
from .labels import labels
from .models import models
from .narrate import narrate
from .options import COMMAND_LINE
from .outputs import with_outputs_checked
from .profile import profile
from .say import tell
from .search import search
from .serve import serve
from .sink_options import TextsLost
from .tune import tune
from .verify import verify

_OPTION = re.compile(r"--?[a-z][a-z-]*(?=\Z|=)")


class _Group(click.Group):
    """A group whose commands take -?size=640x480 as a source, not as an option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Rewrite such sources to pipe:..., or ./... if a file of that name exists.

        Raises:
            click.UsageError: an argument is empty, as of "$VARIABLE" that is not set: no option means anything by it,
                and an empty path would be the folder that one is in.
        """
        for before, arg in zip(["", *args], args, strict=False):
            name, equals, value = arg.partition("=") if _OPTION.match(arg) else (before, "", arg)
            if not value.strip() and (equals or value == arg):
                shown = name if _OPTION.fullmatch(name) else "an argument"
                raise click.UsageError(f"{shown} is empty: give a value, or leave it out", ctx)
        spelled = [
            (f"./{arg}" if os.path.exists(arg) else f"pipe:{arg[1:]}") if arg[:2] == "-?" else arg for arg in args
        ]
        ctx.meta[COMMAND_LINE] = ["vlj-edge", *args]
        return super().parse_args(ctx, spelled)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="vlj-edge")
def cli() -> None:
    """VL-JEPA on the device: one embedding per clip window, words only when the meaning changes.

    A bundle holds a model as files that run without torch. The default is nano, which is part of this package.

    Results go to stdout, everything else to stderr. Exit codes: 0 done, 1 it failed, 2 the call was wrong, 130
    interrupted.
    """


USING_MODELS = (narrate, serve, embed, classify, ask, labels, index, search, alerts)
MAKING_BUNDLES = (export, models, build, inspect, verify, profile, tune, calibrate, evaluate)
for command in (*USING_MODELS, *MAKING_BUNDLES):
    cli.add_command(with_outputs_checked(command))


def run(arguments: list[str] | None) -> int:
    """Run a command and return its exit code; errors and warnings are written to stderr, one line each."""
    reach_loopback_directly()
    _print_warnings()
    codecs.register_error("vlj_edge.escape", escape_unencodable)
    for stream in (sys.stdout, sys.stderr):  # a file name may not be valid in the terminal's encoding
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="vlj_edge.escape")
    if not (sys.argv[1:] if arguments is None else arguments):
        return _show_help(click.Context(cli, info_name="vlj-edge", **cli.context_settings))
    try:
        cli.main(arguments, prog_name="vlj-edge", standalone_mode=False)
    except click.ClickException as error:
        if type(error).__name__ == "NoArgsIsHelpError" and isinstance(error, click.UsageError) and error.ctx:
            return _show_help(error.ctx)  # of a group; click 8.1 has no such error
        if isinstance(error, click.NoSuchOption):
            error = _with_file_named(error, sys.argv[1:] if arguments is None else arguments)
        _show(error)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return 130
    except VljEdgeError as error:
        if was_interrupted() and not isinstance(
            error, TextsLost
        ):  # such as ImportError, which native modules raise instead of KeyboardInterrupt
            return 130
        tell(f"error: {error}")
        return 2 if isinstance(error, WrongCall) else 1
    except BrokenPipeError:  # the reader of stdout has gone (| head)
        _abandon_stdout()
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        tell(f"error: {where}{error.strerror or error}: check the path, its permissions and the disk")
        try:
            sys.stdout.flush()
        except OSError:  # it was stdout, on a full disk
            _abandon_stdout()
        return 1
    return 0


def _show_help(context: click.Context) -> int:
    """Write the help of a command that lacks its arguments, and return the exit code."""
    for line in context.get_help().splitlines():
        tell(line)
    return 2


def _abandon_stdout() -> None:
    """Lead stdout nowhere, or Python reports at exit what it still could not write there."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _show(error: click.ClickException) -> None:
    """Write what click would, but of what was typed nothing that a terminal obeys and no secret."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is not None:
        for line in (*context.get_usage().splitlines(), f"Try '{context.command_path} --help' for help.", ""):
            tell(line)
    tell(f"Error: {error.format_message()}")


def _with_file_named(error: click.NoSuchOption, arguments: list[str]) -> click.UsageError:
    """Add a remedy to the error about a file name that was taken for an option."""
    for argument in arguments:
        if argument.startswith("-") and argument != "-" and os.path.exists(argument):
            return click.UsageError(f"{error.message} Write ./{printable(argument)} for the file.", error.ctx)
    return error


def _print_warnings() -> None:
    """Write the package's log warnings to stderr."""
    log = logging.getLogger("vlj_edge")
    if not log.handlers:
        log.addHandler(_StderrHandler())
        log.propagate = False


class _StderrHandler(logging.Handler):
    """Writes warnings in the format of errors, to the current sys.stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        tell(f"{record.levelname.lower()}: {record.getMessage()}")
