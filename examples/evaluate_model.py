"""Measure a model on your own videos: a folder with one folder of videos a class, or a CSV or JSONL table.

python examples/evaluate_model.py my-videos
"""

import json
import subprocess
import sys

if len(sys.argv) < 2:
    print("usage: evaluate_model.py DATA [BUNDLE] (prints what a model gets right of DATA)", file=sys.stderr)
    sys.exit(2)

data, *bundle = sys.argv[1:]
command = [sys.executable, "-m", "vlj_edge", "eval", data, "--json", *(["--bundle", *bundle] if bundle else [])]
done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
if done.returncode != 0:
    sys.exit(done.returncode)
[model] = json.loads(done.stdout)["models"]
for task, measures in model.items():
    if isinstance(measures, dict):
        for name, found in measures.items():
            chance = "" if found["chance"] is None else f", guessing {found['chance']:.2f}"
            print(f"{task} {name}: {found['value']:.2f} of {found['cases']} cases{chance}")
for each in model.get("classes", []):
    if each["taken_for"]:
        print(f"{each['label']} is taken for {', '.join(each['taken_for'])}")
