"""Changes of valid samples: of bytes, and of the values in JSON and TOML."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

# What people and broken programs write in place of a value.
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**53, 2**63, 10**18, 10**20, 10**400, -(10**400), 0.5, -0.0, 1e308, 1e-308,
    float("nan"), float("inf"), -float("inf"), "", "x", "../x", "/etc/passwd", "\x00", "\x1b[2J", "\ud800", "\n", "1",
    "x" * 5000, [], [[]], [None], [1, "a"], {}, {"": None}, {"a": {"a": {}}},
)  # fmt: skip


def mutated_bytes(sample: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """Return a sample with one to eight changes: flipped bits, other bytes, cuts, repetitions, and parts of others."""
    raw = bytearray(sample)
    for _ in range(chance.choice((1, 1, 2, 3, 8))):
        at = chance.randrange(len(raw) + 1)
        what = chance.randrange(8)
        if what == 0 and at < len(raw):
            raw[at] ^= 1 << chance.randrange(8)
        elif what == 1 and at < len(raw):
            raw[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        elif what == 2:
            del raw[at:]
        elif what == 3:
            del raw[at : at + chance.randrange(1, 64)]
        elif what == 4:
            raw[at:at] = raw[at : at + chance.randrange(1, 256)]
        elif what == 5:
            other = chance.choice(others)
            begin = chance.randrange(len(other) + 1)
            raw[at : at + chance.randrange(64)] = other[begin : begin + chance.randrange(1, 256)]
        elif what == 6:  # a number, such as a length
            size = chance.choice((1, 2, 4, 8))
            value = chance.choice((0, 1, 2 ** (8 * size) - 1, 2 ** (8 * size - 1), chance.randrange(2 ** (8 * size))))
            raw[at : at + size] = value.to_bytes(size, chance.choice(("little", "big")))
        else:
            raw[at:at] = chance.choice((b"\0", b"\xff\xfe", b"\n", b'"', b"\xf0\x9f\x98\x80", b"[" * 3000, b"9" * 400))
    return bytes(raw)


def mutated_value(value: Any, chance: random.Random) -> Any:
    """Return nested lists and tables with one to three changes: another value, a key too few, too many or renamed."""
    value = copy.deepcopy(value)
    for _ in range(chance.choice((1, 1, 2, 3))):
        places = list(_places(value))
        if not places:
            return value
        holder, key = chance.choice(places)
        what = chance.randrange(6)
        if what == 0:
            del holder[key]
        elif what == 1 and isinstance(holder, dict):
            holder[chance.choice(("x", "", "name", str(key) + "x"))] = holder.pop(key)
        elif what == 2:
            other, other_key = chance.choice(places)
            holder[key] = copy.deepcopy(other[other_key]) if other_key in _keys(other) else None
        elif what == 3 and isinstance(holder, list):
            holder.insert(key, copy.deepcopy(holder[key]))
        else:
            holder[key] = copy.deepcopy(chance.choice(VALUES))
    return value


def mutated_json(sample: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """Return a JSON text with other values, or one time in four with other bytes."""
    if chance.randrange(4) == 0:
        return mutated_bytes(sample, others, chance)
    return json.dumps(mutated_value(json.loads(sample), chance)).encode("utf-8", "surrogatepass")


def _places(value: Any) -> Any:
    for key in _keys(value):
        yield value, key
        yield from _places(value[key])


def _keys(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value)
    return list(range(len(value))) if isinstance(value, list) else []
