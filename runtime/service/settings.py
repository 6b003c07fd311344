"""The settings of one source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from vlj_edge.bundle import GateSettings
from vlj_edge.errors import WrongCall, without_credentials

from ..video.part import Part
from ..words.settings import WordsSettings


@dataclass(frozen=True)
class SourceSettings:
    """One source and how it is narrated.

    Attributes:
        name: unique in a station; events carry it. One that is an address loses its credentials and values.
        uri: as for vlj_edge.runtime.video.uri.open_source.
        query: the query to the predictor; None for the bundle's default.
        gates: None for the bundle's.
        labels: the nearest one is reported with each encoded window.
        loop: repeat a recording when it has ended.
        rotate: degrees clockwise by which every image is turned: 0, 90, 180 or 270.
        words: the endpoint that says what has changed; None for the bundle's own decoder.
        part: what of a recording is played, and how it is read. A live source ends after part.end seconds.
    """

    name: str
    uri: str
    query: str | None = None
    gates: GateSettings | None = None
    labels: tuple[str, ...] = ()
    loop: bool = False
    rotate: int = 0
    part: Part = field(default_factory=Part)
    words: WordsSettings | None = None

    def __post_init__(self) -> None:
        if "/" in self.name:
            object.__setattr__(self, "name", without_credentials(self.name))

    @property
    def is_named(self) -> bool:
        """Whether somebody has given it a name, which is not that of its address."""
        return not self.name.startswith(without_credentials(self.uri))

    def check_address(self) -> None:
        """Raises VljEdgeError: no source can be opened at such an address, or with such a part, whatever is there."""
        from ..video.uri import check_source

        check_source(self.uri, self.part, self.loop)

    def reads_the_same(self, other: SourceSettings) -> bool:
        """Return whether both open the same source in the same way, so that a running one need not be opened again."""
        return (self.uri, self.rotate, self.part) == (other.uri, other.rotate, other.part)


def by_name(sources: Sequence[SourceSettings]) -> dict[str, SourceSettings]:
    """Return the sources by their names, in the same order.

    Raises:
        VljEdgeError: two sources have the same name.
    """
    found: dict[str, SourceSettings] = {}
    for settings in sources:
        if settings.name in found:
            raise WrongCall(f"two sources are called '{settings.name}': name each differently, as NAME=SOURCE")
        found[settings.name] = settings
    return found
