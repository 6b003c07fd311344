"""Fuzzers of what people write, and what servers answer: gates, annotations, tables, alerts, schemas and replies."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.fuzz.mutate import mutated_json, mutated_value
from tests.fuzz.runner import Fuzzer, of_file
from vlj_edge.bundle import nano_bundle, read_manifest
from vlj_edge.bundle.gate_profile import read_gate_profile
from vlj_edge.export.calibrated import LABELS_FILE, read_labels
from vlj_edge.runtime.alerts.settings import read_alerts
from vlj_edge.runtime.calibration.events import read_events
from vlj_edge.runtime.engines.tuning import _path as tuning_path
from vlj_edge.runtime.engines.tuning import read_tuning
from vlj_edge.runtime.evaluation.published import read_published
from vlj_edge.runtime.evaluation.tables import read_table
from vlj_edge.runtime.service.learned import LearnedNoise
from vlj_edge.runtime.words.json_schema import NotAsAsked, parse_answer, read_schema
from vlj_edge.runtime.words.reply import Unreadable, read_reply, reason_in
from vlj_edge.schema import SchemaError


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def gates(folder: Path) -> Fuzzer:
    made = {"source": "door", "seconds": 9.0, "date": "2026-11-28", "bundle": {"embedding": 128, "space": "x"}}
    sample = {"schema_version": 1, "gates": {"meaning": {"smoothing": 2}, "scene": {"enabled": False}},
              "novel_below": 0.5, "made": made}  # fmt: skip
    default = read_manifest(nano_bundle()).gates
    return of_file(folder / "gates.json", [_json(sample)], lambda path: read_gate_profile(path, default), mutated_json)


def calibrated(folder: Path) -> Fuzzer:
    sample = {"query": "what", "templates": ["{}", "a {}"], "temperature": 0.01, "none_below": 0.2, "bias": None}
    return of_file(folder / LABELS_FILE, [_json(sample)], lambda path: read_labels(path.parent), mutated_json)


def tuning(folder: Path) -> Fuzzer:
    manifest = read_manifest(nano_bundle())
    sample = {
        "tuning": {"backend": "onnxruntime", "threads": 2, "spin": True, "bf16": False},
        "bundle": "x",
        "cores": 2,
    }
    path = tuning_path(folder)
    path.parent.mkdir(parents=True)
    return of_file(path, [_json(sample)], lambda path: read_tuning(folder, manifest), mutated_json)


def learned(folder: Path) -> Fuzzer:
    manifest = read_manifest(nano_bundle())
    door = {"of": "x", "seen": 9, "noise": [0.01] * 1024, "cosines": [0.9, 0.8]}
    logging.getLogger(LearnedNoise.__module__).setLevel(logging.CRITICAL)
    sample = {"version": 1, "sources": {"door": door}}
    return of_file(folder / "learned.json", [_json(sample)], lambda path: LearnedNoise(manifest, path), mutated_json)


def subtitles(folder: Path) -> Fuzzer:
    srt = b"1\n00:00:01,000 --> 00:00:02,500\na door opens\nit is red\n\n2\n00:00:03,000 --> 00:01:04,000\nit shuts\n"
    vtt = b"WEBVTT\n\n00:01.000 --> 00:02.500\na door opens\n"
    return of_file(folder / "events.srt", [srt, vtt], read_events)


def annotations(folder: Path) -> Fuzzer:
    sample = {"events": [{"start": 1.0, "end": 2.5, "captions": ["a door opens", "it opens"]}]}
    return of_file(folder / "events.json", [_json(sample)], read_events, mutated_json)


def table(folder: Path) -> Fuzzer:
    rows = b"video,start,end,text,question,choices,answer\na.mp4,1,2.5,a door,,,\nb.mp4,,,,what?,red|blue,red\n"
    return of_file(folder / "table.csv", [rows], read_table)


def table_of_json(folder: Path) -> Fuzzer:
    row = {"video": "a.mp4", "start": 1.0, "end": 2.5, "question": "what?", "choices": ["red", "blue"], "answer": "red"}
    return of_file(folder / "table.jsonl", [_json(row)], read_table, mutated_json)


def published(folder: Path) -> Fuzzer:
    (folder / "a.mp4").touch()
    msr_vtt = {"sentences": [{"video_id": "a", "caption": "a door"}, {"video_id": "b", "caption": "a wall"}]}
    samples = [_json(msr_vtt), _json([{"id": "a", "template": "opening [something]"}])]
    return of_file(folder / "made.json", samples, lambda path: read_published(path, folder), mutated_json)


def kinetics(folder: Path) -> Fuzzer:
    (folder / "a.mp4").touch()
    sample = b"label,youtube_id,time_start,time_end,split\nopening a door,a,1,11,validate\nwalking,b,5,15,validate\n"
    return of_file(folder / "made.csv", [sample], lambda path: read_published(path, folder))


def alerts(folder: Path) -> Fuzzer:
    sample = [
        {"name": "fall", "text": ["a person falls"], "unless": "a dog", "above": 0.3, "below": 0.2, "for": "2s",
         "again_after": "5m", "cameras": ["door"], "quiet": "22:00-06:00"},
        {"name": "like", "like": "clip.mp4@1:02", "above": 0.5},
    ]  # fmt: skip

    def parse(raw: bytes) -> Any:
        return read_alerts(json.loads(raw))

    return Fuzzer([_json(sample)], parse, _values, (SchemaError,))


def schema(folder: Path) -> Fuzzer:
    sample = {"type": "object", "required": ["count"], "additionalProperties": False, "properties": {
        "count": {"type": "integer", "minimum": 0, "maximum": 9}, "kind": {"enum": ["car", 1, None]},
        "names": {"type": ["array", "null"], "items": {"type": "string", "maxLength": 9}, "maxItems": 3}}}  # fmt: skip
    answers = [_json({"count": 1, "kind": "car", "names": ["a"]}).decode(), "```json\n{}\n```", '{"count": 1e999}']

    def parse(path: Path) -> Any:
        found = read_schema(path)
        for answer in answers:
            with suppress(NotAsAsked):
                parse_answer(answer, found)

    return of_file(folder / "schema.json", [_json(sample)], parse, mutated_json)


def answer(folder: Path) -> Fuzzer:
    wanted = {"type": "object", "properties": {
        "count": {"type": "integer", "minimum": 0, "maximum": 9}, "kind": {"enum": ["car", 1, None]},
        "names": {"type": "array", "items": {"type": "string", "maxLength": 9}, "maxItems": 3}}}  # fmt: skip
    (folder / "schema.json").write_bytes(_json(wanted))
    found = read_schema(folder / "schema.json")
    samples = [_json({"count": 1, "kind": "car", "names": ["a"]})]
    return Fuzzer(samples, lambda raw: parse_answer(raw.decode("utf-8", "replace"), found), mutated_json, (NotAsAsked,))


def reply(folder: Path) -> Fuzzer:
    message = {"content": "<think>a cat?</think>A cat sleeps."}
    choices = [{"message": message, "finish_reason": "length"}]
    sample = {"choices": choices, "usage": {"prompt_tokens": 9}, "error": {"message": "x"}, "detail": [{"msg": "x"}]}

    def parse(raw: bytes) -> Any:
        reason_in(raw)
        return read_reply(raw)

    return Fuzzer([_json(sample)], parse, mutated_json, (Unreadable,))


def _values(raw: bytes, others: list[bytes], chance: Any) -> bytes:
    """Other values, and JSON all the same: what TOML makes of a file."""
    return _json(mutated_value(json.loads(raw), chance))


TEXT_FUZZERS: dict[str, Callable[[Path], Fuzzer]] = {
    each.__name__: each
    for each in (
        gates, calibrated, tuning, learned, subtitles, annotations, table, table_of_json, published, kinetics, alerts,
        schema, answer, reply,
    )
}  # fmt: skip
