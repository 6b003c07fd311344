"""Camera positions, and the zones that are held out from training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Azimuths in degrees (MuJoCo free camera). 110-195 looks over the arm's side: objects and their fronts are in view.
AZIMUTH_RANGE = (110.0, 195.0)
BANDS = ((124.0, 134.0), (148.0, 158.0), (172.0, 182.0))  # between training cameras, never trained on
MARGIN = 20.0  # degrees beyond the range on either side, where the "outside" cameras are
ZONES = ("training", "between", "outside")


@dataclass
class Camera:
    """A free camera: lookat in metres, angles in degrees; `zone` is the one of ZONES that its azimuth lies in."""

    azimuth: float
    elevation: float
    distance: float
    lookat: tuple[float, float, float]
    zone: str


def zone_of(azimuth: float) -> str:
    if not AZIMUTH_RANGE[0] <= azimuth <= AZIMUTH_RANGE[1]:
        return "outside"
    return "between" if any(low <= azimuth <= high for low, high in BANDS) else "training"


def random_camera(rng: np.random.Generator, zone: str) -> Camera:
    """Return a random camera whose azimuth lies in this zone."""
    low, high = AZIMUTH_RANGE
    reach = MARGIN if zone == "outside" else 0.0
    azimuth = rng.uniform(low - reach, high + reach)
    while zone_of(azimuth) != zone:
        azimuth = rng.uniform(low - reach, high + reach)
    lookat = np.array([0.0, 0.68, 0.12]) + rng.uniform(-1, 1, 3) * (0.06, 0.05, 0.03)
    return Camera(
        azimuth=float(azimuth),
        elevation=float(rng.uniform(-40, -20)),
        distance=float(rng.uniform(1.0, 1.35)),
        lookat=tuple(float(v) for v in lookat),
        zone=zone,
    )
