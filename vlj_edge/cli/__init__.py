"""The command line. One file a command; heavy imports stay inside the functions, so that --help is instant."""

from __future__ import annotations

import os
import sys

import click

from .. import VljEdgeError, __version__
from . import interrupts
from .ask import ask
from .build import build
from .classify import classify
from .embed import embed
from .export import export
from .index import index
from .inspect import inspect
from .labels import labels
from .narrate import narrate
from .profile import profile
from .search import search
from .serve import serve
from .tune import tune
from .verify import verify


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="vlj-edge")
def cli() -> None:
    """VL-JEPA on the device: one embedding per clip window, words only when the meaning changes."""


USES = (narrate, serve, embed, classify, ask, labels, index, search)
BUNDLES = (export, build, inspect, verify, profile, tune)
for command in (*USES, *BUNDLES):
    cli.add_command(command)


def main(arguments: list[str] | None = None) -> None:
    """Run a command and exit: 0 done, 1 it failed, 2 the call was wrong, 130 interrupted. One line for every error."""
    sys.exit(_run(arguments))


def _run(arguments: list[str] | None) -> int:
    interrupts.catch()
    try:
        cli.main(arguments, prog_name="vlj-edge", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return 130
    except VljEdgeError as error:
        click.echo(f"error: {error}", err=True)
        return 1
    except BrokenPipeError:
        # The reader has gone (| head). Point stdout elsewhere, or the interpreter complains once more while it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        click.echo(f"error: {where}{error.strerror or error}: check the path, its permissions and the disk", err=True)
        return 1
    return 0
