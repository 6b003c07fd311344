"""Rounds of faults, with a look at the service after each: whether all works again, and what it takes."""

from __future__ import annotations

import json
import os
import random
import signal
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import asdict
from itertools import chain, pairwise
from pathlib import Path
from statistics import median
from typing import Any

import httpx

from .faults import FAULTS, Fault
from .service import Reading, Service
from .world import CHANGING, World

AT_ONCE = 4  # faults
RECOVERED_WITHIN = 60.0  # seconds after the faults of a round
ENDED_WITHIN = 20.0  # seconds after SIGTERM: sources 1, open connections 3, the queues of sinks 5, and their closing 10
FORBIDDEN = ("Traceback", "panicked", "please report")


def soak(seconds: float, seed: int, say: Any = print) -> dict[str, Any]:
    """Run the service for so many seconds, and until each fault was there once.

    Returns:
        What was seen, and "problems": what must not be.

    Raises:
        AssertionError: it has ended, or something does not work again after a round of faults.
    """
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder, World(Path(folder)) as world:
        service = Service(world.config, world.port)
        try:
            found, problems = _rounds(world, service, chance, seconds, say)
            problems += _check_sinks_have_all(service, found)
            found["seconds to end"] = round(service.end(ENDED_WITHIN), 1)
            found["exit code"] = service.process.returncode
            problems += [] if service.process.returncode == 0 else ["it fails at the end", *service.lines[-20:]]
            problems += [f"process {number} is left" for number in service.children()]
            problems += _check_log(world, service, found)
        except BaseException:
            say("\n".join(service.lines[-60:]))
            raise
        finally:
            for number in (*service.children(), service.pid):
                _kill(number)
    return found | {"problems": problems}


def _rounds(
    world: World, service: Service, chance: random.Random, seconds: float, say: Any
) -> tuple[dict[str, Any], list[str]]:
    _wait_until_all_narrate(world, service, 0)
    begun, most = time.monotonic(), 3.0 if seconds < 120 else 8.0
    seen, deck, given, recovered = [service.reading()], list[str](), Counter[str](), list[float]()
    while time.monotonic() - begun < seconds or len(given) < len(FAULTS):
        if len(deck) < AT_ONCE:
            deck += chance.sample(sorted(FAULTS), len(FAULTS))
        names = [deck.pop(0) for _ in range(AT_ONCE)]
        _cause([(name, FAULTS[name]) for name in names], world, service, chance, most)
        given.update(names)
        recovered.append(_wait_until_all_narrate(world, service, time.monotonic()))
        seen.append(service.reading())
        say(f"{time.monotonic() - begun:5.0f} s  {recovered[-1]:4.1f} s  {seen[-1]}  {', '.join(names)}", flush=True)
    found = {"seconds": round(time.monotonic() - begun), "faults": dict(sorted(given.items()))}
    found["seconds to recover"] = {"median": round(median(recovered), 1), "longest": round(max(recovered), 1)}
    found["sources"] = {
        name: {key: source["counts"].get(key, 0) for key in ("windows", "events", "restarts", "bad_frames")}
        for name, source in service.sources().items()
    }
    first, last = _medians(seen)
    return found | {"first third": first, "last third": last}, _check_nothing_grows(first, last, len(seen))


def _cause(faults: list[tuple[str, Fault]], world: World, service: Service, chance: random.Random, most: float) -> None:
    """Cause faults at the same time, and return when all are undone."""
    failures: list[str] = []

    def run(name: str, fault: Fault, own: random.Random) -> None:
        try:
            fault(world, service, own, own.uniform(0.5, most))
        except Exception as error:
            failures.append(f"{name}: {error!r}")

    threads = [
        threading.Thread(target=run, args=(name, fault, random.Random(chance.random()))) for name, fault in faults
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures


def _wait_until_all_narrate(world: World, service: Service, begun: float) -> float:
    """Wait until every source makes windows, those that change make texts, and the service calls itself healthy; return
    the seconds since `begun`."""
    until, before = time.monotonic() + RECOVERED_WITHIN, dict[str, dict[str, Any]]()
    while True:
        assert service.process.poll() is None, f"it has ended with {service.process.returncode}"
        missing = _not_working(world, service, before)
        if not missing:
            return time.monotonic() - begun
        assert time.monotonic() < until, missing
        time.sleep(0.1)


def _not_working(world: World, service: Service, before: dict[str, dict[str, Any]]) -> list[str]:
    """Return what does not work. `before` gets the first counts of each source."""
    try:
        sources, health = service.sources(), service.client.get("/healthz")
    except (httpx.HTTPError, json.JSONDecodeError) as error:
        return [repr(error)]
    missing = [] if health.status_code == 200 else [health.text]
    if not world.log.exists():
        missing.append(f"{world.log.name} was not written again")
    for name in (*world.live, "film"):
        if name not in sources:
            missing.append(f"{name} is not there")
            continue
        counts = sources[name]["counts"]
        first = before.setdefault(name, counts)
        texts = name not in CHANGING or counts["events"] > first["events"]
        if counts["windows"] < first["windows"] + 3 or not texts or sources[name]["state"] != "live":
            missing.append(f"{name}: {sources[name]['state']}, {sources[name]['error']}, {counts}")
    return missing


def _medians(seen: list[Reading]) -> list[dict[str, float]]:
    """Return the medians of the first and of the last third of the readings."""
    third = max(len(seen) // 3, 1)
    parts = (seen[:third], seen[-third:])
    return [{name: median(getattr(each, name) for each in part) for name in asdict(seen[0])} for part in parts]


def _check_nothing_grows(first: dict[str, float], last: dict[str, float], count: int) -> list[str]:
    threads = 4 if count > 30 else 16  # pools of threads fill in the first minutes
    most = {
        "memory": 1.1 * first["memory"] + 20,
        "descriptors": first["descriptors"] + 8,
        "threads": first["threads"] + threads,
        "children": first["children"],
    }
    return [f"{name} grows from {first[name]} to {last[name]}" for name in most if last[name] > most[name]]


def _check_sinks_have_all(service: Service, found: dict[str, Any]) -> list[str]:
    """Wait until the sinks have delivered what waits, and check that nothing was lost."""
    until = time.monotonic() + RECOVERED_WITHIN
    while any(sink["queued"] for sink in service.sinks().values()) and time.monotonic() < until:
        time.sleep(0.1)
    sinks = service.sinks()
    found["sinks"] = {name: {key: sink[key] for key in ("delivered", "missed")} for name, sink in sinks.items()}
    return [str(sink) for sink in sinks.values() if sink["missed"] or sink["queued"] or not sink["delivered"]]


def _check_log(world: World, service: Service, found: dict[str, Any]) -> list[str]:
    """Check the log of texts, and the service's own."""
    files = chain([world.log], world.folder.glob("moved-*.jsonl"))
    events = [json.loads(line) for path in files if path.exists() for line in path.read_text().splitlines()]
    logged = Counter((each["source"], each["number"], each["clock"]) for each in events)
    found["texts"] = dict(sorted(Counter(each["text"] for each in events).items()))
    found["lines logged"] = len(service.lines)
    problems = [f"{text} is wrong" for text in found["texts"] if "wrong" in text]
    problems += [f"{which} was logged twice" for which, times in logged.items() if times > 1]
    problems += [f"{which} was posted and not logged" for which in world.hook.got if which not in logged]
    for name in {each["source"] for each in events}:
        numbers = [each["number"] for each in sorted(events, key=lambda each: each["clock"]) if each["source"] == name]
        gaps = [(a, b) for a, b in pairwise(numbers) if b not in (a + 1, 1)]
        problems += [f"texts of {name} between {a} and {b} were not logged" for a, b in gaps]
    at = [at for at, line in enumerate(service.lines) if any(word in line for word in FORBIDDEN)]
    return problems + [_outline(service.lines[each:]) for each in at[:3]]


def _outline(lines: list[str]) -> str:
    """Return the first line and that of the error, which follows the indented ones of a traceback."""
    return f"{lines[0]} {next((line for line in lines[1:] if not line.startswith(' ')), '')}"


def _kill(number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(number, signal.SIGKILL)
