"""Measure a model on your own videos: a folder with one folder of videos a class, or a CSV or JSONL table.

python examples/evaluate_model.py my-videos
"""

import json
import subprocess
import sys

import vlj_edge

if len(sys.argv) < 2:
    print("usage: evaluate_model.py DATA [BUNDLE] (prints what a model gets right of DATA)", file=sys.stderr)
    sys.exit(2)

data, *bundle = sys.argv[1:]
command = [sys.executable, "-m", "vlj_edge", "eval", data, "--json", *(["--bundle", *bundle] if bundle else [])]
done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
if done.returncode != 0:
    sys.exit(done.returncode)
with vlj_edge.load(*bundle) as model:
    clip = model.manifest.clip
    print(f"{model.directory.name}: {clip.frames} frames a clip window, {clip.frames_per_second:g} a second")
[found] = json.loads(done.stdout)["models"]
for task, measures in found.items():
    if isinstance(measures, dict):
        for name, measure in measures.items():
            chance = "" if measure["chance"] is None else f", guessing {measure['chance']:.2f}"
            print(f"{task} {name}: {measure['value']:.2f} of {measure['cases']} cases{chance}")
for each in found.get("classes", []):
    if each["taken_for"]:
        print(f"{each['label']} is taken for {', '.join(each['taken_for'])}")
