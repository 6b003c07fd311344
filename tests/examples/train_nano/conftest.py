"""examples/train_nano is a folder of programs: its modules import one another by name."""

from __future__ import annotations

import sys
from pathlib import Path

TRAIN_NANO = Path(__file__).parents[3] / "examples" / "train_nano"
sys.path.insert(0, str(TRAIN_NANO))
