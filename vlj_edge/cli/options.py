"""Options that several commands share: each is defined once, so that it has one spelling and one meaning."""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import without_credentials, without_secrets
from .say import tell

if TYPE_CHECKING:
    from vlj_edge.runtime.engines.select import SelectedBackend
    from vlj_edge.runtime.gating.kept_tokens import Choice
    from vlj_edge.runtime.model import Model


class NumberRange(click.FloatRange):
    """A float in a range that also refuses nan, which passes click's comparisons."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number."""
        number = float(super().convert(value, param, ctx))
        if isnan(number):
            self.fail(f"'{value}' is no number.", param, ctx)
        return number


COMMAND_LINE = "vlj_edge.command_line"  # key of the words that were typed, in the context's meta
REPEAT_AFTER = 60.0  # seconds after which an answer about a camera is printed even if it has not changed
_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
_BACKENDS = (
    "onnxruntime, openvino, tensorrt or cuda, also openvino-bf16, cuda-tf32 or cuda+cpu; the fastest that works here if"
    " not given."
)

SOURCE = (  # the last words of the help of every command with one
    "SOURCE is a video file, an image, a folder of images, a camera (0, /dev/video0, csi://0, gst:PIPELINE), an address"
    " (rtsp://, http://, rtmp://, udp://, rtp://), or - for a video on stdin; pipe:size=640x480,rate=25,format=bgr24"
    " for raw frames, pipe:live=1 for a live stream. A name that exists on disk is always a path. '${NAME}' in an"
    " address stands for the environment variable NAME: a password."
)

bundle_argument = click.argument("bundle", required=False, type=click.Path(path_type=Path))
bundle_option = click.option(
    "--bundle", type=click.Path(path_type=Path), help="Bundle directory; the built-in nano bundle if not given."
)
engines_option = click.option(
    "--engines",
    type=_FOLDER,
    help="Folder of TensorRT engines that were built elsewhere; only use engines that you trust.",
)


def use_key_file(context: click.Context, path: Path) -> None:
    """Set the variable that names the key of built engines, for this command and the processes that it starts."""
    from ..bundle.signature import KEY_FILE

    before = os.environ.get(KEY_FILE)
    os.environ[KEY_FILE] = str(path.absolute())
    context.call_on_close(lambda: os.environ.pop(KEY_FILE) if before is None else os.environ.update({KEY_FILE: before}))


def use_key_file_of(place: str, name: str) -> None:
    """Use the key file that a configuration names; `place` says where. Raises VljEdgeError: it is not there."""
    from ..errors import VljEdgeError

    if not Path(name).is_file():
        raise VljEdgeError(f"{place} is '{name}', and there is no such file: name the key that vlj-edge build used")
    use_key_file(click.get_current_context(), Path(name))


key_file_option = click.option(
    "--key-file",
    type=click.Path(path_type=Path, dir_okay=False),
    expose_value=False,
    callback=lambda context, parameter, value: None if value is None else use_key_file(context, value),
    help="Key with which built engines are signed; VLJ_EDGE_KEY_FILE, else /etc/vlj-edge/engines.key or the user's own,"
    " if not given.",
)
threads_option = click.option(
    "--threads", type=click.IntRange(1, 1024), help="CPU threads of the engines; all cores if not given."
)
verbose_option = click.option(
    "-v", "--verbose", is_flag=True, help="Also print the backend, why it was chosen, and the decoder of each video."
)
file_type = click.Path(path_type=Path, dir_okay=False)
gates_option = click.option(
    "--gates", type=file_type, help="Settings of the gates: a file of vlj-edge calibrate; the bundle's if not given."
)
query_option = click.option(
    "--query", help="Query to the model; the bundle's if not given. vlj-edge inspect lists those of its training."
)
label_query_option = click.option("--query", help="Query to the model; the bundle's query for labels if not given.")
bank_option = click.option(
    "--bank", type=click.Path(path_type=Path), help="Label bank (.npz) that vlj-edge labels wrote."
)
template_option = click.option(
    "--template",
    "templates",
    multiple=True,
    help='Wording with {} for the label, such as "a video of {}"; several are averaged.',
)
top_option = click.option("--top", default=5, show_default=True, type=click.IntRange(1), help="Number of results.")
rotate_option = click.option(
    "--rotate",
    type=click.Choice(["0", "90", "180", "270"]),
    default="0",
    callback=lambda context, parameter, value: int(value),
    help="Degrees to rotate the picture clockwise, for a camera that is not mounted upright.",
)
decoder_option = click.option(
    "--decoder",
    "picture_decoder",
    type=click.Choice(["auto", "software", "hardware"]),
    default="auto",
    help="Decoder of files and network streams; auto uses hardware if it works. -v prints which.",
)
json_lines_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")


_TOKENS = (
    "Visual tokens of a clip to compute: all, auto (where the picture changed), or a share as 0.37.  [default: the"
    " bundle's choice, which is all if vlj-edge calibrate made no other]"
)


class TokenChoice(click.ParamType):  # type: ignore[type-arg]
    """all, auto or a share of the tokens."""

    name = "all|auto|SHARE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return "all", "auto" or the share."""
        if value in ("all", "auto"):
            return value
        try:
            share = float(value)
        except ValueError:
            share = 0.0
        if not 0 < share <= 1:
            self.fail(f"{value!r} is not all, auto, or a share above 0 and up to 1", param, ctx)
        return share


@dataclass(frozen=True)
class EngineOptions:
    """The values of --backend, --engines, --threads, --tokens and -v."""

    backend: str | None
    engines: Path | None
    threads: int | None
    tokens: Choice | None
    verbose: bool

    @property
    def chooses(self) -> bool:
        """Whether backend, engines or threads were given."""
        return any(given is not None for given in (self.backend, self.engines, self.threads))


def engine_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --backend, --engines, --key-file, --threads, --tokens and -v to a command, which gets the values of all but
    --key-file as one `engine_options`."""

    @click.option("--backend", help=_BACKENDS)
    @engines_option
    @key_file_option
    @threads_option
    @click.option("--tokens", type=TokenChoice(), help=_TOKENS)
    @verbose_option
    @wraps(command)
    def with_engine_options(
        *args: Any,
        backend: str | None,
        engines: Path | None,
        threads: int | None,
        tokens: Choice | None,
        verbose: bool,
        **kwargs: Any,
    ) -> Any:
        return command(*args, engine_options=EngineOptions(backend, engines, threads, tokens, verbose), **kwargs)

    return with_engine_options


def command_line() -> str:
    """Return the command line as it was typed, without the secrets of addresses."""
    words = click.get_current_context().meta.get(COMMAND_LINE, [])
    return without_secrets(shlex.join(without_credentials(word) for word in words))


def load_model(bundle: Path | None, options: EngineOptions, **settings: Any) -> Model:
    """Open a bundle (nano if None) with these options and report the backend.

    Args:
        settings: further arguments of Model, such as the file of --gates.

    Raises:
        VljEdgeError: the bundle or the backend cannot be used.
    """
    model = open_model(bundle, options, **settings)
    report_backend(model.backend, options.verbose)
    return model


def open_model(bundle: Path | None, options: EngineOptions, **settings: Any) -> Model:
    """The same, and nothing is reported."""
    from vlj_edge.runtime.model import Model

    from ..bundle import nano_bundle

    return Model(
        bundle or nano_bundle(), options.backend, options.threads, options.engines, tokens=options.tokens, **settings
    )


def report_backend(backend: SelectedBackend, verbose: bool) -> None:
    """Print on stderr a warning if a faster backend lacks its engines, and with -v the backend and the reason."""
    logging.getLogger("vlj_edge").setLevel(logging.INFO if verbose else logging.NOTSET)
    if verbose:
        tell(f"backend: {backend.description} ({backend.reason})")
    if backend.warning is not None:
        tell(f"warning: {backend.warning}")
