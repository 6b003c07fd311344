"""Find gates for one camera from a recording of it, and narrate with them.

python examples/calibrate.py examples/media/demo.mp4 gates.json
"""

import subprocess
import sys

import vlj_edge

if len(sys.argv) != 3:
    print("usage: calibrate.py VIDEO GATES (finds gates for a camera and writes them to a file)", file=sys.stderr)
    sys.exit(2)

video, gates = sys.argv[1:]
# A text every ten seconds at most, on average.
command = [sys.executable, "-m", "vlj_edge", "calibrate", video, "--texts-per-hour", "360", "--out", gates]
if subprocess.run(command, check=False).returncode != 0:
    sys.exit(1)
for name in (None, gates):
    with vlj_edge.load(gates=name) as model:
        run = model.narrate(video)
        texts = sum(1 for _ in run)
        print(f"{name or 'the gates of the bundle'}: {texts} texts, {run.totals.encoder_runs} encoder runs")
