"""The faults. Each is a function that causes one for some seconds and undoes it before it returns.

Faults run at the same time, each in a thread of its own; those that use the same part of the world wait for each other.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import socket
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, TypeAlias

import httpx

from tests.fuzz.mutate import mutated_bytes
from tests.waiting import wait_for

from .service import Service
from .world import Camera, World

Fault: TypeAlias = "Callable[[World, Service, random.Random, float], None]"
FAULTS: dict[str, Fault] = {}
_USED: dict[str, threading.Lock] = defaultdict(threading.Lock)
_GONE = struct.pack("ii", 1, 0)  # SO_LINGER: closing resets the connection


def fault(uses: str = "") -> Callable[[Fault], Fault]:
    """Add a fault to FAULTS; while it runs, no other that uses the same does."""

    def add(function: Fault) -> Fault:
        def alone(world: World, service: Service, chance: random.Random, seconds: float) -> None:
            with _USED[uses or function.__name__]:
                function(world, service, chance, seconds)

        FAULTS[function.__name__.replace("_", " ")] = alone
        return function

    return add


@fault("door")
def camera_is_killed(world: World, service: Service, chance: random.Random, seconds: float) -> None:
    _away(world.door, seconds)


@fault("hall")
def rtsp_camera_is_killed(world: World, service: Service, chance: random.Random, seconds: float) -> None:
    if world.hall is not None:
        _away(world.hall, seconds)


@fault("door")
def camera_hangs(world: World, service: Service, chance: random.Random, seconds: float) -> None:
    world.door.send(signal.SIGSTOP)
    time.sleep(seconds)
    world.door.send(signal.SIGCONT)


@fault("door")
def camera_sends_damaged_pictures(world: World, service: Service, chance: random.Random, seconds: float) -> None:
    world.door.send(signal.SIGUSR1)
    time.sleep(seconds)
    world.door.send(signal.SIGUSR2)


@fault()
def readers_are_killed(world: World, service: Service, chance: random.Random, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        _kill_a_reader(service, chance)
        time.sleep(chance.uniform(0.05, 2))


@fault()
def reader_hangs(world: World, service: Service, chance: random.Random, seconds: float) -> None:
    _kill_a_reader(service, chance, signal.SIGSTOP)
    time.sleep(seconds)


@fault("film")
def film_is_truncated(world: World, service: Service, chance: random.Random, seconds: float) -> None:
    os.truncate(world.film, len(world.whole_film) // chance.choice((2, 3, 50)))
    time.sleep(seconds)
    world.film.write_bytes(world.whole_film)


@fault("film")
def film_grows(world: World, service: Service, chance: random.Random, seconds: float) -> None:
    with world.film.open("ab") as file:
        for _ in range(4):
            file.write(world.whole_film[: chance.randrange(len(world.whole_film))])
            file.flush()
            time.sleep(seconds / 4)
    world.film.write_bytes(world.whole_film)


@fault("film")
def film_is_away(world: World, service: Service, chance: random.Random, seconds: float) -> None:
    world.film.unlink()
    time.sleep(seconds)
    world.film.write_bytes(world.whole_film)


@fault("broker")
def broker_hangs(world: World, service: Service, chance: random.Random, seconds: float) -> None:
    world.broker.hang()
    time.sleep(seconds)
    world.broker.go_on()


@fault("broker")
def broker_is_killed(world: World, service: Service, chance: random.Random, seconds: float) -> None:
    world.broker.kill()
    time.sleep(seconds)
    world.broker.start()


@fault("hook")
def webhook_fails(world: World, service: Service, chance: random.Random, seconds: float) -> None:
    world.hook.mode = chance.choice(("fail", "drip", "silent"))
    time.sleep(seconds)
    world.hook.mode = "answer"


@fault("size")
def disk_is_full(world: World, service: Service, chance: random.Random, seconds: float) -> None:
    service.limit(resource.RLIMIT_FSIZE, 1)
    time.sleep(seconds)
    service.limit(resource.RLIMIT_FSIZE, None)


@fault("descriptors")
def descriptors_run_out(world: World, service: Service, chance: random.Random, seconds: float) -> None:
    service.limit(resource.RLIMIT_NOFILE, service.reading().descriptors + 1)
    _kill_a_reader(service, chance)
    time.sleep(seconds)
    service.limit(resource.RLIMIT_NOFILE, None)


@fault("memory")
def memory_runs_out(world: World, service: Service, chance: random.Random, seconds: float) -> None:
    pages = int(Path(f"/proc/{service.pid}/statm").read_text().split()[0])
    service.limit(resource.RLIMIT_AS, pages * resource.getpagesize() + 4_000_000)
    _kill_a_reader(service, chance)
    time.sleep(min(seconds, 5))
    service.limit(resource.RLIMIT_AS, None)


@fault()
def service_is_stopped_and_goes_on(world: World, service: Service, chance: random.Random, seconds: float) -> None:
    service.send(signal.SIGSTOP)
    time.sleep(min(seconds, 3))
    service.send(signal.SIGCONT)


@fault("config")
def configuration_changes(world: World, service: Service, chance: random.Random, seconds: float) -> None:
    more = f'[[source]]\nname = "extra"\nuri = "http://127.0.0.1:{world.door.port}/video"\n'
    _hang_up(world, service, chance, more)
    wait_for(lambda: _asked(lambda: "extra" in service.sources()), 60)
    time.sleep(seconds)
    _hang_up(world, service, chance, "")
    wait_for(lambda: _asked(lambda: "extra" not in service.sources()), 60)


@fault("config")
def configuration_is_broken(world: World, service: Service, chance: random.Random, seconds: float) -> None:
    world.write_config(
        chance.choice(("port = ", '[[source]]\nname = "x"\n', "[source.gates.meaning]\nhysteresis = 9\n"))
    )
    service.send(signal.SIGHUP)
    time.sleep(seconds)
    assert _asked(lambda: set(service.sources()) == {*world.live, "film"}) is not False
    _hang_up(world, service, chance, "")


@fault("settings")
def settings_change(world: World, service: Service, chance: random.Random, seconds: float) -> None:
    changes: list[dict[str, Any]] = [
        {"labels": ["red", "green", "blue"]},
        {"labels": []},
        {"speak_below": 0.7, "least_hold": 0.5},
        {"query": "what colour is it"},
        {"query": "describe"},
    ]
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        name, change = chance.choice([*world.live, "film"]), chance.choice(changes)
        with suppress(httpx.HTTPError):
            answer = service.client.put(f"/api/sources/{name}/settings", json=change).raise_for_status().json()
            assert all(answer[key] == value for key, value in change.items() if key in answer), answer
        with suppress(httpx.HTTPError):
            refused = service.client.put(f"/api/sources/{name}/settings", json={"labels": ["a", "a"]})
            assert refused.status_code in (422, 503), refused.text
        with suppress(httpx.HTTPError):
            service.client.post("/api/settings/save")
        time.sleep(chance.uniform(0, 0.3))


@fault("connections")
def connections_are_idle(world: World, service: Service, chance: random.Random, seconds: float) -> None:
    with ExitStack() as opened:
        for number in range(300):
            with suppress(OSError):
                connection = opened.enter_context(_connect(world))
                connection.sendall(b"GET / HTTP/1.1\r\nX-" if number % 3 else b"")
        time.sleep(seconds)


@fault("connections")
def listeners_come_and_go(world: World, service: Service, chance: random.Random, seconds: float) -> None:
    paths = ("/api/events", "/api/sources/door/video.mjpg", "/api/sources/film/picture.jpg", "/metrics", "/")
    until = time.monotonic() + seconds
    with ExitStack() as opened:
        while time.monotonic() < until:
            with suppress(OSError):
                connection = _connect(world)
                path = chance.choice(paths)
                connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{world.port}\r\n\r\n".encode())
                if chance.random() < 0.1:
                    opened.enter_context(connection)  # and reads nothing
                else:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _GONE)
                    connection.close()
            time.sleep(0.02)


@fault()
def strangers_ask(world: World, service: Service, chance: random.Random, seconds: float) -> None:
    wrong = ({"Origin": "https://evil.example"}, {"Host": "evil.example"}, {"Sec-Fetch-Site": "cross-site"})
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for headers in wrong:
            with suppress(httpx.HTTPError):
                answer = service.client.post("/api/settings/save", headers=headers)
                assert answer.status_code in (400, 403, 421, 503), (headers, answer.status_code)
        time.sleep(0.2)


@fault("uploads")
def uploads_are_hostile(world: World, service: Service, chance: random.Random, seconds: float) -> None:
    film = world.whole_film
    bad = [b"", b"#EXTM3U\nAVI \nfile:///etc/passwd\n", film[: len(film) // 3], os.urandom(2000), bytes(100_000)]
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        clip = chance.choice([*bad, mutated_bytes(film, bad, chance), mutated_bytes(film, bad, chance)])
        with suppress(httpx.HTTPError):
            answer = service.client.post("/api/embed", files={"clip": clip})
            assert answer.status_code in (200, 408, 422, 503, 507), answer.text
        with suppress(OSError), _connect(world) as connection:  # one that breaks off
            head = "POST /api/embed HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 90000\r\n"
            kind = "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
            connection.sendall((head + kind).encode() + b'--b\r\nContent-Disposition: form-data; name="clip"')
            time.sleep(0.2)


@fault("log")
def log_is_moved_away(world: World, service: Service, chance: random.Random, seconds: float) -> None:
    with suppress(FileNotFoundError):
        world.log.rename(world.log.with_name(f"moved-{time.time_ns()}.jsonl"))
    service.send(signal.SIGHUP)
    time.sleep(seconds)


@fault()
def searches_while_it_is_written(world: World, service: Service, chance: random.Random, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with suppress(httpx.HTTPError):
            answer = service.client.get("/api/search", params={"text": chance.choice(("red", "green", "blue"))})
            assert answer.status_code in (200, 404, 422, 503), answer.text
        time.sleep(0.1)


def _away(camera: Camera, seconds: float) -> None:
    camera.kill()
    time.sleep(seconds)
    camera.start()


def _kill_a_reader(service: Service, chance: random.Random, number: signal.Signals = signal.SIGKILL) -> None:
    readers = service.readers()
    if readers:
        with suppress(ProcessLookupError):
            os.kill(chance.choice(readers), number)


def _connect(world: World) -> socket.socket:
    return socket.create_connection(("127.0.0.1", world.port), timeout=5)


def _hang_up(world: World, service: Service, chance: random.Random, more: str) -> None:
    """Change the configuration, and tell the service once or several times."""
    world.write_config(more)
    for _ in range(chance.choice((1, 2, 5))):
        service.send(signal.SIGHUP)
        time.sleep(chance.choice((0, 0.05)))


def _asked(question: Callable[[], bool]) -> bool | None:
    """Return the answer; None where the service cannot answer now."""
    try:
        return question()
    except (httpx.HTTPError, json.JSONDecodeError, OSError):
        return None
