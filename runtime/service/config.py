"""The configuration file of vlj-edge serve (TOML), and the settings that its page saves (JSON).

Errors name the line, since the file may be edited on a remote board.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from vlj_edge.atomic_write import atomic_write
from vlj_edge.bundle import GateSettings, Manifest
from vlj_edge.bundle.gate_profile import gates_of_file, with_named
from vlj_edge.errors import VljEdgeError, errors_at, printable, require, without_credentials, without_secrets
from vlj_edge.names import problem_of_name
from vlj_edge.regular_file import MOST_TEXT, check_regular_file
from vlj_edge.schema import Bytes, FieldPath, Port, Range, SchemaError, parse, steps_of
from vlj_edge.tables import table_text
from vlj_edge.text_list import is_file_name, repeated
from vlj_edge.time_text import SECONDS

from ..alerts.settings import Alert, read_alerts
from ..engines.base import BackendName
from ..video.decoding.picture_decoder import DecoderChoice
from ..video.part import ImageTimes, Part
from ..words.settings import WordsSettings, read_prompt
from .settings import SourceSettings

_TABLES = ("source", "alert")  # [[source]] and [[alert]]
Limit = Annotated[float, Range(0, 1e6)]
_Seconds = Annotated[float, SECONDS, Range(at_least=0, at_most=1e9)]
_LongerThan0 = Annotated[float, SECONDS, Range(above=0, at_most=1e9)]


@dataclass(frozen=True)
class SourceConfig:
    """One [[source]].

    Attributes:
        start, end, duration: the part of a recording that is played. A camera may have an end, too.
        fps: of a recording, in place of its own times.
        gates_file: a file of vlj-edge calibrate.
        gates: all are checked; only the settings that the file names are used, in place of those of `gates_file`.
        texts_per_hour, encodes_per_minute: short for those of [source.gates.budget].
        prompt, calls_per_hour: in place of the file's own, where there are words from an endpoint.
    """

    name: str
    uri: str = field(repr=False)
    query: str | None = None
    labels: tuple[str, ...] = ()
    loop: bool | None = None
    start: _Seconds = 0.0
    end: _LongerThan0 | None = None
    duration: _LongerThan0 | None = None
    fps: Annotated[float, Range(0.001, 1000)] | None = None
    image_times: ImageTimes = "rate"
    rotate: Literal[0, 90, 180, 270] = 0
    decoder: DecoderChoice = "auto"
    gates_file: str | None = None
    gates: GateSettings = field(default_factory=GateSettings)
    texts_per_hour: Limit | None = None
    encodes_per_minute: Limit | None = None
    prompt: str | None = None
    calls_per_hour: Limit | None = None

    @property
    def limits(self) -> dict[str, float]:
        """The limits of the budget that are named outside its table."""
        found = {"texts_per_hour": self.texts_per_hour, "encodes_per_minute": self.encodes_per_minute}
        return {name: value for name, value in found.items() if value is not None}

    @property
    def part(self) -> Part:
        """What of the source is played."""
        end = self.end if self.duration is None else self.start + self.duration
        return Part(self.start, end, self.fps, self.image_times, self.decoder)


@dataclass(frozen=True)
class FileOptions:
    """The options that the file may have; names are those of the command line, with underscores."""

    bundle: str | None = None
    gates: str | None = None
    tokens: Literal["all", "auto"] | None = None
    backend: BackendName | None = None
    engines: str | None = None
    key_file: str | None = None
    threads: Annotated[int, Range(1, 1024)] | None = None
    host: str | None = None
    port: Port | None = None
    token_file: str | None = None
    allowed_host: tuple[str, ...] = ()
    trusted_proxy: tuple[str, ...] = ()
    store: str | None = None
    keep_days: Annotated[float, Range(at_least=0)] | None = None
    keep_gb: Annotated[float, Range(at_least=0)] | None = None
    profile: str | None = None
    learned: str | None = None
    query: str | None = None
    loop: bool | None = None
    texts_per_hour: Limit | None = None
    encodes_per_minute: Limit | None = None
    words: str | None = None
    words_model: str | None = None
    prompt: str | None = None
    frames: Annotated[int, Range(1, 64)] | None = None
    frame_size: Annotated[int, Range(16, 4096)] | None = None
    calls_per_hour: Limit | None = None
    words_tokens_per_day: Annotated[int, Range(0, 1 << 40)] | None = None
    words_timeout: _LongerThan0 | None = None
    words_max_tokens: Annotated[int, Range(1, 100_000)] | None = None
    words_key_file: str | None = None
    words_schema: str | None = None
    log: str | None = None
    log_bytes: Bytes | None = None
    mqtt: str | None = None
    webhook: str | None = None
    notify: str | None = None
    alert_folder: str | None = None
    say: str | None = None
    log_format: Literal["text", "json"] | None = None
    source: tuple[SourceConfig, ...] = ()
    alert: tuple[Any, ...] = ()


@dataclass(frozen=True)
class SavedSettings:
    """The settings of one source as they were saved; None for those that the source has without them."""

    query: str | None = None
    labels: tuple[str, ...] | None = None
    gates: GateSettings | None = None


class Config:
    """A configuration file's content.

    Args:
        path, text: of the file, for errors.

    Attributes:
        options: values by name, only those that the file has.
        alerts: in the file's order.
    """

    def __init__(
        self,
        raw: Mapping[str, Any] | None = None,
        parsed: FileOptions | None = None,
        path: Path = Path(),
        text: str = "",
    ) -> None:
        raw, self._parsed = raw or {}, parsed or FileOptions()
        self._path, self._lines = path, text.splitlines()
        self.options = {
            name: value for name, value in vars(self._parsed).items() if name in raw and name not in _TABLES
        }
        self._raw_sources: list[dict[str, Any]] = raw.get("source", [])
        self.alerts: tuple[Alert, ...] = read_alerts(raw.get("alert", []))

    def check_cameras(self, names: Iterable[str]) -> None:
        """Raise VljEdgeError if an alert names a camera that is none of these sources."""
        known = list(names)
        for camera, where in self.cameras_besides(known):
            near = difflib.get_close_matches(camera, known, 1) or known
            raise VljEdgeError(f"{where}: name {' or '.join(near[:5])}")

    def cameras_besides(self, names: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Yield the cameras that alerts name and that are none of these sources, each with a line that says where."""
        for index, alert in enumerate(self.alerts):
            for camera in alert.cameras:
                if camera not in names:
                    place = self.place("alert", index, "cameras")
                    yield camera, f"{place} names '{camera}', which is no source (alert '{alert.name}')"

    def place(self, *field: str | int) -> str:
        """Return where a field stands, for an error: file, line and dotted name."""
        return f"{self._path}, line {_line_of(self._lines, field)}: {steps_of(field)}"

    @property
    def source_names(self) -> list[str]:
        """Names of the sources, in the file's order."""
        return [source.name for source in self._parsed.source]

    def sources(
        self,
        default_gates: GateSettings,
        query: str | None = None,
        loop: bool = False,
        manifest: Manifest | None = None,
    ) -> list[SourceSettings]:
        """Return the settings of the sources, in the file's order.

        Args:
            default_gates: the bundle's; they are used for settings that the file does not name.
            query: of sources without one.
            loop: of sources that do not set it.
            manifest: the bundle's, to warn of gates that were made for another.

        Raises:
            VljEdgeError: a file of gates cannot be read.
        """
        found = []
        for source, raw in zip(self._parsed.source, self._raw_sources, strict=True):
            gates = gates_of_file(source.gates_file, default_gates, manifest)
            gates = with_named(gates, source.gates, raw.get("gates", {}))
            gates = replace(gates, budget=replace(gates.budget, **source.limits))
            own = source.gates_file is not None or bool(raw.get("gates")) or bool(source.limits)
            again = loop if source.loop is None else source.loop
            found.append(
                SourceSettings(
                    source.name,
                    source.uri,
                    source.query or query,
                    gates if own else None,
                    source.labels,
                    again,
                    source.rotate,
                    source.part,
                )
            )
        return found

    def with_words(self, settings: SourceSettings, words: WordsSettings | None) -> SourceSettings:
        """Return the settings of a source with the words of an endpoint, as its [[source]] has them.

        Raises:
            VljEdgeError: a prompt cannot be used.
        """
        if words is None:
            return replace(settings, words=None)
        asks = any(each.confirm is not None and each.watches(settings.name) for each in self.alerts)
        words = replace(words, has_questions=asks)
        for index, source in enumerate(self._parsed.source):
            if source.name == settings.name and source.prompt is not None:
                with errors_at(self.place("source", index, "prompt")):
                    words = replace(words, prompt=read_prompt(source.prompt))
            if source.name == settings.name and source.calls_per_hour is not None:
                words = replace(words, calls_per_hour=source.calls_per_hour)
        return replace(settings, words=words)


def read_config(path: Path) -> Config:
    """Read a configuration file.

    Raises:
        VljEdgeError: it cannot be read, is not TOML, or holds an unknown option or a wrong value; with the line.
    """
    text = table_text(path, "name a configuration file", MOST_TEXT)
    toml = require("tomllib" if sys.version_info >= (3, 11) else "tomli", "serve")
    try:
        raw: dict[str, Any] = toml.loads(text)
    except (ValueError, RecursionError) as error:  # not TOML
        raise VljEdgeError(f"{path} is not TOML ({error}): correct that line") from error
    try:
        for name in _TABLES:
            if isinstance(raw.get(name), dict):
                raise SchemaError((name,), f"is one table: write [[{name}]], with two brackets")
        parsed = parse(FileOptions, raw)
        _check_sources(parsed.source)
        return Config(raw, parsed, path, text)
    except SchemaError as error:
        line = _line_of(text.splitlines(), error.path)
        about = f"{without_secrets(str(error))}{_table_of(raw, error.path)}"
        raise VljEdgeError(f"{path}, line {line}: {about}: correct it") from error


def _table_of(raw: Mapping[str, Any], path: FieldPath) -> str:
    """Return which [[source]] or [[alert]] a field is in, as people count them; nothing if it is in none."""
    if path[:1] not in [(name,) for name in _TABLES] or len(path) < 2 or not isinstance(path[1], int):
        return ""
    table = raw[str(path[0])][path[1]]
    name = table.get("name") if isinstance(table, dict) else None
    named = f", '{printable(without_credentials(name))[:100]}'" if isinstance(name, str) and name.strip() else ""
    return f" ([[{path[0]}]] {path[1] + 1}{named})"


def _check_sources(sources: tuple[SourceConfig, ...]) -> None:
    for index, source in enumerate(sources):
        if problem := problem_of_name(source.name):
            raise SchemaError(("source", index, "name"), problem)
        if not source.uri:
            raise SchemaError(("source", index, "uri"), "is empty")
        if source.name in [earlier.name for earlier in sources[:index]]:
            raise SchemaError(("source", index, "name"), f"is '{source.name}', as of another source")
        for name, value in source.limits.items():
            if getattr(source.gates.budget, name) not in (0, value):
                raise SchemaError(("source", index, name), "is another one than in gates.budget: give one of them")
        if source.end is not None and source.duration is not None:
            raise SchemaError(("source", index, "duration"), "says the same as the end: give one of them")
        if source.end is not None and source.end <= source.start:
            raise SchemaError(("source", index, "end"), f"is not after the start, {source.start:g} s")
        if source.fps is not None and source.image_times != "rate":
            raise SchemaError(("source", index, "image_times"), "and fps exclude each other: give one of them")
        if not all(label.strip() for label in source.labels):
            raise SchemaError(("source", index, "labels"), "has an empty label")
        if twice := repeated(enumerate(source.labels)):
            raise SchemaError(("source", index, "labels"), f"has '{twice[1][1]}' twice")
        if files := [label for label in source.labels if is_file_name(label)]:
            raise SchemaError(("source", index, "labels"), f"names the file '{files[0]}' and no label")


def _line_of(lines: list[str], path: FieldPath) -> int:
    """Return the line number of a field, or of the [[source]] or [[alert]] that lacks it."""
    table = path[:2] if path[:1] and path[0] in _TABLES and len(path) > 1 else None
    names = [step for step in path[0 if table is None else 2 :] if isinstance(step, str)]
    counts = dict.fromkeys(_TABLES, -1)
    at, section = None, 1
    for number, line in enumerate(lines, 1):
        if (begins := re.match(r"\s*\[\[\s*(\w+)\s*\]\]", line)) and begins[1] in _TABLES:
            counts[begins[1]] += 1
            at = begins[1], counts[begins[1]]
            section = number if at == table else section
        elif re.match(rf"\s*\[(?!\s*({'|'.join(_TABLES)})\s*\.)", line):  # any other table
            at = None
        inside = at == table
        if inside and names and re.search(rf"(^|[\s.\[\"'{{,]){re.escape(names[-1])}[\"'\]]?\s*(=|\]|$)", line):
            return number
    return section


def read_profile(path: Path) -> dict[str, SavedSettings]:
    """Return the settings that the page saved, by the source's name; empty if the file does not exist.

    Raises:
        VljEdgeError: it cannot be read, or does not contain settings.
    """
    if not path.exists():
        return {}
    check_regular_file(path, "name a file of saved settings", MOST_TEXT)
    try:
        return parse(dict[str, SavedSettings], json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError) as error:
        raise VljEdgeError(f"{path} holds no saved settings ({error}): remove it, or save them again") from error


def save_profile(
    path: Path, sources: Sequence[SourceSettings], configured: Mapping[str, SourceSettings] | None = None
) -> None:
    """Write the present settings atomically, without the sources' addresses.

    Args:
        configured: what the sources have without a profile, by name. What is the same is not saved, so that it changes
            with the configuration.

    Raises:
        VljEdgeError: the file cannot be written.
    """
    raw = {source.name: dataclasses.asdict(_changed(source, (configured or {}).get(source.name))) for source in sources}
    try:
        with atomic_write(path) as stream:
            stream.write((json.dumps(raw, indent=1, ensure_ascii=False) + "\n").encode())
    except OSError as error:
        raise VljEdgeError(f"{path} cannot be written ({error.strerror}): check the folder and the disk") from error


def _changed(source: SourceSettings, before: SourceSettings | None) -> SavedSettings:
    if before is None:
        return SavedSettings(source.query, source.labels, source.gates)
    return SavedSettings(
        None if source.query == before.query else source.query,
        None if source.labels == before.labels else source.labels,
        None if source.gates == before.gates else source.gates,
    )


def with_profile(settings: SourceSettings, profile: Mapping[str, SavedSettings]) -> SourceSettings:
    """Return a source's settings, replaced by those that were saved for it."""
    saved = profile.get(settings.name)
    if saved is None:
        return settings
    return replace(
        settings,
        query=saved.query or settings.query,
        gates=saved.gates or settings.gates,
        labels=settings.labels if saved.labels is None else saved.labels,
    )
