"""What a call of `vlj-edge serve` asks for: its arguments, its file, and what the page has saved. Files may change."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .budget_options import BudgetOptions
from .outputs import all_written, refuse_overwriting_inputs
from .part_options import PartOptions
from .source_names import parse_sources
from .words_options import FIELDS as WORDS
from .words_options import option_of, words_settings

if TYPE_CHECKING:
    from vlj_edge.runtime.alerts.settings import Alert
    from vlj_edge.runtime.model import Model
    from vlj_edge.runtime.service.config import Config
    from vlj_edge.runtime.service.settings import SourceSettings
    from vlj_edge.runtime.service.station import Station
    from vlj_edge.runtime.words.settings import WordsSettings

# Options that are settings of the sources.
_APPLIED_AGAIN = ("query", "loop", "texts_per_hour", "encodes_per_minute", *WORDS)

_INPUTS = ("bundle", "gates", "token_file", "key_file", "store", "words_key_file", "words_schema")


@dataclass(frozen=True)
class ServeSettings:
    """What a call asks for.

    Attributes:
        arguments: the SOURCEs of the command line.
        config: the file of --config.
        given: options of the command line, by name; they go before those of the file.
        part: of the SOURCEs.
        configured: the sources by name, as of the last call of sources(), without what was saved.
    """

    arguments: tuple[str, ...]
    config: Path | None
    given: dict[str, Any]
    part: PartOptions
    configured: dict[str, SourceSettings] = field(default_factory=dict)

    def read_file(self) -> Config:
        """Return what is in the file now; nothing without one. Raises VljEdgeError: see read_config()."""
        from vlj_edge.runtime.service.config import Config, read_config

        return Config() if self.config is None else read_config(self.config)

    def options(self) -> dict[str, Any]:
        """Return the options by name, only those that were given."""
        file = self.read_file()
        if not self.arguments and not file.source_names:
            raise click.UsageError("name a SOURCE, or a --config with [[source]]")
        if not self.arguments and self.part != PartOptions():
            raise click.UsageError(
                "--start and the options after it are for a SOURCE here: name one, or set them in --config"
            )
        options = file.options | self.given
        self._words(file, options)  # what is wrong with them is told before a model is loaded
        return options

    def sources(self, model: Model, started_with: dict[str, Any]) -> list[SourceSettings]:
        """Return the sources of the command line and of the file as it is now, with the settings that were saved.

        Args:
            started_with: the options that the service was started with.

        Raises:
            VljEdgeError: a file cannot be read, an output is one of the sources, or a source's settings cannot be used.
        """
        from vlj_edge.runtime.service.channel_context import check_settings
        from vlj_edge.runtime.service.config import read_profile, with_profile

        from ..errors import VljEdgeError, WrongCall

        file = self.read_file()
        options = file.options | self.given
        query, loop = options.get("query"), options.get("loop", False)
        budget = BudgetOptions(options.get("texts_per_hour"), options.get("encodes_per_minute"))
        gates = budget.applied_to(model.manifest.gates)
        found = parse_sources(self.arguments, query, self.part, loop)
        found += file.sources(gates, query, loop, model.manifest)
        if not found:  # it is being written
            raise VljEdgeError(f"{self.config} names no source: give it a [[source]], then send SIGHUP again")
        if budget.given:
            found = [replace(settings, gates=settings.gates or gates) for settings in found]
        words = self._words(file, options)
        found = [file.with_words(settings, words) for settings in found]
        self._refuse_overwriting(started_with, found)
        without_saved = {settings.name: settings for settings in found}
        saved = read_profile(Path(started_with["profile"])) if "profile" in started_with else {}
        found = [with_profile(settings, saved) for settings in found]
        for settings in found:
            try:
                check_settings(model, settings.query, settings.gates)
                settings.check_address()
            except VljEdgeError as error:
                in_call = isinstance(error, WrongCall) and self.config is None
                raise (WrongCall if in_call else VljEdgeError)(f"{settings.name}: {error}") from None
        self.configured.clear()
        self.configured.update(without_saved)
        changed = {name for name in {**started_with, **options} if started_with.get(name) != options.get(name)}
        for name in sorted(changed.difference(_APPLIED_AGAIN)):
            logging.warning("%s: %s changes with the next start", self.config, name)
        return found

    def _words(self, file: Config, options: dict[str, Any]) -> WordsSettings | None:
        return words_settings(
            options,
            lambda name: option_of(name) if name in self.given else file.place(name),
            lambda name: option_of(name) if self.config is None else f"{name} in {self.config}",
        )

    def alerts(self) -> tuple[Alert, ...]:
        """Return the alerts of the file as it is now, of the sources of the last call of sources().

        Raises:
            VljEdgeError: see read_config(), or one names a camera that is not there.
        """
        file = self.read_file()
        file.check_cameras(self.configured)
        return file.alerts

    def place(self, name: str) -> str | None:
        """Return where the value of an option stands in the file, for errors; None: it is of the command line."""
        return None if name in self.given or self.config is None else self.read_file().place(name)

    def _refuse_overwriting(self, options: dict[str, Any], sources: list[SourceSettings]) -> None:
        read = (
            self.arguments,
            self.config,
            *(options.get(name) for name in _INPUTS),
        )
        outputs = [(name, Path(options[name])) for name in ("log", "profile", "learned") if name in options]
        written = [(f"--{name}", each) for name, path in outputs for each in all_written(name, path, options)]
        refuse_overwriting_inputs(written, [*read, *(settings.uri for settings in sources)])


def apply_again(
    station: Station, read_sources: Callable[[], list[SourceSettings]], read_alerts: Callable[[], Sequence[Alert]]
) -> None:
    """Apply the current sources and settings to a station; if anything in them is wrong, nothing changes. Either way
    the log gets one line."""
    from ..errors import VljEdgeError

    try:
        station.reconfigure(read_sources(), read_alerts())
        logging.info("settings were read again: %s", ", ".join(station.channels))
    except (VljEdgeError, click.ClickException) as error:
        logging.error("settings were not read again: %s", error)
    except Exception as error:  # the next SIGHUP finds a service that still answers
        logging.error("settings were not read again: it failed inside vlj-edge (%r): please report it", error)
