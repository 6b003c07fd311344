"""Multiple-choice questions about clips: which object, what action, what state, which direction. Plain data first.

Every answer comes from what the simulator recorded: the task's thing, whether the act has begun, the simulator's own
success predicate, and where the hand went as the camera sees it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from clips import ACT, APPROACH, STILL, Clip
from tasks import TASKS

Texts = tuple[str, ...]  # wordings of one meaning, canonical first

OBJECT_QUESTIONS = ("Which object does the robot go for?", "What does the robot want to touch?")
ACTION_QUESTIONS = ("What does the robot do with it?", "Which kind of action is this?")
WAY_QUESTIONS = ("Which way does the hand move?", "Where does the hand go?")

# The name of a thing in an answer: without its location.
_SHORT = {
    "the block in the bin": "the block",
    "the button on the front": "the button",
    "the button on top": "the button",
    "the coffee machine button": "the button",
    "the door lock": "the lock",
    "the handle on the side": "the handle",
    "the plug": "the peg",
    "the puck before the wall": "the puck",
    "the puck in the hole": "the puck",
    "the window handle": "the window",
}

# thing -> question wordings and its two states
STATES: dict[str, tuple[Texts, dict[str, Texts]]] = {
    thing: (
        (f"Is {thing} {first} or {second}?", f"How is {thing} now, {first} or {second}?"),
        {state: (f"{thing} is {state}", f"{thing} is now {state}") for state in (first, second)},
    )
    for thing, first, second in (
        ("the box", "open", "closed"),
        ("the button", "pressed", "not pressed"),
        ("the door", "open", "closed"),
        ("the drawer", "open", "closed"),
        ("the faucet", "open", "closed"),
        ("the handle", "up", "down"),
        ("the lock", "locked", "unlocked"),
        ("the peg", "in the hole", "outside"),
        ("the plate", "in the net", "outside"),
        ("the ring", "on the peg", "off the peg"),
        ("the window", "open", "closed"),
    )
}

# task -> thing, its state before the act, its state once the simulator calls the task done
TASK_STATES: dict[str, tuple[str, str, str]] = {
    "assembly": ("the ring", "off the peg", "on the peg"),
    "box-close": ("the box", "open", "closed"),
    "button-press": ("the button", "not pressed", "pressed"),
    "button-press-topdown": ("the button", "not pressed", "pressed"),
    "button-press-topdown-wall": ("the button", "not pressed", "pressed"),
    "button-press-wall": ("the button", "not pressed", "pressed"),
    "coffee-button": ("the button", "not pressed", "pressed"),
    "disassemble": ("the ring", "on the peg", "off the peg"),
    "door-close": ("the door", "open", "closed"),
    "door-lock": ("the lock", "unlocked", "locked"),
    "door-open": ("the door", "closed", "open"),
    "door-unlock": ("the lock", "locked", "unlocked"),
    "drawer-close": ("the drawer", "open", "closed"),
    "drawer-open": ("the drawer", "closed", "open"),
    "faucet-close": ("the faucet", "open", "closed"),
    "faucet-open": ("the faucet", "closed", "open"),
    "handle-press": ("the handle", "up", "down"),
    "handle-press-side": ("the handle", "up", "down"),
    "handle-pull": ("the handle", "down", "up"),
    "handle-pull-side": ("the handle", "down", "up"),
    "peg-insert-side": ("the peg", "outside", "in the hole"),
    "peg-unplug-side": ("the peg", "in the hole", "outside"),
    "plate-slide": ("the plate", "outside", "in the net"),
    "plate-slide-back": ("the plate", "in the net", "outside"),
    "plate-slide-back-side": ("the plate", "in the net", "outside"),
    "plate-slide-side": ("the plate", "outside", "in the net"),
    "window-close": ("the window", "open", "closed"),
    "window-open": ("the window", "closed", "open"),
}

WAYS: dict[str, Texts] = {
    "left": ("the hand moves to the left", "the hand goes left"),
    "right": ("the hand moves to the right", "the hand goes right"),
    "up": ("the hand moves up", "the hand goes up"),
    "down": ("the hand moves down", "the hand goes down"),
}
FAR = 0.06  # m in the picture's plane that make a movement
CLEAR = 1.7  # times farther along one axis of the picture than along the other


def short_name(task: str) -> str | None:
    thing = TASKS[task].thing
    return _SHORT.get(thing, thing) if thing else None


OBJECTS: dict[str, Texts] = {
    name: (f"it is {name}", f"the object is {name}")
    for name in sorted({short_name(task) or "" for task in TASKS} - {""})
}
ACTIONS: dict[str, Texts] = {
    action: (f"the action is {action}", f"it is {action} something")
    for action in sorted({task.action for task in TASKS.values()})
}


@dataclass(frozen=True)
class Question:
    """A question about a clip: its wordings, the possible answers, and the right one."""

    kind: str
    wordings: Texts
    choices: tuple[Texts, ...]
    answer: Texts


def questions(clip: Clip) -> list[Question]:
    """Return all questions that this clip answers."""
    found = []
    task, name = TASKS[clip.task], short_name(clip.task)
    if clip.phase in (ACT, APPROACH) and name:
        found.append(Question("object", OBJECT_QUESTIONS, tuple(OBJECTS.values()), OBJECTS[name]))
    if clip.phase == ACT:
        found.append(Question("action", ACTION_QUESTIONS, tuple(ACTIONS.values()), ACTIONS[task.action]))
    if clip.task in TASK_STATES and (state := state_at_end(clip)):
        wordings, states = STATES[TASK_STATES[clip.task][0]]
        found.append(Question("state", wordings, tuple(states.values()), states[state]))
    if way := way_of_hand(clip):
        found.append(Question("way", WAY_QUESTIONS, tuple(WAYS.values()), WAYS[way]))
    return found


def state_at_end(clip: Clip) -> str | None:
    """Return the state of the task's thing at the end of the clip; None while it is between its two states."""
    _, before, after = TASK_STATES[clip.task]
    episode, last = clip.episode, int(clip.frames[-1])
    if episode.success[max(last - 1, 0) : last + 1].all():
        return after
    untouched = np.isin(episode.phase[: last + 1], (APPROACH, STILL)).all()
    return before if untouched and not episode.success[: last + 1].any() else None


def way_of_hand(clip: Clip) -> str | None:
    """Return the hand's direction in the image from the clip's first frame to its last; None if unclear."""
    moved = clip.episode.hand[clip.frames[-1]] - clip.episode.hand[clip.frames[0]]
    right, up = picture_axes(clip.episode.azimuth, clip.episode.elevation)
    across, upward = float(moved @ right), float(moved @ up)
    if max(abs(across), abs(upward)) < FAR:
        return None
    if abs(across) > CLEAR * abs(upward):
        return "right" if across > 0 else "left"
    if abs(upward) > CLEAR * abs(across):
        return "up" if upward > 0 else "down"
    return None


def picture_axes(azimuth: float, elevation: float) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors in the world that point right and up in the picture of a MuJoCo free camera; degrees."""
    turn, tilt = np.deg2rad(azimuth), np.deg2rad(elevation)
    forward = np.array([np.cos(tilt) * np.cos(turn), np.cos(tilt) * np.sin(turn), np.sin(tilt)])
    right = np.array([np.sin(turn), -np.cos(turn), 0.0])
    return right, np.cross(right, forward)


def answer_meanings() -> list[Texts]:
    """Every answer to any question, once each."""
    states = [texts for _, two in STATES.values() for texts in two.values()]
    return [*OBJECTS.values(), *ACTIONS.values(), *states, *WAYS.values()]


def all_questions() -> list[str]:
    """Every wording of every question."""
    states = [wording for wordings, _ in STATES.values() for wording in wordings]
    return [*OBJECT_QUESTIONS, *ACTION_QUESTIONS, *states, *WAY_QUESTIONS]
