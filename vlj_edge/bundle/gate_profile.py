"""Gates in a file of their own: what vlj-edge calibrate writes for one camera and --gates reads.

JSON: {"schema_version": 1, "gates": {...}, "novel_below": null, "made": {...}}. The gates have the names and places of
a manifest's; settings that are not named are the bundle's. "label_head" is there for a model that has one, with the two
numbers by which it names its labels.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from ..atomic_write import atomic_write
from ..errors import VljEdgeError
from ..regular_file import MOST_TEXT, check_regular_file
from ..schema import Range, SchemaError, parse
from .embedding_space import embedding_space
from .gate_ranges import check_gates, gates_problem, limits_of
from .gate_settings import GateSettings
from .manifest import Manifest

_LOG = logging.getLogger("vlj_edge")
PROFILE_VERSION = 1
_REMEDY = "correct it, or make it again with vlj-edge calibrate"


@dataclass(frozen=True)
class BundleIdentity:
    """Which bundle gates were made for.

    Attributes:
        embedding: width of its embeddings.
        space: embedding_space() of its manifest.
    """

    embedding: int
    space: str
    preset: str = ""

    @classmethod
    def of(cls, manifest: Manifest) -> BundleIdentity:
        """Return the identity of a bundle."""
        return cls(manifest.embedding, embedding_space(manifest), manifest.preset)


@dataclass(frozen=True)
class ProfileReceipt:
    """How gates were made.

    Attributes:
        source: its name, without credentials.
        seconds: of the recording.
        date: in ISO 8601.
        bundle: that they were made for; None if they were written by hand.
        target: what was wanted, by the names of the command's options.
        held_out: figures on blocks of the recording that the settings were not chosen on, with intervals of 95 %.
        fitted: figures of the proposed settings on all blocks, which were used to choose them.
        own: figures of the settings that were in use.
    """

    source: str = ""
    seconds: float = 0.0
    date: str = ""
    bundle: BundleIdentity | None = None
    target: dict[str, Any] = field(default_factory=dict)
    held_out: dict[str, Any] = field(default_factory=dict)
    fitted: dict[str, Any] = field(default_factory=dict)
    own: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LabelNumbers:
    """By what a label head names its labels; see LabelHead."""

    none_below: Annotated[float, Range(0, 1)]
    lead: Annotated[float, Range(0, 1)]


@dataclass(frozen=True)
class GateProfile:
    """The content of a file of gates.

    Attributes:
        novel_below: of events of novelty, for bundles without a decoder; see NoveltyDetector.
        label_head: of a model that names labels of its own; None: the bundle's.
        tokens: that are computed where nothing is asked for, see Tokens; None: the bundle's.
    """

    gates: GateSettings
    novel_below: Annotated[float, Range(-1, 1)] | None = None
    made: ProfileReceipt = field(default_factory=ProfileReceipt)
    schema_version: int = PROFILE_VERSION
    label_head: LabelNumbers | None = None
    tokens: Literal["all", "auto"] | None = None

    def warning_for(self, manifest: Manifest) -> str | None:
        """Return what is odd about using these gates with a bundle; None if they were made for it."""
        made_for = self.made.bundle
        if made_for is None or made_for == BundleIdentity.of(manifest):
            return None
        if made_for.embedding != manifest.embedding:
            return (
                f"was made for embeddings of {made_for.embedding} dimensions, and those of this bundle have"
                f" {manifest.embedding}: its thresholds may not fit; run vlj-edge calibrate with this bundle"
            )
        return (
            f"was made for another bundle ({made_for.preset or made_for.space}): its thresholds may not fit; run"
            " vlj-edge calibrate with this bundle"
        )


def read_gate_profile(path: str | Path, default: GateSettings) -> GateProfile:
    """Read gates from a file, with the settings of `default`, the bundle's, where it names none.

    Raises:
        VljEdgeError: it cannot be read, or a name, value or range in it is wrong.
    """
    check_regular_file(path, "name a file that vlj-edge calibrate wrote", MOST_TEXT)
    try:
        raw = json.loads(Path(path).read_text(encoding="utf-8-sig"))
        version = raw.get("schema_version", PROFILE_VERSION) if isinstance(raw, dict) else PROFILE_VERSION
        if version != PROFILE_VERSION:
            raise SchemaError(("schema_version",), f"is {str(version)[:20]}, and this vlj-edge reads {PROFILE_VERSION}")
        profile = parse(GateProfile, raw)
        gates = with_named(default, profile.gates, raw["gates"])
        problem = gates_problem(gates)
        if problem is not None:
            raise ValueError(f"gates.{problem}")
    except OSError as error:
        raise VljEdgeError(f"{path} cannot be read ({error.strerror}): check the path") from error
    except UnicodeDecodeError as error:
        raise VljEdgeError(f"{path} holds no gates (it is no text in UTF-8): {_REMEDY}") from error
    except (ValueError, RecursionError) as error:  # not JSON, or no gates
        raise VljEdgeError(f"{path} holds no gates ({error}{_range_of(error)}): {_REMEDY}") from error
    return replace(profile, gates=gates)


def _range_of(error: Exception) -> str:
    """Return the range of the setting that an error is about, where the error does not say it."""
    known = error.path if isinstance(error, SchemaError) else ()
    if (
        len(known) != 3
        or " is unknown" in str(error)
        or " not at " in str(error)
        or known[-1] in ("enabled", "relative")
    ):
        return ""
    return f", {limits_of(str(known[-1]))}"


def write_gate_profile(path: Path, profile: GateProfile) -> None:
    """Write gates to a file, atomically, without a budget: what is affordable is no property of a camera.

    Raises:
        OSError: it cannot be written.
    """
    raw = asdict(profile)
    del raw["gates"]["budget"]
    for name in ("label_head", "tokens"):
        if raw[name] is None:
            del raw[name]
    with atomic_write(path) as stream:
        stream.write((json.dumps(raw, indent=1, ensure_ascii=False) + "\n").encode())


def with_gates(manifest: Manifest, gates: GateSettings | str | Path | None) -> Manifest:
    """Return a manifest with other gates: settings, or those of a file; None: its own.

    Raises:
        VljEdgeError: see read_gate_profile(), or a setting is out of its range.
    """
    if gates is None:
        return manifest
    if isinstance(gates, GateSettings):
        check_gates(gates)
        return replace(_without_default_gates(manifest), gates=gates)
    profile = _profile_of_file(gates, manifest.gates, manifest)
    found = with_label_head(replace(_without_default_gates(manifest), gates=profile.gates), profile.label_head)
    return with_tokens(found, profile.tokens)


def _without_default_gates(manifest: Manifest) -> Manifest:
    if not manifest.has_default_gates:
        return manifest
    return replace(manifest, receipt={name: each for name, each in manifest.receipt.items() if name != "gates"})


def with_label_head(manifest: Manifest, numbers: LabelNumbers | None) -> Manifest:
    """Return a manifest whose label head names its labels by other numbers; None, or without a head: the same."""
    if numbers is None or manifest.label_head is None:
        return manifest
    return replace(manifest, label_head=replace(manifest.label_head, **asdict(numbers)))


def with_tokens(manifest: Manifest, default: Literal["all", "auto"] | None) -> Manifest:
    """Return a manifest with another choice of tokens; None, or where no part of them can be computed: the same."""
    if default is None or manifest.tokens is None:
        return manifest
    return replace(manifest, tokens=replace(manifest.tokens, default=default))


def gates_of_file(path: str | Path | None, default: GateSettings, manifest: Manifest | None = None) -> GateSettings:
    """Return the gates of a file, or `default` without one; log a warning if they were made for another bundle, or if
    numbers of a label head or a choice of tokens are with them, which are not of one source but of the model.

    Raises:
        VljEdgeError: see read_gate_profile().
    """
    if path is None:
        return default
    profile = _profile_of_file(path, default, manifest)
    shared = {"numbers of the label head": profile.label_head, "a choice of tokens": profile.tokens}
    for what in (name for name, value in shared.items() if value is not None):
        _LOG.warning(
            "%s has %s, which all sources share: it is left out here; give the file as --gates of the command, or write"
            " it into a bundle with vlj-edge calibrate --bundle-out",
            path,
            what,
        )
    return profile.gates


def _profile_of_file(path: str | Path, default: GateSettings, manifest: Manifest | None) -> GateProfile:
    profile = read_gate_profile(path, default)
    warning = None if manifest is None else profile.warning_for(manifest)
    if warning is not None:
        _LOG.warning("%s %s", path, warning)
    return profile


def with_named(default: GateSettings, values: GateSettings, named: Mapping[str, Mapping[str, Any]]) -> GateSettings:
    """Return `default` with those of `values` that are named. Cosines that are named are those of the model, unless
    `relative` is named, too.

    Args:
        named: what the file holds, by gate and setting; `values` is what was parsed from it.
    """
    changed = {}
    for gate, settings in named.items():
        parsed = getattr(values, gate)
        changed[gate] = replace(getattr(default, gate), **{name: getattr(parsed, name) for name in settings})
    if {"speak_below", "speak_below_at_rest", "forget_above", "same_above"} & {*named.get("meaning", ())}:
        relative = "relative" in named["meaning"] and values.meaning.relative
        changed["meaning"] = replace(changed["meaning"], relative=relative)
    return replace(default, **changed)
