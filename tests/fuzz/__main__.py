"""python -m tests.fuzz NAME --seconds 30 --seed 1; without a name, lists the fuzzers."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from .parsers import FUZZERS
from .runner import Finding, run


def main() -> int:
    """Run one fuzzer, or all; return 1 if it found something."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=[*FUZZERS, "all"])
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    failed = 0
    for name in FUZZERS if options.name == "all" else [options.name]:
        with tempfile.TemporaryDirectory() as folder:
            try:
                fuzzer, keep = FUZZERS[name](Path(folder)), Path(f"{name}.finding")
                count = run(fuzzer, options.seed, keep, seconds=options.seconds)
                print(f"{name}: {count} inputs, nothing found")
            except Finding as finding:
                print(f"{name}: {finding}", file=sys.stderr)
                failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
