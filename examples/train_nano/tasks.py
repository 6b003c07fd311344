"""What is said about the 50 Meta-World tasks: plain data, the canonical wording first in every tuple.

Tasks that start from the same scene share their approach texts: before the gripper touches anything, nothing tells
them apart. Two texts mean the same when they come from the same tuple (see `meanings`).
"""

from __future__ import annotations

from dataclasses import dataclass

DESCRIBE_QUERIES = ("Describe the video.", "What is happening?", "Describe what happens.")
TASK_QUERIES = ("What task is the robot doing?", "Which task is this?", "Name the task.")

STILL = ("the robot arm stays still", "nothing moves", "the robot arm is not moving", "the scene is still")


@dataclass(frozen=True)
class Task:
    """`captions` name the task and its act; `approach` is what is seen before it, empty if there is none."""

    captions: tuple[str, ...]
    approach: tuple[str, ...]


def _reach_for(thing: str) -> tuple[str, ...]:
    return tuple(f"the robot arm {verb} {thing}" for verb in ("reaches for", "moves to", "approaches"))


_BALL = _reach_for("the ball")
_BLOCK = _reach_for("the block")
_BUTTON = _reach_for("the button on the front")
_BUTTON_ON_TOP = _reach_for("the button on top")
_DOOR = _reach_for("the door")
_DRAWER = _reach_for("the drawer")
_FAUCET = _reach_for("the faucet")
_HANDLE = _reach_for("the handle")
_SIDE_HANDLE = _reach_for("the handle on the side")
_LOCK = _reach_for("the door lock")
_MUG = _reach_for("the mug")
_PLATE = _reach_for("the plate")
_PUCK = _reach_for("the puck")
_WALL_PUCK = _reach_for("the puck before the wall")
_RING = _reach_for("the ring")
_STICK = _reach_for("the stick")
_WINDOW = _reach_for("the window handle")


def _task(approach: tuple[str, ...], *rests: str) -> Task:
    return Task(tuple(f"the robot arm {rest}" for rest in rests), approach)


# Alphabetical: seeds are numbered by the position of a task in this table.
TASKS: dict[str, Task] = {
    "assembly": _task(_RING, "puts the ring on the peg", "places the ring over the peg", "assembles the ring and peg"),
    "basketball": _task(_BALL, "puts the ball in the hoop", "drops the ball into the basket", "dunks the basketball"),
    "bin-picking": _task(
        _reach_for("the block in the bin"),
        "moves the block from one bin to the other",
        "picks the block from the red bin and puts it in the blue bin",
        "carries the block to the other bin",
    ),
    "box-close": _task(
        _reach_for("the lid"), "closes the box with the lid", "puts the lid on the box", "covers the box"
    ),
    "button-press": _task(
        _BUTTON, "presses the button on the front", "pushes the button in", "presses the front button"
    ),
    "button-press-topdown": _task(
        _BUTTON_ON_TOP, "presses the button on top", "pushes the button down", "presses the button from above"
    ),
    "button-press-topdown-wall": _task(
        _BUTTON_ON_TOP,
        "presses the button on top behind the wall",
        "pushes the button down behind the wall",
        "presses the button from above over the wall",
    ),
    "button-press-wall": _task(
        _BUTTON,
        "presses the front button behind the wall",
        "pushes the button in behind the wall",
        "goes over the wall and presses the button",
    ),
    "coffee-button": _task(
        _reach_for("the coffee machine button"),
        "presses the coffee machine button",
        "starts the coffee machine",
        "pushes the button of the coffee machine",
    ),
    "coffee-pull": _task(
        _MUG, "pulls the mug away from the coffee machine", "takes the mug from the coffee machine", "pulls the mug"
    ),
    "coffee-push": _task(
        _MUG, "pushes the mug under the coffee machine", "moves the mug to the coffee machine", "pushes the mug"
    ),
    "dial-turn": _task(_reach_for("the dial"), "turns the dial", "rotates the dial", "twists the knob"),
    "disassemble": _task(
        _RING, "takes the ring off the peg", "lifts the ring off the peg", "removes the ring from the peg"
    ),
    "door-close": _task(_DOOR, "closes the door", "pushes the door shut", "shuts the door"),
    "door-lock": _task(_LOCK, "locks the door", "turns the lock to lock the door", "turns the door lock shut"),
    "door-open": _task(_DOOR, "opens the door", "pulls the door open", "swings the door open"),
    "door-unlock": _task(_LOCK, "unlocks the door", "turns the lock to unlock the door", "turns the door lock open"),
    "drawer-close": _task(_DRAWER, "closes the drawer", "pushes the drawer in", "shuts the drawer"),
    "drawer-open": _task(_DRAWER, "opens the drawer", "pulls the drawer out", "pulls the drawer open"),
    "faucet-close": _task(_FAUCET, "closes the faucet", "turns the faucet off", "shuts the tap"),
    "faucet-open": _task(_FAUCET, "opens the faucet", "turns the faucet on", "opens the tap"),
    "hammer": _task(
        _reach_for("the hammer"), "hammers the nail", "hits the nail with the hammer", "drives the nail in"
    ),
    "hand-insert": _task(
        _BLOCK, "puts the block into the hole", "lowers the block into the hole", "inserts the block into the hole"
    ),
    "handle-press": _task(_HANDLE, "presses the handle down", "pushes the handle down", "presses down the handle"),
    "handle-press-side": _task(
        _SIDE_HANDLE,
        "presses the side handle down",
        "pushes the handle on the side down",
        "presses down the side handle",
    ),
    "handle-pull": _task(_HANDLE, "pulls the handle up", "lifts the handle", "pulls up the handle"),
    "handle-pull-side": _task(
        _SIDE_HANDLE, "pulls the side handle up", "lifts the handle on the side", "pulls up the side handle"
    ),
    "lever-pull": _task(_reach_for("the lever"), "pulls the lever up", "lifts the lever", "raises the lever"),
    "peg-insert-side": _task(
        _reach_for("the peg"),
        "inserts the peg into the box",
        "pushes the peg into the side of the box",
        "puts the peg into the hole in the box",
    ),
    "peg-unplug-side": _task(
        _reach_for("the plug"), "unplugs the peg", "pulls the plug out", "pulls the peg out of the socket"
    ),
    "pick-out-of-hole": _task(
        _reach_for("the puck in the hole"),
        "picks the puck out of the hole",
        "takes the puck out of the hole",
        "lifts the puck from the hole",
    ),
    "pick-place": _task(
        _PUCK, "picks up the puck and places it", "lifts the puck and carries it", "picks and places the puck"
    ),
    "pick-place-wall": _task(
        _WALL_PUCK,
        "lifts the puck over the wall",
        "picks up the puck and places it behind the wall",
        "carries the puck over the wall",
    ),
    "plate-slide": _task(
        _PLATE, "slides the plate into the net", "pushes the plate into the net", "slides the plate forward"
    ),
    "plate-slide-back": _task(
        _PLATE, "slides the plate out of the net", "pulls the plate out of the net", "slides the plate back"
    ),
    "plate-slide-back-side": _task(
        _PLATE,
        "slides the plate sideways out of the net",
        "pulls the plate sideways out of the net",
        "slides the plate out to the side",
    ),
    "plate-slide-side": _task(
        _PLATE,
        "slides the plate sideways into the net",
        "pushes the plate sideways into the net",
        "slides the plate in from the side",
    ),
    "push": _task(_PUCK, "pushes the puck", "pushes the puck across the table", "slides the puck forward"),
    "push-back": _task(_BLOCK, "pulls the block back", "drags the block back", "pulls the block towards itself"),
    "push-wall": _task(
        _WALL_PUCK, "pushes the puck around the wall", "pushes the puck past the wall", "slides the puck round the wall"
    ),
    "reach": _task((), "reaches into the air", "moves its hand to a point", "reaches for a point in the air"),
    "reach-wall": _task(
        (), "reaches over the wall", "moves its hand over the wall", "reaches for a point behind the wall"
    ),
    "shelf-place": _task(
        _reach_for("the cube"),
        "puts the cube on the shelf",
        "places the cube on the shelf",
        "sets the cube on the shelf",
    ),
    "soccer": _task(_BALL, "pushes the ball into the goal", "kicks the ball into the goal", "scores a goal"),
    "stick-pull": _task(
        _STICK, "pulls the bottle with the stick", "drags the bottle with the stick", "hooks the bottle with the stick"
    ),
    "stick-push": _task(
        _STICK,
        "pushes the bottle with the stick",
        "shoves the bottle with the stick",
        "pushes the bottle using a stick",
    ),
    "sweep": _task(
        _BLOCK, "sweeps the block off the table", "sweeps the block away", "brushes the block off the table"
    ),
    "sweep-into": _task(
        _BLOCK, "sweeps the block into the hole", "pushes the block into the hole", "slides the block into the hole"
    ),
    "window-close": _task(_WINDOW, "closes the window", "slides the window shut", "shuts the window"),
    "window-open": _task(_WINDOW, "opens the window", "slides the window open", "pushes the window open"),
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


def meanings() -> list[tuple[str, ...]]:
    """Every set of texts with one meaning, once each: the 50 tasks in order, then the approaches, then stillness."""
    approaches = {task.approach for task in TASKS.values() if task.approach}
    return [task.captions for task in TASKS.values()] + sorted(approaches) + [STILL]


def phase_texts(task: str, phase: int) -> tuple[str, ...]:
    """What to say in a phase (0 approach, 1 act, 2 still), canonical wording first."""
    return (TASKS[task].approach, TASKS[task].captions, STILL)[phase]
