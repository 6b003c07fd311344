"""Read clocks, power mode and throttling from sysfs, Jetson's nvpmodel and NVML. None if the system has no value."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .sysfs import read_int, read_text

_CPUS = Path("/sys/devices/system/cpu")
_DEVFREQ = Path("/sys/class/devfreq")
_THERMAL = Path("/sys/class/thermal")
_NVPMODEL = Path("/var/lib/nvpmodel/status")  # "pmode:0002": the mode that nvpmodel -q names
_GPUS = ("gpu", "ga10b", "gv11b", "gp10b", "gb10b")  # what Tegra's devfreq calls its graphics processors
_THROTTLING_DEVICES = ("processor", "cpufreq", "devfreq", "gpu")  # cooling devices that cool by throttling
# nvml.h, nvmlClocksThrottleReason*: software power cap, hardware slowdown, both thermal slowdowns, power brake
_THROTTLE_REASONS = 0x4 | 0x8 | 0x20 | 0x40 | 0x80


@dataclass(frozen=True)
class Clocks:
    """Clocks at one moment; None if the system has no value.

    Attributes:
        cpu_mhz, cpu_most_mhz: current clock of the fastest core, and its maximum.
        governor: the CPU's frequency governor.
        card_mhz, card_most_mhz: current and maximum clock of the GPU.
        power_mode: number of the Jetson's power mode.
        throttled: whether CPU or GPU is throttled, by heat or by a power limit.
    """

    cpu_mhz: float | None
    cpu_most_mhz: float | None
    governor: str | None
    card_mhz: float | None
    card_most_mhz: float | None
    power_mode: str | None
    throttled: bool | None


def read_clocks(throttles_before: int | None = None) -> Clocks:
    """Read the current clocks.

    Args:
        throttles_before: throttle_count() at the start of a run: throttling since then is reported as well.
    """
    card, most, slowed = _card()
    now = throttle_count()
    counted = None if now is None or throttles_before is None else now > throttles_before
    flags = [flag for flag in (slowed, counted, _cooling()) if flag is not None]
    governors = {name for name in map(read_text, _CPUS.glob("cpu[0-9]*/cpufreq/scaling_governor")) if name}
    return Clocks(
        cpu_mhz=_highest(_CPUS.glob("cpu[0-9]*/cpufreq/scaling_cur_freq"), 1e3),
        cpu_most_mhz=_highest(_CPUS.glob("cpu[0-9]*/cpufreq/cpuinfo_max_freq"), 1e3),
        governor=", ".join(sorted(governors)) or None,
        card_mhz=card,
        card_most_mhz=most,
        power_mode=(read_text(_NVPMODEL) or "").rpartition(":")[2] or None,
        throttled=any(flags) if flags else None,
    )


def throttle_count() -> int | None:
    """Return how often the CPUs were throttled by heat since boot (x86)."""
    counts = [read_int(path) for path in _CPUS.glob("cpu[0-9]*/thermal_throttle/*_throttle_count")]
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _card() -> tuple[float | None, float | None, bool | None]:
    """Return clock, maximum clock and throttling of the GPU: of NVML's first card, or of a Tegra."""
    try:
        nvml: Any = importlib.import_module("pynvml")
        nvml.nvmlInit()
        card = nvml.nvmlDeviceGetHandleByIndex(0)
        now, most = (
            float(ask(card, nvml.NVML_CLOCK_SM))
            for ask in (nvml.nvmlDeviceGetClockInfo, nvml.nvmlDeviceGetMaxClockInfo)
        )
        return now, most, bool(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(card) & _THROTTLE_REASONS)
    except Exception:  # pynvml has its own error classes, and any of them means that there is no NVML
        cards = [path for path in _DEVFREQ.glob("*") if any(name in path.name for name in _GPUS)]
        now_of, most_of = ([path / name for path in cards] for name in ("cur_freq", "max_freq"))
        return _highest(now_of, 1e6), _highest(most_of, 1e6), None


def _cooling() -> bool | None:
    """Return whether a device is throttled because of heat; None if there is no such device."""
    states = [
        read_int(device / "cur_state")
        for device in _THERMAL.glob("cooling_device*")
        if any(name in (read_text(device / "type") or "").lower() for name in _THROTTLING_DEVICES)
    ]
    known = [state for state in states if state is not None]
    return any(state > 0 for state in known) if known else None


def _highest(paths: Any, unit: float) -> float | None:
    return max((value / unit for value in map(read_int, paths) if value), default=None)
