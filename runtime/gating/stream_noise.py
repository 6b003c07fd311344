"""What the gates have learned of one stream, with which the next run over it begins, and the limits that follow it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from vlj_edge.bundle import GateSettings, RestSettings, SceneGateSettings

from ..video.preprocess import THUMBNAIL
from .caption_memory import raised
from .embedding_noise import EmbeddingNoise
from .picture_noise import PictureNoise

_COSINES = ("speak_below", "speak_below_at_rest", "forget_above", "same_above")


@dataclass
class StreamNoise:
    """What the pictures and embeddings of a stream differ by while nothing happens in it.

    Give the same one to several runs of Model.narrate() over a camera, one after another: each goes on where the one
    before has stopped. It is forgotten as it was learned, within about a minute. Not for two runs at the same time.

    Attributes:
        picture: of thumbnails of the picture, cell by cell.
        embedding: of looks at the resting picture; and, for gates that nothing was calibrated for, of all looks.

    Example:
        >>> import vlj_edge
        >>> noise = vlj_edge.StreamNoise()
        >>> with vlj_edge.load() as model:
        ...     texts = list(model.narrate("examples/media/demo.mp4", noise=noise))
        >>> noise.picture.median.shape, noise.picture.restless() < 0.1
        ((32, 32), True)
    """

    picture: PictureNoise = field(default_factory=lambda: PictureNoise(THUMBNAIL))
    embedding: EmbeddingNoise = field(default_factory=EmbeddingNoise)


@dataclass(frozen=True)
class Threshold:
    """A limit of the gates that follows what the stream shows.

    Attributes:
        name: of the gate and the setting, such as "meaning.speak_below".
        as_set: the setting.
        now: the limit in force; of one that each cell has for itself, their median.
        why: what changed it, in words; empty if nothing did.
    """

    name: str
    as_set: float
    now: float
    why: str


def thresholds_now(gates: GateSettings, noise: StreamNoise) -> list[Threshold]:
    """Return the limits that follow noise, as they are now."""
    bursts = noise.picture.beyond_bursts(gates.rest.changed)
    found = [
        _of_cells("rest", gates.rest, noise.picture, bursts),
        _of_cells("scene", gates.scene, noise.picture, gates.scene.changed),
    ]
    for name in _COSINES:
        as_set = getattr(gates.meaning, name)
        now = noise.embedding.limit(as_set, gates.meaning)
        found.append(Threshold(f"meaning.{name}", as_set, now, _why(gates, noise.embedding) if now != as_set else ""))
    if gates.meaning.relative:
        moments = noise.embedding.spread.moments
        now = raised(gates.memory.same, 0.0 if moments is None else moments.apart)
        why = _of_moments(noise.embedding) or "it is not known yet how near moments are"
        found.append(Threshold("memory.same", gates.memory.same, now, why if now != gates.memory.same else ""))
    return found


def _why(gates: GateSettings, noise: EmbeddingNoise) -> str:
    why = [_of_moments(noise)] if gates.meaning.relative and noise.spread.moments is not None else []
    if noise.level < 1 or not why:
        why.append(f"looks at the resting picture have a cosine of {noise.level:.4g}")
    return "; ".join(why)


def _of_moments(noise: EmbeddingNoise) -> str:
    moments = noise.spread.moments
    if moments is None:
        return ""
    found = f"moments of the last half minute have a cosine of {1 - moments.apart:.4g}"
    if moments.between_scenes > 0:
        found += f", its nearest scenes {1 - moments.between_scenes:.4g}"
    return found


def _of_cells(gate: str, settings: RestSettings | SceneGateSettings, noise: PictureNoise, least: float) -> Threshold:
    """Return the difference from which on a cell counts as changed; `least` in a cell without noise."""
    limits = np.maximum(settings.times_noise * noise.median.astype(np.float64), least)
    noisy = float((limits > least).mean())
    why = [f"{100 * noisy:.3g} % of the cells have more noise"] if noisy else []
    if least > settings.changed:
        why.append(f"the still picture changes by up to {noise.bursts:.2g} now and then")
    return Threshold(f"{gate}.changed", settings.changed, float(np.median(limits)), "; ".join(why))
