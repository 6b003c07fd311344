"""vlj-edge export: make a verified bundle from weights."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import WrongCall, printable, without_credentials
from ..text_list import EVERYDAY
from .export_clips import check_part, find_video, with_clips
from .options import key_file_option
from .outputs import OutputPath
from .part_options import PartOptions, part_options_but_decoder
from .public_weights import with_public_weights
from .say import say, stderr_console, stdout_console

if TYPE_CHECKING:
    from vlj_edge.export.bundle import Exported
    from vlj_edge.export.hub import Repository
    from vlj_edge.export.request import ExportRequest
    from vlj_edge.export.weights.locations import WeightSources

    from ..presets import ModelShape
    from ..targets import Target


_FILE = click.Path(path_type=Path)
_EPILOG = """
Precisions: fp32, fp16, bf16 (TensorRT only), int8 (weights and activations), int8w and int4w (weights alone), and
int8-fp16, int8w-fp16, int4w-fp16. One for all engines, or --precision predictor=int4w,decoder=int8w.

Targets: cpu, rtx, jetson-orin-nano, jetson-orin, jetson-thor, wearable, or sm86, sm89, sm120 ... (RTX cards).
"""


@dataclass(frozen=True)
class _Arguments:
    """The command's arguments, as click names them."""

    weights: Path | None
    preset_name: str
    encoder: str | None
    frames: int | None
    size: int | None
    vision_encoder: Path | None
    predictor: Path | None
    text_encoder: Path | None
    decoder: Path | None
    captions: Path | None
    no_decoder: bool
    random_weights: int | None
    target_name: str | None
    engine: str
    fp16: bool
    precision: str | None
    flavour: str | None
    token_shares: tuple[float, ...]
    calibrate_on: Path | None
    part: PartOptions
    skip_parity: bool
    out: Path | None
    overwrite: bool
    repositories: Sequence[Repository] = ()


@click.command(short_help="Make a bundle from weights: ONNX engines, compared with torch.", epilog=_EPILOG)
@click.argument("weights", required=False)
@click.option("--preset", "preset_name", default="nano", show_default=True, help="The model's dimensions.")
@click.option("--encoder", help="Vision encoder in place of the preset's: vjepa2-vitl, vjepa2.1-vitb or vjepa2.1-vitl.")
@click.option("--frames", type=click.IntRange(1), help="Frames of a clip, in place of the preset's.")
@click.option("--size", type=click.IntRange(1), help="Side of the encoder's input, pixels, in place of the preset's.")
@click.option("--vision-encoder", help="V-JEPA 2: transformers directory, OWNER/NAME, or Meta's .pt (2 and 2.1).")
@click.option("--predictor", help="Llama-3.2-1B: transformers directory or OWNER/NAME, for tokenizer and layers.")
@click.option("--text-encoder", help="EmbeddingGemma-300M: transformers directory or OWNER/NAME.")
@click.option("--decoder", help="SmolLM2 with prefix.safetensors: transformers directory or GGUF.")
@click.option(
    "--captions",
    metavar="FILE",
    callback=lambda context, parameter, value: _captions(value),
    help="Text file, one caption a line: texts are the nearest of them; no language model. The word everyday: our own"
    " sentences about homes, offices, shops and streets.",
)
@click.option("--no-decoder", is_flag=True, help="Leave the decoder out: embeddings only.")
@click.option(
    "--random-weights",
    type=click.IntRange(0),
    metavar="SEED",
    help="Random weights for parts without any, to measure size and speed.",
)
@click.option("--target", "target_name", help="Board or card to choose precision, flavour and gates for.")
@click.option(
    "--engine",
    type=click.Choice(["onnx", "tensorrt"]),
    default="onnx",
    show_default=True,
    help="tensorrt: also build engines, for this machine's card or for --target.",
)
@key_file_option
@click.option("--fp16", is_flag=True, help="The same as --precision fp16.")
@click.option("--precision", help="Number format of the engines; the export fails if parity does not hold.")
@click.option(
    "--flavour",
    type=click.Choice(["native", "portable", "fused"]),
    help="Default: native, or the target's. portable: only ONNX operators that TensorRT 10.3 (JetPack 6) has. fused:"
    " with our own attention kernel; fp16 or bf16, and only TensorRT from 10.9 on.",
)
@click.option(
    "--token-shares",
    metavar="PERCENT,...",
    callback=lambda context, parameter, value: _shares(value),
    help="Also take parts of a clip's visual tokens, such as 25,37,50,75 percent of them: see --tokens of narrate.",
)
@click.option(
    "--calibrate-on",
    type=_FILE,
    help="A video of what it will see, which sets the scales of int8 and on which engines are compared with torch; nano"
    " has one of its own.",
)
@part_options_but_decoder
@click.option("--skip-parity", is_flag=True, help="Do not compare the engines with torch.")
@click.option(
    "--out",
    type=OutputPath(dir_okay=True),
    help="Bundle directory to make. Default: named after the preset and precision, or the target.",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing bundle at --out.")
def export(**options: Any) -> None:
    """Export WEIGHTS as ONNX engines, compare each with torch, and seal them as a bundle.

    WEIGHTS is a public model, OWNER/NAME[@REVISION], which is downloaded (vlj-edge models lists some), or its directory
    (config.json, safetensors, tokenizer); the word things, which names everyday things and needs packages alone
    (pip install "vlj-edge[things]"); a directory that examples/train_nano wrote; or the best.pt of open-vljepa.
    Without it, the trained weights of nano are exported. --vision-encoder, --predictor, --text-encoder and --decoder
    replace or add parts of VL-JEPA.
    """

    from ..targets import target

    arguments = _Arguments(**with_public_weights(options))
    if arguments.fp16 and arguments.precision is not None:
        raise WrongCall("--fp16 and --precision exclude each other: --fp16 means --precision fp16")
    check_part(arguments.calibrate_on, arguments.part)
    goal = target(arguments.target_name) if arguments.target_name is not None else None
    request, video = _checked_request(arguments, goal)

    from rich.markup import escape

    from vlj_edge.export.bundle import export_bundle  # imports torch, which takes seconds

    terminal = stderr_console()
    with terminal.status("starting") as status:

        def progress(step: str) -> None:
            if terminal.is_terminal:
                terminal.print(f"[dim]{escape(step)}")
                status.update(escape(printable(step)))

        exported = export_bundle(request, progress)
    _print_summary(exported, goal if arguments.engine == "onnx" else None)
    if video is not None and arguments.calibrate_on is None:
        say(f"compared on nano's own clip, {video}: for another camera, name a video of it with --calibrate-on")
    for repository in request.repositories:
        say(f"weights: {repository.name.repository} at commit {repository.commit}, licence {repository.licence}")
    if arguments.engine == "tensorrt":
        from .build import build_for

        build_for(exported.bundle, arguments.target_name)


def _checked_request(arguments: _Arguments, goal: Target | None) -> tuple[ExportRequest, Path | None]:
    """Return the request, checked without importing torch, and the video that its clips are from."""
    from vlj_edge.export.request import check_request

    from .build import runtime_for

    if arguments.engine == "tensorrt" and goal is not None and goal.backend != "tensorrt":
        raise WrongCall(f"{goal.name} runs on ONNX Runtime: leave --engine tensorrt out")
    request = _make_request(arguments, goal)
    check_request(request)
    video = find_video(request, arguments.calibrate_on, arguments.part)
    if arguments.engine == "tensorrt":
        # Fail before the export, which takes minutes, if no TensorRT can build for the target.
        runtime_for(goal.sm if goal is not None else None)
    return request if video is None else with_clips(request, video, arguments.part), video


def _make_request(arguments: _Arguments, goal: Target | None) -> ExportRequest:
    from vlj_edge.export.request import ExportRequest

    from ..presets import preset, variant

    frames, size = arguments.frames, arguments.size
    public = _public_shape(arguments)
    precision, flavour = "fp16" if arguments.fp16 else arguments.precision, arguments.flavour
    suffix = f"-{precision}" if precision and "=" not in precision else ""
    if goal is not None:  # options win over the target
        frames, size = frames or goal.shapes.get("frames"), size or goal.shapes.get("size")
        precision, flavour = precision or _target_precision(goal, public), flavour or goal.flavour
        suffix = f"-{goal.name}"
    name = arguments.preset_name
    if public is not None and arguments.weights is not None:
        name, suffix = arguments.weights.resolve().name, suffix or "-fp32"  # never the name of the directory itself
        if arguments.flavour is None and flavour == "fused":
            flavour = "native"  # the target's choice is for VL-JEPA's attention
    return ExportRequest(
        _sources(arguments, goal),
        public or variant(preset(arguments.preset_name), arguments.encoder, frames, size),
        arguments.out or Path(f"{name}{suffix}"),
        precision=precision,
        flavour=flavour or "native",
        check_parity=not arguments.skip_parity,
        target=goal,
        overwrite=arguments.overwrite,
        command=" ".join(["vlj-edge", *map(without_credentials, sys.argv[1:])]),
        repositories=arguments.repositories,
        token_shares=arguments.token_shares,
    )


def _target_precision(goal: Target, public: ModelShape | None) -> str | None:
    """Return the target's precision; of a model that stores small weights in any, the type that it computes in."""
    if public is None or not public.own_captions:
        return goal.precision
    return "fp16" if goal.precision.startswith("fp16") else None


def _public_shape(arguments: _Arguments) -> ModelShape | None:
    """Return the shape of a public model's directory, None for VL-JEPA's own weights.

    Raises:
        VljEdgeError: its family is not known, or an option is for VL-JEPA alone.
    """
    from vlj_edge.export.families.find import is_checkpoint, read_shape
    from vlj_edge.export.families.things import things_shape

    weights = arguments.weights
    is_things = _is_things(weights)
    if weights is None or not (is_things or is_checkpoint(weights)):
        return None
    given = {
        "--preset": arguments.preset_name != "nano",
        "--encoder": arguments.encoder,
        "--size": arguments.size,
        "--vision-encoder": arguments.vision_encoder,
        "--predictor": arguments.predictor,
        "--text-encoder": arguments.text_encoder,
        "--decoder": arguments.decoder,
        "--random-weights": arguments.random_weights is not None,
    }
    for option, value in given.items():
        if value:
            raise WrongCall(f"{option} is for VL-JEPA, and {weights} has its own dimensions: leave it out")
    return things_shape(arguments.frames) if is_things else read_shape(weights, arguments.frames)


def _is_things(weights: Path | None) -> bool:
    """Return whether WEIGHTS is the word, even where a bundle is named so, and not another file or directory."""
    from vlj_edge.export.families.things import NAME

    return weights == Path(NAME) and (not weights.exists() or (weights / "manifest.json").is_file())


def _shares(given: str | None) -> tuple[float, ...]:
    """Return the shares, 0..1, that --token-shares names."""
    try:
        return tuple(float(percent) / 100 for percent in given.split(",")) if given else ()
    except ValueError:
        raise click.BadParameter(f"{given!r} is no list of percentages, such as 25,37,50,75") from None


def _captions(given: str | None) -> Path | None:
    """Return the file that --captions names; the word everyday is the packaged bank, even where a file is named so."""
    if given is None:
        return None
    return EVERYDAY if given == "everyday" else Path(given)


def _sources(arguments: _Arguments, goal: Target | None) -> WeightSources:
    from vlj_edge.export.weights.locations import WeightSources, shipped_weights

    from ..presets import preset

    weights, name = arguments.weights, arguments.preset_name
    if weights is None and arguments.random_weights is None:
        if preset(name).name != "nano":
            raise WrongCall(
                f"only nano comes with weights: vlj-edge export WEIGHTS --preset {name}, or --random-weights 0 to see"
                " size and speed"
            )
        weights = shipped_weights()
    has_own_decoder = arguments.decoder is not None or arguments.captions is not None
    return WeightSources(
        None if _is_things(weights) else weights,
        arguments.vision_encoder,
        arguments.predictor,
        arguments.text_encoder,
        arguments.decoder,
        arguments.captions,
        arguments.no_decoder or (goal is not None and not goal.decoder and not has_own_decoder),
        arguments.random_weights,
    )


def _print_summary(exported: Exported, goal: Target | None) -> None:
    """Print tables of the engines and their parity, and what to type next; `goal`: whose engines are to be built."""
    from rich.table import Column, Table

    from ..bundle import MANIFEST, TEXT_ENCODER, read_manifest
    from .build import on_board

    # In a pipe, rich would cut the tables at 80 columns.
    console = stdout_console()
    table = Table("engine", "precision", "opset", "nodes a layer", "MB", title="engines", title_justify="left")
    for engine in exported.engines:
        row = (engine.precision, str(engine.opset), str(engine.nodes_a_layer), f"{engine.megabytes:.1f}")
        table.add_row(engine.name, *row)
    console.print(table)
    columns = ("precision", "cases", "cosine", "worst token", "first differing token")
    parity = Table(Column("engine", no_wrap=True), *columns, title="parity with torch in fp32", title_justify="left")
    for line in exported.parity:
        worst = f"{line.worst_token:.7f}" if line.worst_token is not None else ""
        differing = "none" if line.first_differing_token is None else str(line.first_differing_token)
        figures = (line.precision, str(line.cases), f"{line.cosine:.7f}", worst)
        parity.add_row(line.engine, *figures, differing if line.makes_text else "")
    if exported.parity:
        console.print(parity)
    else:
        console.print("parity with torch was not measured")
    if exported.compared_as_native:
        names = " and ".join(exported.compared_as_native)
        console.print(f"{names}: parity of the native graph, since ONNX Runtime cannot run the fused one")
    for engine in exported.engines:
        for kept in engine.kept_fp32:
            console.print(f"kept in fp32 in {engine.name}: {kept}")
    if (exported.bundle / MANIFEST).is_file() and (caveat := read_manifest(exported.bundle).labels.caveat):
        console.print(caveat)
    if goal is not None and goal.on_board:
        console.print(f"{exported.bundle}: next, {on_board(exported.bundle, goal)}")
    elif (goal is not None and goal.backend == "tensorrt") or any(
        engine.precision.endswith("bf16") and engine.name != TEXT_ENCODER for engine in exported.engines
    ):
        console.print(f"{exported.bundle}: next, where the card is, vlj-edge build {exported.bundle}")
    elif any(engine.name == "decoder" for engine in exported.engines):
        console.print(f"{exported.bundle}: next, vlj-edge narrate VIDEO --bundle {exported.bundle}")
    else:
        console.print(f"{exported.bundle}: without a decoder it gives embeddings, not texts")
