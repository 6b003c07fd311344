"""Precision, recall and delay of alerts for 20 task sentences on annotated streams.

python benchmarks/alerts.py [--streams FOLDER]      (streams: examples/train_nano/make_stream.py)

An alert is one sentence, against two that say what else the arm does. Its threshold is the one that
vlj_edge.runtime.alerts.trial.suggest() finds on validation streams. Judged once on test streams. The annotation has
pauses of one to three seconds within what is one event to an alert; recall_of_events_apart takes these for one.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from common import TRAIN_NANO, write

import vlj_edge
from vlj_edge.runtime.alerts.decision import Rule
from vlj_edge.runtime.alerts.score import make_scorer
from vlj_edge.runtime.alerts.settings import Alert
from vlj_edge.runtime.alerts.trial import Mark, ScoredWindow, play, score_all, suggest

SENTENCES = 20
UNLESS = ("the robot arm stays still", "the robot arm reaches into the air")
RULE = Rule(above=0.6, below=0.42, hold=0.0, again_after=0.0)
APART = 3.0  # seconds between two events of a sentence under which they also count as one: a window is 2 s long
SHORT = 1.0  # seconds: an event that lasts less fills less than half a window
LATE = 2.0  # seconds after the end of an event in which its alert may begin: windows are that long
Stream = dict[str, Any]


def read(folder: Path, count: int) -> list[Stream]:
    """Return the annotations of streams."""
    return [
        json.loads(video.with_suffix(".json").read_text(encoding="utf-8")) | {"video": video}
        for video in sorted(folder.glob("*.mp4"))[:count]
    ]


def sentences_of(streams: list[Stream]) -> list[str]:
    """Return the sentences of the tasks that are done most often; reaching and rest are no tasks."""
    counts = Counter(
        event["caption"]
        for stream in streams
        for event in stream["events"]
        if "reaches" not in event["caption"] and "still" not in event["caption"]
    )
    return [text for text, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))][:SENTENCES]


def scored(model: vlj_edge.Model, streams: list[Stream], texts: list[str]) -> list[list[list[ScoredWindow]]]:
    """Return the scored windows of each stream for each sentence."""
    scorers = [make_scorer(model, Alert(text, (text,), UNLESS)) for text in texts]
    found = []
    for stream in streams:
        with model.embed(stream["video"]) as run:
            found.append(score_all(run, scorers))
        print(stream["video"], flush=True)
    return found


def marks(stream: Stream, text: str) -> list[Mark]:
    return [Mark(each["start"], each["end"], True) for each in stream["events"] if each["caption"] == text]


def apart(there: list[Mark]) -> list[Mark]:
    """Return marks, those that are less than APART seconds from each other as one."""
    found: list[Mark] = []
    for mark in there:
        if found and mark.start - found[-1].end < APART:
            found[-1] = replace(found[-1], end=mark.end)
        else:
            found.append(mark)
    return found


def why_missed(mark: Mark, starts: list[float], ends: list[float]) -> str:
    """Return why no event began within a mark: one before still went on, it is short, or its score stayed too low."""
    if any(start <= mark.start < end for start, end in zip(starts, ends, strict=True)):
        return "still_firing"
    return "short" if mark.end - mark.start < SHORT else "not_told"


def judge(streams: list[Stream], windows: list[list[list[ScoredWindow]]], rules: dict[str, Rule]) -> dict[str, Any]:
    """Return precision and recall over all events, delays, and false alarms in streams without the event."""
    right = wrong = events = alarms = once = once_found = 0
    delays: list[float] = []
    hours = 0.0
    each: dict[str, list[int]] = {text: [0, 0, 0] for text in rules}
    causes = Counter(still_firing=0, short=0, not_told=0)
    for stream, by_text in zip(streams, windows, strict=True):
        for (text, rule), seen in zip(rules.items(), by_text, strict=True):
            turns = play(rule, seen)
            starts, ends = ([turn.at for turn in turns if turn.kind == kind] for kind in ("start", "end"))
            there, found = marks(stream, text), set[Mark]()
            for at in starts:
                inside = [mark for mark in there if mark.start <= at <= mark.end + rule.hold + LATE]
                right, wrong = right + bool(inside), wrong + (not inside)
                each[text][0] += bool(inside)
                each[text][1] += not inside
                delays += [at - mark.start for mark in inside[-1:] if mark not in found]
                found.update(inside[-1:])
            whole = apart(there)
            once += len(whole)
            once_found += sum(any(mark.start <= at <= mark.end + rule.hold + LATE for at in starts) for mark in whole)
            events += len(there)
            each[text][2] += len(there) - len(found)
            causes.update(why_missed(mark, starts, ends) for mark in there if mark not in found)
            if not there:
                alarms, hours = alarms + len(starts), hours + stream["seconds"] / 3600
    missed = sum(count for _, _, count in each.values())
    return {
        "events": events,
        "precision": round(right / max(right + wrong, 1), 3),
        "recall": round((events - missed) / max(events, 1), 3),
        "recall_of_events_apart": round(once_found / max(once, 1), 3),
        "missed": dict(causes),
        "delay_p50": round(float(np.percentile(delays, 50)), 2),
        "delay_p90": round(float(np.percentile(delays, 90)), 2),
        "false_alarms": wrong,
        "false_alarms_an_hour_without_the_event": round(alarms / max(hours, 1e-9), 2),
        "sentence_hours_without_the_event": round(hours, 2),
        "by_sentence": {text: {"right": r, "wrong": w, "missed": m} for text, (r, w, m) in each.items()},
    }


@click.command()
@click.option("--streams", type=click.Path(path_type=Path), default=TRAIN_NANO / "data/streams", show_default=True)
@click.option("--count", default=24, show_default=True, help="Streams of each part.")
def main(streams: Path, count: int) -> None:
    val, test, idle = (read(streams / name, count) for name in ("val", "test", "test-idle"))
    if not val or not test:
        raise click.ClickException(f"{streams} holds no val and test: examples/train_nano/make_stream.py renders them")
    texts = sentences_of(val)
    with vlj_edge.load() as model:
        on_val, on_test, on_idle = (scored(model, part, texts) for part in (val, test, idle))
    fixed = dict.fromkeys(texts, RULE)
    chosen = {}
    for number, text in enumerate(texts):
        pairs = [(windows[number], marks(stream, text)) for stream, windows in zip(val, on_val, strict=True)]
        above = suggest(RULE, pairs).above
        chosen[text] = replace(RULE, above=above, below=above * RULE.below / RULE.above)
    found: dict[str, Any] = {}
    for name, rules in (("one_threshold", fixed), ("threshold_of_each", chosen)):
        found[name] = {"val": judge(val, on_val, rules), "test": judge(test, on_test, rules)}
        if idle:
            found[name]["idle"] = judge(idle, on_idle, rules)
        for part, figures in found[name].items():
            print(name, part, {key: value for key, value in figures.items() if key != "by_sentence"})
    about = {"streams": {"val": len(val), "test": len(test), "idle": len(idle)}, "rule": vars(RULE), "unless": UNLESS}
    thresholds = {text: rule.above for text, rule in chosen.items()}
    write("alerts.json", about | {"thresholds": thresholds, "settings": found}, "python benchmarks/alerts.py")


if __name__ == "__main__":
    main()
