"""Captions of the 50 Meta-World tasks: plain data, the canonical wording first in every tuple.

Tasks that start from the same scene share the thing they reach for, and so their approach texts: they look the same
until the gripper touches something. Two texts mean the same if they are in the same tuple (see `meanings`).
"""

from __future__ import annotations

from dataclasses import dataclass

DESCRIBE_QUERIES = ("Describe the video.", "What is happening?", "Describe what happens.")
TASK_QUERIES = ("What task is the robot doing?", "Which task is this?", "Name the task.")

STILL = ("the robot arm stays still", "nothing moves", "the robot arm is not moving", "the scene is still")


# Held out from training, both video and text. Each combines elements of other tasks: wall, top, side.
UNSEEN = frozenset(
    (
        "button-press-topdown-wall",
        "handle-pull-side",
        "plate-slide-back-side",
        "push-wall",
        "reach-wall",
        "sweep",
    )
)


@dataclass(frozen=True)
class Task:
    """`thing` is what the gripper goes for, None if it touches nothing; `action` answers "what does it do?".

    `captions` name the task and its act. `approach` describes what comes before the act, `attempt` an act that failed;
    both are empty if nothing is touched.
    """

    thing: str | None
    action: str
    captions: tuple[str, ...]

    @property
    def approach(self) -> tuple[str, ...]:
        return self._with_thing("reaches for", "moves to", "approaches")

    @property
    def attempt(self) -> tuple[str, ...]:
        return self._with_thing("only touches", "fumbles with", "fails with")

    def _with_thing(self, *verbs: str) -> tuple[str, ...]:
        return tuple(f"the robot arm {verb} {self.thing}" for verb in verbs) if self.thing else ()


def _task(thing: str | None, action: str, *rests: str) -> Task:
    return Task(thing, action, tuple(f"the robot arm {rest}" for rest in rests))


# Alphabetical: seeds are numbered by the position of a task in this table.
TASKS: dict[str, Task] = {
    "assembly": _task(
        "the ring", "placing", "puts the ring on the peg", "places the ring over the peg", "assembles the ring and peg"
    ),
    "basketball": _task(
        "the ball", "placing", "puts the ball in the hoop", "drops the ball into the basket", "dunks the basketball"
    ),
    "bin-picking": _task(
        "the block in the bin",
        "placing",
        "moves the block from one bin to the other",
        "picks the block from the red bin and puts it in the blue bin",
        "carries the block to the other bin",
    ),
    "box-close": _task(
        "the lid", "closing", "closes the box with the lid", "puts the lid on the box", "covers the box"
    ),
    "button-press": _task(
        "the button on the front",
        "pressing",
        "presses the button on the front",
        "pushes the button in",
        "presses the front button",
    ),
    "button-press-topdown": _task(
        "the button on top",
        "pressing",
        "presses the button on top",
        "pushes the button down",
        "presses the button from above",
    ),
    "button-press-topdown-wall": _task(
        "the button on top",
        "pressing",
        "presses the button on top behind the wall",
        "pushes the button down behind the wall",
        "presses the button from above over the wall",
    ),
    "button-press-wall": _task(
        "the button on the front",
        "pressing",
        "presses the front button behind the wall",
        "pushes the button in behind the wall",
        "goes over the wall and presses the button",
    ),
    "coffee-button": _task(
        "the coffee machine button",
        "pressing",
        "presses the coffee machine button",
        "starts the coffee machine",
        "pushes the button of the coffee machine",
    ),
    "coffee-pull": _task(
        "the mug",
        "pulling",
        "pulls the mug away from the coffee machine",
        "takes the mug from the coffee machine",
        "pulls the mug",
    ),
    "coffee-push": _task(
        "the mug",
        "pushing",
        "pushes the mug under the coffee machine",
        "moves the mug to the coffee machine",
        "pushes the mug",
    ),
    "dial-turn": _task("the dial", "turning", "turns the dial", "rotates the dial", "twists the knob"),
    "disassemble": _task(
        "the ring",
        "lifting",
        "takes the ring off the peg",
        "lifts the ring off the peg",
        "removes the ring from the peg",
    ),
    "door-close": _task("the door", "closing", "closes the door", "pushes the door shut", "shuts the door"),
    "door-lock": _task(
        "the door lock", "locking", "locks the door", "turns the lock to lock the door", "turns the door lock shut"
    ),
    "door-open": _task("the door", "opening", "opens the door", "pulls the door open", "swings the door open"),
    "door-unlock": _task(
        "the door lock",
        "unlocking",
        "unlocks the door",
        "turns the lock to unlock the door",
        "turns the door lock open",
    ),
    "drawer-close": _task("the drawer", "closing", "closes the drawer", "pushes the drawer in", "shuts the drawer"),
    "drawer-open": _task("the drawer", "opening", "opens the drawer", "pulls the drawer out", "pulls the drawer open"),
    "faucet-close": _task("the faucet", "closing", "closes the faucet", "turns the faucet off", "shuts the tap"),
    "faucet-open": _task("the faucet", "opening", "opens the faucet", "turns the faucet on", "opens the tap"),
    "hammer": _task(
        "the hammer", "hammering", "hammers the nail", "hits the nail with the hammer", "drives the nail in"
    ),
    "hand-insert": _task(
        "the block",
        "inserting",
        "puts the block into the hole",
        "lowers the block into the hole",
        "inserts the block into the hole",
    ),
    "handle-press": _task(
        "the handle", "pressing", "presses the handle down", "pushes the handle down", "presses down the handle"
    ),
    "handle-press-side": _task(
        "the handle on the side",
        "pressing",
        "presses the side handle down",
        "pushes the handle on the side down",
        "presses down the side handle",
    ),
    "handle-pull": _task("the handle", "lifting", "pulls the handle up", "lifts the handle", "pulls up the handle"),
    "handle-pull-side": _task(
        "the handle on the side",
        "lifting",
        "pulls the side handle up",
        "lifts the handle on the side",
        "pulls up the side handle",
    ),
    "lever-pull": _task("the lever", "lifting", "pulls the lever up", "lifts the lever", "raises the lever"),
    "peg-insert-side": _task(
        "the peg",
        "inserting",
        "inserts the peg into the box",
        "pushes the peg into the side of the box",
        "puts the peg into the hole in the box",
    ),
    "peg-unplug-side": _task(
        "the plug", "pulling", "unplugs the peg", "pulls the plug out", "pulls the peg out of the socket"
    ),
    "pick-out-of-hole": _task(
        "the puck in the hole",
        "lifting",
        "picks the puck out of the hole",
        "takes the puck out of the hole",
        "lifts the puck from the hole",
    ),
    "pick-place": _task(
        "the puck",
        "lifting",
        "picks up the puck and places it",
        "lifts the puck and carries it",
        "picks and places the puck",
    ),
    "pick-place-wall": _task(
        "the puck before the wall",
        "lifting",
        "lifts the puck over the wall",
        "picks up the puck and places it behind the wall",
        "carries the puck over the wall",
    ),
    "plate-slide": _task(
        "the plate",
        "pushing",
        "slides the plate into the net",
        "pushes the plate into the net",
        "slides the plate forward",
    ),
    "plate-slide-back": _task(
        "the plate",
        "pulling",
        "slides the plate out of the net",
        "pulls the plate out of the net",
        "slides the plate back",
    ),
    "plate-slide-back-side": _task(
        "the plate",
        "pulling",
        "slides the plate sideways out of the net",
        "pulls the plate sideways out of the net",
        "slides the plate out to the side",
    ),
    "plate-slide-side": _task(
        "the plate",
        "pushing",
        "slides the plate sideways into the net",
        "pushes the plate sideways into the net",
        "slides the plate in from the side",
    ),
    "push": _task(
        "the puck", "pushing", "pushes the puck", "pushes the puck across the table", "slides the puck forward"
    ),
    "push-back": _task(
        "the block", "pulling", "pulls the block back", "drags the block back", "pulls the block towards itself"
    ),
    "push-wall": _task(
        "the puck before the wall",
        "pushing",
        "pushes the puck around the wall",
        "pushes the puck past the wall",
        "slides the puck round the wall",
    ),
    "reach": _task(
        None, "reaching", "reaches into the air", "moves its hand to a point", "reaches for a point in the air"
    ),
    "reach-wall": _task(
        None, "reaching", "reaches over the wall", "moves its hand over the wall", "reaches for a point behind the wall"
    ),
    "shelf-place": _task(
        "the cube",
        "placing",
        "puts the cube on the shelf",
        "places the cube on the shelf",
        "sets the cube on the shelf",
    ),
    "soccer": _task(
        "the ball", "pushing", "pushes the ball into the goal", "kicks the ball into the goal", "scores a goal"
    ),
    "stick-pull": _task(
        "the stick",
        "pulling",
        "pulls the bottle with the stick",
        "drags the bottle with the stick",
        "hooks the bottle with the stick",
    ),
    "stick-push": _task(
        "the stick",
        "pushing",
        "pushes the bottle with the stick",
        "shoves the bottle with the stick",
        "pushes the bottle using a stick",
    ),
    "sweep": _task(
        "the block",
        "sweeping",
        "sweeps the block off the table",
        "sweeps the block away",
        "brushes the block off the table",
    ),
    "sweep-into": _task(
        "the block",
        "sweeping",
        "sweeps the block into the hole",
        "pushes the block into the hole",
        "slides the block into the hole",
    ),
    "window-close": _task(
        "the window handle", "closing", "closes the window", "slides the window shut", "shuts the window"
    ),
    "window-open": _task(
        "the window handle", "opening", "opens the window", "slides the window open", "pushes the window open"
    ),
}

OPPOSITES: tuple[tuple[str, str], ...] = (
    ("assembly", "disassemble"),
    ("coffee-push", "coffee-pull"),
    ("door-open", "door-close"),
    ("door-lock", "door-unlock"),
    ("drawer-open", "drawer-close"),
    ("faucet-open", "faucet-close"),
    ("handle-press", "handle-pull"),
    ("handle-press-side", "handle-pull-side"),
    ("peg-insert-side", "peg-unplug-side"),
    ("plate-slide", "plate-slide-back"),
    ("plate-slide-side", "plate-slide-back-side"),
    ("push", "push-back"),
    ("stick-push", "stick-pull"),
    ("window-open", "window-close"),
)


def trained_tasks() -> list[str]:
    """Return the tasks that are trained on, in the order of the table."""
    return [task for task in TASKS if task not in UNSEEN]


def meanings() -> list[tuple[str, ...]]:
    """Return every set of trained captions with one meaning: tasks, then approaches and attempts, then still."""
    tasks = [TASKS[name] for name in trained_tasks()]
    others = {texts for task in tasks for texts in (task.approach, task.attempt) if texts}
    return [task.captions for task in tasks] + sorted(others) + [STILL]


def phase_texts(task: str, phase: int) -> tuple[str, ...]:
    """Return the captions of a phase (0 approach, 1 act, 2 still, 3 attempt), canonical wording first."""
    return (TASKS[task].approach, TASKS[task].captions, STILL, TASKS[task].attempt)[phase]
