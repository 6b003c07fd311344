"""What vlj-edge serve is told in a file: TOML, every option, checked before anything is started.

An error names the line: whoever edits the file on a board in a corner has no debugger.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vlj_edge.atomic_write import atomic_write
from vlj_edge.bundle import CaptionMemorySettings, GateSettings, MeaningGateSettings, RestSettings, SceneGateSettings
from vlj_edge.errors import VljEdgeError, require

from .channel import SourceSettings

_KINDS: dict[str, type] = {
    "bundle": str,
    "host": str,
    "port": int,
    "token_file": str,
    "store": str,
    "profile": str,
    "query": str,
    "log": str,
    "log_bytes": int,
    "mqtt": str,
    "webhook": str,
    "say": str,
    "log_format": str,
}
_GATES = {
    "scene": SceneGateSettings,
    "meaning": MeaningGateSettings,
    "memory": CaptionMemorySettings,
    "rest": RestSettings,
}


@dataclass(frozen=True)
class Config:
    """A file's content.

    Attributes:
        options: by name, without those that are not in the file.
        sources: in the file's order; their gates are settings in place of the bundle's, those not named as there.
    """

    options: dict[str, Any] = field(default_factory=dict)
    sources: tuple[SourceConfig, ...] = ()


@dataclass(frozen=True)
class SourceConfig:
    """One [[source]]: gates are {gate: {setting: value}}."""

    name: str
    uri: str = field(repr=False)
    query: str | None = None
    labels: tuple[str, ...] = ()
    gates: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def wanted(self, standard: GateSettings, query: str | None = None) -> SourceSettings:
        """With what the file does not say taken from a bundle's gates."""
        changed = {
            gate: replace(getattr(standard, gate), **settings)  # checked when the file was read
            for gate, settings in self.gates.items()
        }
        gates = replace(standard, **changed) if changed else None
        return SourceSettings(self.name, self.uri, self.query or query, gates, self.labels)


def read_config(path: Path) -> Config:
    """Read a file.

    Raises:
        VljEdgeError: it cannot be read, is not TOML, or says something that is not known, with the line.
    """
    toml = require("tomllib" if sys.version_info >= (3, 11) else "tomli", "serve")
    try:
        text = path.read_text(encoding="utf-8")
        raw: dict[str, Any] = toml.loads(text)
    except OSError as error:
        raise VljEdgeError(f"{path} cannot be read ({error.strerror}): check the path") from error
    except ValueError as error:  # of TOML, or of UTF-8
        raise VljEdgeError(f"{path} is not TOML ({error}): mend that line") from error
    check = _Check(path, text)
    tables = raw.pop("source", [])
    if not isinstance(tables, list) or not all(isinstance(each, dict) for each in tables):
        raise check.wrong("source", "sources are tables: write [[source]]")
    for name, value in raw.items():
        if name not in _KINDS:
            raise check.wrong(name, f"'{name}' is not known: it is one of {', '.join(_KINDS)}, or [[source]]")
        check.kind(name, value, _KINDS[name])
    if raw.get("log_format", "text") not in ("text", "json"):
        raise check.wrong("log_format", "log_format is 'text' or 'json'")
    sources = tuple(_source(check, number, table) for number, table in enumerate(tables))
    names = [source.name for source in sources]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise check.wrong("name", f"two sources are called '{name}': name each differently", number)
    return Config(raw, sources)


def read_profile(path: Path) -> dict[str, dict[str, Any]]:
    """Settings that were saved, by source: {"query": ..., "gates": {gate: {setting: value}}}. None were: empty.

    Raises:
        VljEdgeError: it cannot be read, or holds something else.
    """
    if not path.exists():
        return {}
    try:
        raw: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        for saved in raw.values():
            if not isinstance(saved.get("query"), (str, type(None))):
                raise ValueError("a query is no text")
            if not all(isinstance(label, str) for label in saved.get("labels") or ()):
                raise ValueError("a label is no text")
            _ = {gate: _GATES[gate](**settings) for gate, settings in (saved.get("gates") or {}).items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise VljEdgeError(f"{path} holds no saved settings ({error}): remove it, or save them again") from error
    return raw


def save_profile(path: Path, sources: Sequence[SourceSettings]) -> None:
    """Write the settings that hold now, whole or not at all. Addresses are not in it.

    Raises:
        VljEdgeError: it cannot be written.
    """
    raw = {
        wanted.name: {
            "query": wanted.query,
            "labels": wanted.labels,
            "gates": dataclasses.asdict(wanted.gates) if wanted.gates is not None else None,
        }
        for wanted in sources
    }
    try:
        with atomic_write(path) as stream:
            stream.write((json.dumps(raw, indent=1, ensure_ascii=False) + "\n").encode())
    except OSError as error:
        raise VljEdgeError(f"{path} cannot be written ({error.strerror}): check the folder and the disk") from error


def with_profile(
    wanted: SourceSettings, profile: Mapping[str, Mapping[str, Any]], standard: GateSettings
) -> SourceSettings:
    """A source with the settings that were saved for it."""
    saved = profile.get(wanted.name)
    if saved is None:
        return wanted
    gates = wanted.gates
    if saved.get("gates"):
        gates = replace(standard, **{gate: _GATES[gate](**settings) for gate, settings in saved["gates"].items()})
    labels = tuple(saved["labels"]) if saved.get("labels") else wanted.labels
    return replace(wanted, query=saved.get("query") or wanted.query, gates=gates, labels=labels)


def _source(check: _Check, number: int, table: dict[str, Any]) -> SourceConfig:
    for name in table:
        if name not in ("name", "uri", "query", "labels", "gates"):
            raise check.wrong(
                name, f"'{name}' is not known of a source: it has name, uri, query, labels and gates", number
            )
    for name in ("name", "uri"):
        if not table.get(name):
            raise check.wrong("", f"a source has no {name}: add {name} = '...'", number)
    for name in ("name", "uri", "query"):
        check.kind(name, table.get(name, ""), str, number)
    labels = table.get("labels", [])
    if not isinstance(labels, list) or not all(isinstance(label, str) and label.strip() for label in labels):
        raise check.wrong("labels", "labels are texts in brackets: labels = ['opens', 'closes']", number)
    gates = table.get("gates", {})
    check.kind("gates", gates, dict, number)
    for gate, settings in gates.items():
        if gate not in _GATES or not isinstance(settings, dict):
            raise check.wrong(gate, f"'{gate}' is no gate: write [source.gates.meaning] and settings below it", number)
        known = {each.name: type(each.default) for each in dataclasses.fields(_GATES[gate])}
        for name, value in settings.items():
            if name not in known:
                raise check.wrong(name, f"'{name}' is no setting of the {gate} gate: it has {', '.join(known)}", number)
            check.kind(name, value, (int, float) if known[name] is float else known[name], number)
    return SourceConfig(table["name"], table["uri"], table.get("query"), tuple(labels), gates)


class _Check:
    """Says in which line of a file something is wrong."""

    def __init__(self, path: Path, text: str) -> None:
        self._path, self._lines = path, text.splitlines()

    def kind(self, name: str, value: Any, wanted: type | tuple[type, ...], source: int | None = None) -> None:
        """Raises VljEdgeError: the value is of another kind."""
        kinds = wanted if isinstance(wanted, tuple) else (wanted,)
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            told = {str: "a text in quotes", int: "a whole number", float: "a number", bool: "true or false"}
            raise self.wrong(name, f"{name} is {told.get(kinds[-1], 'a table')}", source)

    def wrong(self, name: str, message: str, source: int | None = None) -> VljEdgeError:
        """The error, with the line in which a name stands, of the n-th source or outside of them."""
        number = self._line(name, source)
        return VljEdgeError(f"{self._path}, line {number}: {message}")

    def _line(self, name: str, source: int | None) -> int:
        at, begun = -1, 1
        for number, line in enumerate(self._lines, 1):
            if re.match(r"\s*\[\[\s*source\s*\]\]", line):
                at += 1
                begun = number if at == source else begun
            within = at == source if source is not None else at == -1
            if within and name and re.search(rf"(^|[\s.\[\"'{{,]){re.escape(name)}[\"'\]]?\s*(=|\]|$)", line):
                return number
        return begun
