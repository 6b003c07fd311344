"""The few settings of the gates that calibration changes, as numbers that can be drawn and varied.

Cosines are handled as their distance from 1, and all numbers on a logarithmic scale, so that one range holds for every
camera and every embedding. Settings that are not named here stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vlj_edge.bundle import GateSettings

_TIDY = 4  # decimals
_SHORT = 0.05  # s, added to times that may be 0
_STEP = 0.15  # of a knob's logarithmic range: the standard deviation of a variation
_SEVERAL = 0.35  # probability that a variation moves a knob

# (lowest, highest) of each knob
_RANGES: dict[str, tuple[float, float]] = {
    "speak": (0.003, 0.7),  # 1 - speak_below; the noise of a stream never explains a lower cosine
    "speak_at_rest": (0.5, 20.0),  # 1 - speak_below_at_rest, in units of 1 - speak_below
    "forget": (0.1, 1.0),  # 1 - forget_above, in units of the smaller of both
    "same": (0.0002, 0.7),  # 1 - same_above
    "look": (0.25, 20.0),  # look_every, s
    "longest": (1.0, 2.5),  # longest_look, in units of look_every
    "look_at_rest": (0.5, 60.0),  # s
    "settle": (_SHORT, 2.0),
    "settle_moving": (_SHORT, 2.0),
    "settle_resting": (_SHORT, 2.0),
    "hold": (0.25, 30.0),  # least_hold, s
    "remember": (0.001, 0.1),  # 1 - caption_memory.same; beyond, a recording that repeats itself fits by chance
}
_TIMES = ("settle", "settle_moving", "settle_resting")


@dataclass(frozen=True)
class Knobs:
    """How candidates are made from settings that are known.

    Attributes:
        own: the settings to begin with.
        longest_look: seconds that look_every may reach.
    """

    own: GateSettings
    longest_look: float = 20.0

    def draw(self, rng: np.random.Generator) -> GateSettings:
        """Return settings from anywhere in the ranges, or, every other time, from around the own ones."""
        if rng.random() < 0.5:
            return self.vary(rng, self.own)
        values = {name: float(np.exp(rng.uniform(*np.log(self._range(name))))) for name in _RANGES}
        return self._settings(values)

    def vary(self, rng: np.random.Generator, settings: GateSettings) -> GateSettings:
        """Return settings near some."""
        values = _values(settings)
        moved = [name for name in _RANGES if rng.random() < _SEVERAL] or [str(rng.choice(list(_RANGES)))]
        for name in moved:
            low, high = np.log(self._range(name))
            values[name] *= float(np.exp(rng.normal() * _STEP * (high - low)))
        return self._settings(values)

    def _range(self, name: str) -> tuple[float, float]:
        low, high = _RANGES[name]
        return (low, max(high, self.longest_look)) if name in ("look", "look_at_rest") else (low, high)

    def _settings(self, values: dict[str, float]) -> GateSettings:
        held = {name: min(max(value, self._range(name)[0]), self._range(name)[1]) for name, value in values.items()}
        speak = 1 - held["speak"]
        at_rest = 1 - min(held["speak"] * held["speak_at_rest"], _RANGES["speak"][1])
        forget = 1 - held["forget"] * (1 - max(speak, at_rest))
        settle, settle_moving, settle_resting = (round(held[name] - _SHORT, 2) for name in _TIMES)
        meaning = replace(
            self.own.meaning,
            enabled=True,
            relative=False,
            speak_below=round(speak, _TIDY),
            speak_below_at_rest=round(at_rest, _TIDY),
            forget_above=max(round(forget, _TIDY), round(speak, _TIDY), round(at_rest, _TIDY)),
            same_above=round(1 - held["same"], _TIDY),
            look_every=round(held["look"], 2),
            longest_look=round(held["look"] * held["longest"], 2),
            look_at_rest=round(held["look_at_rest"], 2),
            least_hold=round(held["hold"], 2),
            settle=settle,
            settle_moving=settle_moving,
            settle_resting=settle_resting,
        )
        memory = replace(self.own.memory, same=round(1 - held["remember"], _TIDY))
        return replace(self.own, meaning=meaning, memory=memory)


def _values(settings: GateSettings) -> dict[str, float]:
    meaning, memory, least = settings.meaning, settings.memory, 1e-4
    speak, at_rest = (max(1 - below, least) for below in (meaning.speak_below, meaning.speak_below_at_rest))
    look = max(meaning.look_every, _RANGES["look"][0])
    return {
        "speak": speak,
        "speak_at_rest": at_rest / speak,
        "forget": max(1 - meaning.forget_above, least) / min(speak, at_rest),
        "same": max(1 - meaning.same_above, least),
        "look": look,
        "longest": max(meaning.longest_look / look, 1.0),
        "look_at_rest": max(meaning.look_at_rest, _RANGES["look_at_rest"][0]),
        **{name: getattr(meaning, name) + _SHORT for name in _TIMES},
        "hold": max(meaning.least_hold, _RANGES["hold"][0]),
        "remember": max(1 - memory.same, least),
    }
