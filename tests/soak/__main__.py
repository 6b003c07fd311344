"""python -m tests.soak --seconds 900 --seed 1 --out results/soak.json; prints a line after each round of faults."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from .soak import soak

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "train_nano"))
from provenance import provenance


def main() -> int:
    """Run a soak, and write what was seen; return 1 if there were problems."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=900.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    found = soak(asked.seconds, asked.seed)
    print(json.dumps(found, indent=2))
    if asked.out is not None:
        command = f"python -m tests.soak --seconds {asked.seconds:g} --seed {asked.seed} --out {asked.out}"
        asked.out.write_text(json.dumps(provenance(command) | found, indent=2) + "\n", encoding="utf-8")
    return 1 if found["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
