"""Run the wheel on an emulated aarch64 machine and compare it with this one: `make arm64` writes results/aarch64.json.

    python -m tests.environments.arm64 [FOLDER] [--out FILE]

The machine is Debian's arm64 userland, in which qemu-user runs every program as on a Cortex-A76: with Debian's Python
3.11, and with a Python 3.10 that is compiled there, as JetPack 6 has it (arm64_python.py; that takes most of the time,
once). It needs x86-64 Linux 6.7 or newer, debootstrap and qemu-user-static, uv, and vlj-edge[cpu] in the Python that
runs it. All that it makes is in FOLDER (build/arm64), which a second run reuses; mounts are in a namespace that ends
with it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from datetime import datetime, timezone
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from tests.environments import arm64_python
from tests.environments.environment import TOOLS
from vlj_edge import VljEdgeError, open_source, read_records

REPOSITORY = Path(__file__).parents[2]
MIRROR, RELEASE = "http://deb.debian.org/debian", "bookworm"
PROGRAMS = ("debootstrap", "qemu-aarch64-static", "dpkg-deb", "unshare", "chroot", "tar")
EXTRAS = "cpu,openvino,serve,mqtt,store"
CPUINFO = """processor\t: {number}
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x4
CPU part\t: 0xd0b
CPU revision\t: 1

"""


class Python(NamedTuple):
    """A Python of the machine.

    Attributes:
        glibc: that its packages are for.
        site: where they lie.
    """

    version: str
    glibc: str
    program: str
    site: str
    extras: str


DEBIANS = Python("3.11", "2.36", "python3", "/vlj-edge/site", EXTRAS)
JETPACKS = Python(
    "3.10", "2.35", arm64_python.PYTHON, "/vlj-edge/site-3.10", EXTRAS.replace("openvino,", "")
)  # OpenVINO has no wheels for it

NARRATE = "narrate demo.mp4 --end 10 --json --threads 1"
# Each is run on both machines, in a folder with the demo video in it, and pictures of its first five seconds.
COMMANDS = {
    "verify": "verify",
    "narrate": NARRATE,
    "embed": "embed demo.mp4 --end 10 --ring ring.bin --keep 8 --threads 1 --out embeddings.json",
    "embed pictures": "embed pictures --fps 4 --ring pictures.bin --keep 8 --threads 1 --out pictures.json",
    "labels": "labels drawer,door,button --out bank.npz --threads 1",
    "classify": "classify demo.mp4 --end 10 --bank bank.npz --json --threads 1",
}
# Of those that need neither torch nor a program beside Python, some for every part of the runtime that computes.
TESTS = (
    "tests/bundle/test_manifest.py",
    "tests/bundle/test_signature.py",
    "tests/bundle/test_verify.py",
    "tests/runtime/embedding/test_labels.py",
    "tests/runtime/embedding/test_novelty.py",
    "tests/runtime/embedding/test_running_mean.py",
    "tests/runtime/gating/test_caption_memory.py",
    "tests/runtime/gating/test_decisions.py",
    "tests/runtime/gating/test_rest.py",
    "tests/runtime/video/test_files.py",
    "tests/runtime/video/test_resize.py",
    "tests/runtime/words/test_tokenizer.py",
    "tests/runtime/test_embed.py",
    "tests/runtime/test_narrate.py",
)
# FFmpeg turns YUV into RGB by other code for Arm: pictures of a video are up to 2 of 255 levels apart, PNGs equal.
LOWEST_COSINE = {"ring.bin": 0.99, "pictures.bin": 0.9999}
STAND_IN = ("tests/runtime/engines/test_tensorrt_engine.py", "tests/runtime/engines/test_tensorrt_errors.py")


def main() -> None:
    parser = argparse.ArgumentParser(description="Run vlj-edge on an emulated aarch64 machine.")
    parser.add_argument("folder", nargs="?", type=Path, default=REPOSITORY / "build" / "arm64")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "results" / "aarch64.json")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the emulated program too
    try:
        found = measure(asked.folder.resolve())
    except VljEdgeError as error:
        sys.exit(f"Error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    asked.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"{asked.out}: written", file=sys.stderr)
    ran = (*found["tests"].values(), *found["Python 3.10, glibc 2.35"]["tests"].values())
    if failures := [name for tests in ran for name in tests["failures"]]:
        sys.exit(f"Error: {len(failures)} tests fail on aarch64: {', '.join(failures)}")


def measure(folder: Path) -> dict[str, Any]:
    """Return what results/aarch64.json holds; raise VljEdgeError if a program fails or an answer differs."""
    begun = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    userland = make_userland(folder)
    commit, wheel = told(["git", "-C", str(REPOSITORY), "rev-parse", "HEAD"]).strip(), build(folder)
    arm64_python.build_python(userland, lambda *command: emulated(userland, DEBIANS, *command), say)
    for python in (DEBIANS, JETPACKS):
        install(folder, wheel, userland, python)
    compared = compare(folder, userland)
    narrated = texts_in(emulated(userland, JETPACKS, *at_work(JETPACKS, NARRATE)))
    if [text for _, text in narrated] != compared["texts"]:
        raise VljEdgeError(f"Python 3.10 says something else: {narrated}; Python 3.11: {compared['texts']}")
    return {
        "command": "make arm64",
        "date": datetime.now(timezone.utc).date().isoformat(),
        "minutes": round((time.monotonic() - begun) / 60, 1),
        "machine": describe(userland),
        "versions": versions(userland, DEBIANS),
        "commit": commit,
        "compared with x86-64": compared,
        "tests": all_tests(userland, DEBIANS),
        "Python 3.10, glibc 2.35": {
            "python": version_of(userland, JETPACKS),
            "versions": versions(userland, JETPACKS),
            "texts equal": True,
            "tests": all_tests(userland, JETPACKS),
        },
    }


def make_userland(folder: Path) -> Path:
    """Debian's packages for arm64, unpacked: their scripts are not needed, so that nothing is emulated for them."""
    for program in PROGRAMS:
        if shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None:
            raise VljEdgeError(f"{program} is not installed: apt install debootstrap qemu-user-static")
    userland, packages = folder / "userland", folder / "debian"
    if not (folder / "userland.done").exists():
        say(f"Debian {RELEASE}'s packages for arm64")
        download = ["debootstrap", "--download-only", "--arch", "arm64", "--variant", "minbase"]
        include = ",".join(("python3", *arm64_python.PACKAGES))
        told([*unshared(), *download, "--include", include, RELEASE, str(packages), MIRROR])
        shutil.rmtree(userland, ignore_errors=True)
        for name in ("bin", "sbin", "lib"):
            (userland / "usr" / name).mkdir(parents=True)
            (userland / name).symlink_to(f"usr/{name}")
        for package in sorted(packages.glob("var/cache/apt/archives/*.deb")):
            told(["sh", "-c", 'dpkg-deb --fsys-tarfile "$1" | tar -xkf - -C "$2"', "sh", str(package), str(userland)])
        (userland / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
        (userland / "etc" / "hosts").write_text("127.0.0.1 localhost\n")
        (folder / "userland.done").touch()
    # As many processors as /sys has: otherwise ONNX Runtime 1.23 ends the process while it is imported.
    (userland / "cpuinfo").write_text("".join(CPUINFO.format(number=number) for number in range(os.cpu_count() or 1)))
    return userland


def build(folder: Path) -> Path:
    """Return the wheel; the tests lie in the userland, without the sources that the wheel holds."""
    say("the wheel")
    dist, project = folder / "dist", folder / "userland" / "vlj-edge"
    for old in (dist, project):
        shutil.rmtree(old, ignore_errors=True)
    told([uv(), "build", "-q", "-o", str(dist), str(REPOSITORY)])
    project.mkdir()
    [sdist] = dist.glob("*.tar.gz")
    told(["tar", "-xzf", str(sdist), "-C", str(project), "--strip-components", "1"])
    for sources in ("vlj_edge", "runtime", "export"):
        shutil.rmtree(project / sources)
    [wheel] = dist.glob("*.whl")
    return wheel


def install(folder: Path, wheel: Path, userland: Path, python: Python) -> None:
    """Unpack the wheel and all that it needs there; every package must have a wheel for aarch64."""
    say(f"packages for aarch64, Python {python.version}, glibc {python.glibc}")
    target = userland / python.site[1:]
    shutil.rmtree(target, ignore_errors=True)
    platform = f"aarch64-manylinux_{python.glibc.replace('.', '_')}"
    how = ["--cache-dir", str(folder / "uv-cache"), "--python-version", python.version, "--python-platform", platform]
    requirements = [f"vlj-edge[{python.extras}] @ {wheel.as_uri()}", *TOOLS]
    told([uv(), "pip", "install", "-q", "--only-binary", ":all:", "--target", str(target), *how, *requirements])


def compare(folder: Path, userland: Path) -> dict[str, Any]:
    """Run COMMANDS on both machines; raise VljEdgeError where an answer differs."""
    here, there = folder / "x86-64", userland / "vlj-edge" / "work"
    for place in (here, there):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        shutil.copy(REPOSITORY / "examples" / "media" / "demo.mp4", place)
        write_pictures(place / "demo.mp4", place / "pictures")
    said, seconds = {}, {}
    for name, arguments in COMMANDS.items():
        say(f"vlj-edge {arguments}")
        ours = told([sys.executable, "-m", "vlj_edge", *arguments.split()], cwd=here)
        begun = time.monotonic()
        theirs = emulated(userland, DEBIANS, *at_work(DEBIANS, arguments))
        seconds[name] = round(time.monotonic() - begun, 1)
        said[name] = ours, theirs
    texts, expected = texts_in(said["narrate"][1]), texts_in(said["narrate"][0])
    ranked, right = (ranked_labels(text) for text in reversed(said["classify"]))
    lowest = {ring: min(compare_rings(here / ring, there / ring)) for ring in LOWEST_COSINE}
    if texts != expected or ranked != right or any(lowest[ring] < bar for ring, bar in LOWEST_COSINE.items()):
        raise VljEdgeError(f"aarch64 differs: {texts}, {ranked}, cosines {lowest}; x86-64: {expected}, {right}")
    return {
        "commands": {name: f"vlj-edge {arguments}" for name, arguments in COMMANDS.items()},
        "seconds": seconds,
        "texts": [text for _, text in texts],
        "texts equal": True,
        "lowest cosine, video": round(lowest["ring.bin"], 6),
        "lowest cosine, pictures": round(lowest["pictures.bin"], 6),
        "labels, likeliest first": ranked,
    }


def write_pictures(video: Path, folder: Path) -> None:
    """As PNGs, four a second, the first five seconds."""
    folder.mkdir()
    with open_source(str(video), end=5, sampled_at=4) as source:
        for number, frame in enumerate(source.frames()):
            if number % 2 == 0:  # the demo has 8 frames a second
                Image.fromarray(frame.image[..., ::-1].copy()).save(folder / f"{number:03}.png")


def texts_in(narrated: str) -> list[tuple[float, str]]:
    """(seconds, text) of each text that `narrate --json` printed."""
    lines = [json.loads(line) for line in narrated.splitlines()]
    return [(line["start"], line["text"]) for line in lines if "text" in line]


def ranked_labels(classified: str) -> list[str]:
    return [guess["label"] for guess in json.loads(classified)["guesses"]]


def compare_rings(ours: Path, theirs: Path) -> list[float]:
    """The cosine of each pair of embeddings; both rings hold the same windows."""
    pairs = list(zip(read_records(ours), read_records(theirs), strict=True))
    if [a.time for a, _ in pairs] != [b.time for _, b in pairs]:
        raise VljEdgeError(f"{theirs} holds other windows than {ours}")
    return [cosine(a.embedding, b.embedding) for a, b in pairs]


def cosine(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def all_tests(userland: Path, python: Python) -> dict[str, Any]:
    tests = {"unit tests": TESTS, "TensorRT on the stand-in": STAND_IN}
    return {name: run_tests(userland, python, files) for name, files in tests.items()}


def run_tests(userland: Path, python: Python, tests: tuple[str, ...]) -> dict[str, Any]:
    say(f"Python {python.version}: pytest {' '.join(tests)}")
    begun = time.monotonic()
    how = ("-q", "-p", "no:cacheprovider", "-m", "not slow and not signals", "-o", "addopts=--strict-markers")
    said = emulated(userland, python, python.program, "-m", "pytest", *how, *tests, may_fail=True)
    counted = {word: int(number) for number, word in re.findall(r"(\d+) (passed|skipped|failed|error)", said[-200:])}
    if not counted:
        raise VljEdgeError(f"pytest ran no test in {userland}: {said[-300:]}")
    failures = re.findall(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", said, re.MULTILINE)
    return {"tests": list(tests), **counted, "failures": failures, "minutes": round((time.monotonic() - begun) / 60, 1)}


def describe(userland: Path) -> dict[str, Any]:
    emulator = told(["qemu-aarch64-static", "--version"]).split()[2]
    ask = "import platform; print(platform.machine())"
    return {
        "processor": f"Cortex-A76 ({emulated(userland, DEBIANS, 'python3', '-c', ask).strip()}), emulated by qemu-user"
        f" {emulator}",
        "cores": os.cpu_count(),
        "python": version_of(userland, DEBIANS),
        "system": f"Debian {RELEASE} {(userland / 'etc' / 'debian_version').read_text().strip()}",
    }


def version_of(userland: Path, python: Python) -> str:
    ask = "import platform; print(platform.python_version())"
    return emulated(userland, python, python.program, "-c", ask).strip()


def versions(userland: Path, python: Python) -> dict[str, str]:
    packages = distributions(path=[str(userland / python.site[1:])])
    found = ((package.metadata["Name"], package.version) for package in packages)
    return dict(sorted(found, key=lambda item: item[0].lower()))


def at_work(python: Python, arguments: str) -> tuple[str, str, str]:
    """The command that runs vlj-edge in the folder with the video."""
    return "sh", "-c", f"cd work && exec {python.program} -m vlj_edge {arguments}"


def emulated(userland: Path, python: Python, *command: str, may_fail: bool = False) -> str:
    enter = ["sh", str(Path(__file__).with_name("enter_arm64.sh")), str(userland)]
    inside = ["/usr/bin/env", "-i", *settings(python), *command]
    return told([*unshared("--pid", "--fork", "--kill-child"), *enter, *inside], may_fail=may_fail)


def settings(python: Python) -> list[str]:
    values = {
        "QEMU_CPU": "cortex-a76",
        "PATH": f"{python.site}/bin:/usr/bin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "PYTHONPATH": python.site,
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
    }
    return [f"{name}={value}" for name, value in values.items()]


def unshared(*more: str) -> list[str]:
    """Root in namespaces of its own, which ends when this process does."""
    return ["setpriv", "--pdeathsig", "KILL", "unshare", "--user", "--map-root-user", "--mount", *more]


def told(command: list[str], cwd: Path | None = None, may_fail: bool = False) -> str:
    """Return stdout; raise VljEdgeError, with the end of what it wrote, if the command fails."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    done = subprocess.run(
        command, cwd=cwd, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False
    )
    if done.returncode and not may_fail:
        print((done.stdout + done.stderr)[-6000:], file=sys.stderr)
        raise VljEdgeError(f"{' '.join(command[-6:])} ended with {done.returncode}: see above")
    return done.stdout


def uv() -> str:
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found is None:
        raise VljEdgeError("uv is not installed: pip install uv")
    return found


def say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
