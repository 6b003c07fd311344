"""Measure energy, power and temperature: Jetson's power rails, NVML or RAPL. None if the system has no value."""

from __future__ import annotations

import importlib
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from .sysfs import read_int

_POWERCAP = Path("/sys/class/powercap")
_HWMON = Path("/sys/class/hwmon")
_THERMAL = Path("/sys/class/thermal")
_EVERY = 0.2  # seconds between two readings of a rail
_TOTAL_RAILS = ("VDD_IN", "VIN", "VDD_TOTAL")  # of the whole module: Orin's INA3221 calls it VDD_IN


@dataclass(frozen=True)
class Power:
    """Measurements of a period; None if the system has no value.

    Attributes:
        joules: energy.
        watts: mean power.
        source: what was measured and how; "unknown" if nothing was.
        celsius: temperature of the hottest thermal zone at the end.
    """

    joules: float | None
    watts: float | None
    source: str
    celsius: float | None


class EnergyMeter:
    """A context manager that measures power while its block runs; `power` has the result afterwards."""

    def __init__(self) -> None:
        self.power = Power(None, None, "unknown", None)

    def __enter__(self) -> EnergyMeter:
        self._started = time.perf_counter()
        self._counters = {path: read_int(path) for path in _energy_counters()}
        self._card = _card_millijoules()
        self._rail = _rail()
        self._watts: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read_rail, daemon=True)
        if self._rail is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        seconds = time.perf_counter() - self._started
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        joules, source = self._joules(seconds)
        watts = joules / seconds if joules is not None and seconds > 0 else None
        self.power = Power(joules, watts, source, _hottest())

    def _joules(self, seconds: float) -> tuple[float | None, str]:
        if self._watts:
            return sum(self._watts) / len(self._watts) * seconds, "the module's rail (INA3221)"
        after = _card_millijoules()
        if self._card is not None and after is not None:
            return (after - self._card) / 1e3, "the card alone (NVML)"
        spent = 0.0
        for path, before in self._counters.items():
            now, largest = read_int(path), read_int(path.with_name("max_energy_range_uj"))
            if before is None or now is None:
                return None, "unknown"
            spent += (now - before) % (largest or 1 << 62) / 1e6  # the counter wraps at its maximum
        return (spent, "the processor's packages (RAPL)") if self._counters else (None, "unknown")

    def _read_rail(self) -> None:
        while not self._stop.wait(_EVERY):
            watts = _rail_watts(self._rail) if self._rail is not None else None
            if watts is not None:
                self._watts.append(watts)


def _card_millijoules() -> int | None:
    """Return the energy that the first card has used since its driver was loaded; None if it is not counted."""
    try:
        nvml = importlib.import_module("pynvml")
        nvml.nvmlInit()
        return int(nvml.nvmlDeviceGetTotalEnergyConsumption(nvml.nvmlDeviceGetHandleByIndex(0)))
    except Exception:  # pynvml has its own error classes, and any of them means that there is no NVML
        return None


def _energy_counters() -> list[Path]:
    """Return RAPL's readable package counters (often only root may read them)."""
    found = [path / "energy_uj" for path in sorted(_POWERCAP.glob("intel-rapl:[0-9]"))]
    return [path for path in found if read_int(path) is not None]


def _rail() -> tuple[Path, str] | None:
    """Return the hwmon folder and channel of the rail that feeds the whole Jetson module."""
    for label in sorted(_HWMON.glob("hwmon*/in*_label")):
        try:
            name = label.read_text(encoding="ascii").strip()
        except OSError:
            continue
        if name in _TOTAL_RAILS:
            return label.parent, label.name.removeprefix("in").removesuffix("_label")
    return None


def _rail_watts(rail: tuple[Path, str]) -> float | None:
    folder, channel = rail
    volts, amperes = read_int(folder / f"in{channel}_input"), read_int(folder / f"curr{channel}_input")
    return volts * amperes / 1e6 if volts is not None and amperes is not None else None  # mV, mA


def _hottest() -> float | None:
    degrees = [read_int(path) for path in _THERMAL.glob("thermal_zone*/temp")]
    known = [value / 1000 for value in degrees if value is not None and value > 0]
    return max(known, default=None)
