"""Can yes and no be told from an embedding? Questions about parts of the demo video, answered in four ways.

python benchmarks/yes_no.py

Each question is put to each part, so most true answers are no: shares are balanced, the mean of those of yes and of no
that are right. A way that always says no has 50 %.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from common import ROOT, write

import vlj_edge

DEMO = ROOT / "examples" / "media" / "demo.mp4"
PARTS = {  # seconds in which it is being done (examples/media/demo.json)
    "drawer": (11.0, 13.5),
    "button": (24.0, 27.5),
    "peg": (36.0, 39.5),
    "door": (50.0, 54.5),
    "ball": (62.5, 66.5),
    "nail": (74.0, 76.5),
    "still": (67.5, 69.5),
}
ALL, MOVING = set(PARTS), set(PARTS) - {"still"}
ARM = "the robot arm"
# question, the statement it asks about, its negation, and the parts in which it is true
ACTS = [
    ("Does the robot arm open the drawer?", f"{ARM} opens the drawer", f"{ARM} does not open the drawer", {"drawer"}),
    (
        "Does the robot arm press the button?",
        f"{ARM} presses the button",
        f"{ARM} does not press the button",
        {"button"},
    ),
    ("Does the robot arm insert the peg?", f"{ARM} inserts the peg", f"{ARM} does not insert the peg", {"peg"}),
    ("Does the robot arm close the door?", f"{ARM} closes the door", f"{ARM} does not close the door", {"door"}),
    ("Does the robot arm hammer the nail?", f"{ARM} hammers the nail", f"{ARM} does not hammer the nail", {"nail"}),
    ("Does the robot arm stay still?", f"{ARM} stays still", f"{ARM} does not stay still", {"still"}),
    (
        "Does the robot arm close the window?",
        f"{ARM} closes the window",
        f"{ARM} does not close the window",
        set[str](),
    ),
    ("Does the robot arm kick the ball?", f"{ARM} kicks the ball", f"{ARM} does not kick the ball", set[str]()),
]
OTHERS = [
    ("Is the robot arm moving?", f"{ARM} is moving", f"{ARM} is not moving", MOVING),
    ("Is there a robot?", "there is a robot", "there is no robot", ALL),
    ("Is there a table?", "there is a table", "there is no table", ALL),
    ("Is there a door?", "there is a door", "there is no door", {"door"}),
    ("Is there a drawer?", "there is a drawer", "there is no drawer", {"drawer"}),
    ("Is there a ball?", "there is a ball", "there is no ball", {"ball", "still"}),
    ("Is the drawer open?", "the drawer is open", "the drawer is not open", {"drawer"}),
    ("Is the door closed?", "the door is closed", "the door is not closed", {"door"}),
    ("Is there a dog?", "there is a dog", "there is no dog", set[str]()),
    ("Is there a person?", "there is a person", "there is no person", set[str]()),
    ("Is it raining?", "it is raining", "it is not raining", set[str]()),
    ("Is somebody cooking?", "somebody is cooking", "nobody is cooking", set[str]()),
]
NEUTRAL = ("nothing happens", "something else happens", "the scene is empty")
Vector = np.ndarray


def main() -> None:
    with vlj_edge.load() as model:
        none_below = model.manifest.labels.none_below

        def near(seen: Vector, text: str) -> float:
            return float(seen @ model.embed_text(text))

        ways: dict[str, Callable[[Vector, str, str], bool]] = {
            "yes_against_no": lambda seen, is_so, is_not: near(seen, "yes") > near(seen, "no"),
            "statement_against_negation": lambda seen, is_so, is_not: near(seen, is_so) > near(seen, is_not),
            "statement_against_neutral": lambda seen, is_so, is_not: (
                near(seen, is_so) > max(near(seen, text) for text in NEUTRAL)
            ),
            "statement_above_none_below": lambda seen, is_so, is_not: near(seen, is_so) >= none_below,
        }
        questions = [*ACTS, *OTHERS]
        windows = list(model.ask(DEMO, [question for question, *_ in questions]))
        found: dict[str, dict[str, float]] = {name: {} for name in ways}
        for kind, asked in (("acts", ACTS), ("others", OTHERS), ("all", questions)):
            for name, says_yes in ways.items():
                right: dict[bool, list[bool]] = {True: [], False: []}
                for question, is_so, is_not, where in asked:
                    row = [each[0] for each in questions].index(question)
                    for part, (start, end) in PARTS.items():
                        inside = [each.embeddings[row] for each in windows if start <= each.window.centre <= end]
                        seen = np.sum(inside, axis=0) / np.linalg.norm(np.sum(inside, axis=0))
                        right[part in where].append(says_yes(seen, is_so, is_not) == (part in where))
                found[name][kind] = round(float(np.mean([np.mean(right[True]), np.mean(right[False])])), 3)
    for name, shares in found.items():
        print(f"{name:28}", shares)
    counts = {"questions": len(questions), "acts": len(ACTS), "others": len(OTHERS), "parts": len(PARTS)}
    write("yes-no.json", counts | {"balanced_right": found}, "python benchmarks/yes_no.py")


if __name__ == "__main__":
    main()
