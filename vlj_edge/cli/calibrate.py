"""vlj-edge calibrate: find gates for one camera."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import without_credentials
from ..json_text import json_text
from .options import SOURCE, EngineOptions, NumberRange, bundle_option, engine_options, gates_option, load_model
from .outputs import output_file, output_folder, write_whole
from .part_options import PartOptions, part_options
from .progress import progress, steps
from .say import say, stdout_console, tell

if TYPE_CHECKING:
    from vlj_edge.runtime.calibration.proposal import Proposal
    from vlj_edge.runtime.calibration.record import Recording
    from vlj_edge.runtime.model import Model

    from ..bundle import GateSettings

_FEW_HOLDS = 10  # pauses between texts that should fit into a recording, at least
_BAR = 30  # characters of a quality of 1


@click.command(short_help="Find gates for one camera, from a recording of it.", epilog=SOURCE)
@click.argument("source")
@click.option("--texts-per-hour", type=NumberRange(0, 1e6, min_open=True), help="At most this many texts, on average.")
@click.option("--encodes-per-minute", type=NumberRange(0, 1e6, min_open=True), help="At most this many encoder runs.")
@click.option(
    "--quality",
    type=NumberRange(0, 1),
    help="The share of the time in which the latest text is right, at the least cost.  [default: that of the gates in"
    " use]",
)
@click.option(
    "--events", type=click.Path(path_type=Path, dir_okay=False), help="What happens when: JSON, SRT, VTT or CSV."
)
@click.option("--out", type=output_file, help="Write the gates to this file, which --gates of other commands reads.")
@click.option("--bundle-out", type=output_folder, help="Write a copy of the bundle with these gates.")
@click.option("--html", type=output_file, help="Write a page with the curve.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the search.")
@part_options
@bundle_option
@gates_option
@engine_options
def calibrate(
    source: str,
    texts_per_hour: float | None,
    encodes_per_minute: float | None,
    quality: float | None,
    events: Path | None,
    out: Path | None,
    bundle_out: Path | None,
    html: Path | None,
    as_json: bool,
    seed: int,
    part: PartOptions,
    bundle: Path | None,
    gates: Path | None,
    engine_options: EngineOptions,
) -> None:
    """Propose gates for SOURCE: a recording of a camera, or the camera itself until --duration or Ctrl-C.

    Every window is encoded once. Then the gates run over what was recorded with many settings, and each setting is
    judged by how long the latest text is right: without --events, how long it agrees with the model's own text of what
    is shown. All figures are of stretches of the recording that the settings were not chosen on. If nothing is better
    than the gates in use, they stay.

    With --events, a model that has labels of its own also gets the probability from which it names one, and the lead
    that another needs. Time without an event, between the first and the last, is time in which no label is right.

    A bundle that was exported with --token-shares is also tried with the tokens that carry news: they are proposed if
    the text is right as long. --tokens leaves that out.

    The limits are targets on this recording, for the settings to be chosen by; they are not enforced later.
    """
    from vlj_edge.runtime.calibration.events import read_events
    from vlj_edge.runtime.calibration.proposal import check_wanted, propose
    from vlj_edge.runtime.calibration.target import Target

    from ..bundle.copies import check_new
    from .interrupts import was_interrupted

    part.check(source)
    check_new(bundle_out)
    wanted = Target(texts_per_hour, encodes_per_minute, quality)
    annotated = None if events is None else read_events(events)
    with load_model(bundle, replace(engine_options, tokens=engine_options.tokens or "all"), gates=gates) as model:
        with _texts_of(events):
            check_wanted(model, wanted, annotated)
        recording = _record(model, source, part, compares_tokens=engine_options.tokens is None)
        with steps() as step, _texts_of(events):
            proposal = propose(model, recording, None if wanted == Target() else wanted, annotated, seed, progress=step)
        if as_json:
            say(json_text(proposal.as_dict() | {"gates": asdict(proposal.gates), "novel_below": proposal.novel_below}))
        else:
            _print(proposal, model.manifest.gates)
        _warn(proposal, model.manifest.gates)
        _write(model, proposal, source, out, bundle_out)
        if html is not None:
            from vlj_edge.runtime.calibration.page import page

            write_whole(html, page(proposal, _name(source)))
    if was_interrupted():
        raise KeyboardInterrupt


@contextmanager
def _texts_of(events: Path | None) -> Iterator[None]:
    """Name the file of --events before a text of it that the model does not take."""
    from ..errors import VljEdgeError, WrongText

    try:
        yield
    except WrongText as error:
        raise VljEdgeError(f"{events}: {error}") from None


def _record(model: Model, source: str, part: PartOptions, compares_tokens: bool) -> Recording:
    """Record a source until it ends, its memory is full, or Ctrl-C; what was seen until then is kept."""
    from vlj_edge.runtime.calibration.record import Recording, record
    from vlj_edge.runtime.calibration.tokens import KeptEncoder

    from ..errors import SourceBrokeOff

    recording = Recording()
    compares_tokens = compares_tokens and model.manifest.tokens is not None and model.chain.takes_parts
    encode_kept = KeptEncoder(model) if compares_tokens else None
    with part.open(source, model.manifest.clip) as opened, model.see(opened) as run, progress(run, opened):
        if run.live:
            tell("recording: Ctrl-C ends it, and what was seen is used")
        try:
            with suppress(KeyboardInterrupt):
                record(run, recording, encode_kept=encode_kept)
        except SourceBrokeOff as error:
            tell(f"warning: {error}: what was read is used")
        if run.totals.windows_dropped:
            tell(f"warning: {run.totals.windows_dropped} windows were left out: encoding every one is too slow here")
    if recording.full:
        tell(f"warning: memory for a recording is used up: its first {recording.seconds / 3600:.1f} h are used")
    return recording


def _write(model: Model, proposal: Proposal, source: str, out: Path | None, bundle_out: Path | None) -> None:
    from datetime import datetime, timezone

    from ..bundle.copies import copy_with_gates
    from ..bundle.gate_profile import BundleIdentity, GateProfile, LabelNumbers, ProfileReceipt, write_gate_profile

    figures, numbers = proposal.as_dict(), None
    if proposal.head is not None:
        numbers = LabelNumbers(proposal.head.settings.none_below, proposal.head.settings.lead)
    receipt = ProfileReceipt(
        _name(source),
        round(proposal.seconds, 1),
        datetime.now(timezone.utc).isoformat(timespec="seconds"),
        BundleIdentity.of(model.manifest),
        **{name: figures[name] for name in ("target", "held_out", "fitted", "own")},
    )
    tokens = None if proposal.tokens is None else proposal.tokens.proposed
    if out is not None:
        profile = GateProfile(proposal.gates, proposal.novel_below, receipt, label_head=numbers, tokens=tokens)
        write_gate_profile(out, profile)
    if bundle_out is not None:
        copy_with_gates(model.directory, bundle_out, proposal.gates, receipt, numbers, tokens)
    _tell_what_next(source, model.directory, out, bundle_out, proposal)


def _warn(proposal: Proposal, in_use: GateSettings) -> None:
    for name, value in proposal.missed().items():
        asked = f"{value:.3g} {name.replace('_', ' ')} in place of {getattr(proposal.target, name):.3g}"
        tell(f"warning: {asked}, on stretches that nothing was chosen on: record longer, or set a budget (narrate)")
    if (held := _long_hold(proposal, in_use)) is not None:
        tell(f"warning: {held}")


def _long_hold(proposal: Proposal, in_use: GateSettings) -> str | None:
    """Return what is odd about a pause between two texts that few of fit into the recording it was chosen on."""
    hold = proposal.gates.meaning.least_hold
    if hold == in_use.meaning.least_hold or hold * _FEW_HOLDS < proposal.seconds:
        return None
    return (
        f"meaning.least_hold {hold:g} s is long for a recording of {proposal.seconds:.0f} s, so little is known of what"
        " it leaves out: record longer, or ask for a higher --quality"
    )


def _tell_what_next(source: str, bundle: Path, out: Path | None, bundle_out: Path | None, proposal: Proposal) -> None:
    """Say what was written, and how it is used; on stderr, since stdout has the figures."""
    from ..bundle import nano_bundle

    command = "narrate" if proposal.novel_below is None else "embed --events"
    shown = shlex.quote(without_credentials(source))
    for path, option in ((out, "--gates"), (bundle_out, "--bundle")):
        if path is not None:
            same = "" if proposal.improved else ", with the settings in use"
            of = f" --bundle {shlex.quote(str(bundle))}" if option == "--gates" and bundle != nano_bundle() else ""
            tell(f"wrote {path}{same}: vlj-edge {command} {shown} {option} {shlex.quote(str(path))}{of}")
    if out is None and bundle_out is None and proposal.improved:
        tell(
            "nothing was written: add --out gates.json for a file of these gates, which --gates of other commands reads"
        )


def _gain(proposal: Proposal) -> str:
    """Return by how much what is proposed differs from what is in use, on time that it was not chosen on."""
    figures = proposal.as_dict()
    new, old = figures["held_out"], figures["own"]
    texts = "texts" if proposal.novel_below is None else "events"
    return (
        f"in place of the gates in use: right {new['quality']:.3f} of the time, before {old['quality']:.3f}"
        f" ({new['quality'] - old['quality']:+.3f}); {new['texts_per_hour']:.1f} {texts} an hour, before"
        f" {old['texts_per_hour']:.1f}; {new['encodes_per_minute']:.1f} encodes a minute, before"
        f" {old['encodes_per_minute']:.1f}"
    )


def _name(source: str) -> str:
    from .source_names import name_and_uri

    return name_and_uri(source)[0]


def _print(proposal: Proposal, in_use: GateSettings) -> None:
    from rich.table import Table

    figures = proposal.as_dict()
    texts = "texts an hour" if proposal.novel_below is None else "events an hour"
    console = stdout_console()
    table = Table("", "right", "95 % interval", texts, "95 % interval", "encodes a minute", "")
    rows: list[tuple[str, Any]] = [("at other rates", point) for point in figures["curve"]]
    rows = [*rows, ("in use", figures["own"])]
    if figures["improved"]:
        rows.append(("proposed", figures["held_out"]))
    if figures["rejected"] is not None:
        rows.append(("not better", figures["rejected"]))
    for name, row in rows:
        spans = [f"{low:.3g} to {high:.3g}" for low, high in (row["quality_interval"], row["texts_per_hour_interval"])]
        bar = "#" * round(_BAR * row["quality"])
        values = (f"{row['quality']:.3f}", spans[0], f"{row['texts_per_hour']:.1f}", spans[1])
        table.add_row(name, *values, f"{row['encodes_per_minute']:.1f}", bar)
    console.print(table)
    say(_verdict(proposal, in_use))
    if proposal.found.improved:
        say(_gain(proposal))
    if "label_head" in figures:
        say(_of_label_head(figures["label_head"]))
    if "tokens" in figures:
        say(_of_tokens(figures["tokens"]))


def _of_tokens(found: dict[str, Any]) -> str:
    low, high = found["difference_interval"]
    judged = (
        f"with {found['share']:.0%} of the tokens the text is right {found['quality_auto']:.3f} of the time in place of"
        f" {found['quality_all']:.3f}: {found['difference']:+.3f}, {low:+.3f} to {high:+.3f}"
    )
    return f"proposed: tokens auto ({judged})" if found["proposed"] == "auto" else f"all tokens stay ({judged})"


def _of_label_head(found: dict[str, Any]) -> str:
    numbers = f"none_below {found['none_below']:g}, lead {found['lead']:g}"
    if not found["improved"]:
        return f"label head: nothing was surely better, so {numbers} stay"
    right, before = found["held_out"]["quality"], found["own"]["quality"]
    judged = f"what it says of a window is right {right:.3f} of the time in place of {before:.3f}"
    return f"proposed for the label head: {numbers} ({judged})"


def _verdict(proposal: Proposal, in_use: GateSettings) -> str:
    """Return one line: what is proposed, as far as it differs from what is in use."""
    count = proposal.as_dict()["folds"]
    judged = f"{count} stretches of {proposal.seconds / count:.0f} s, each judged with what was chosen on the others"
    if not proposal.found.improved:
        stays = (
            "the gates in use stay" if proposal.novel_below is None else f"novel_below {proposal.novel_below:g} stays"
        )
        return f"nothing was surely better, so {stays} ({judged})"
    if proposal.novel_below is not None:
        return f"proposed: novel_below {proposal.novel_below:g} ({judged})"
    old, new = asdict(in_use), asdict(proposal.gates)
    changed = [
        f"{gate}.{name} {value:g}"
        for gate, settings in new.items()
        for name, value in settings.items()
        if value != old[gate][name]
    ]
    return f"proposed ({judged}): {', '.join(changed)}"
