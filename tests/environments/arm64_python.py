"""Python 3.10 for the emulated aarch64 machine, as JetPack 6 has it: from the sources that Ubuntu 22.04 builds it from.

Neither Debian 12 nor PyPI has it for aarch64, so the machine's own gcc compiles it, emulated, which is slow, once.
"""

from __future__ import annotations

import hashlib
import os
import urllib.request
from collections.abc import Callable
from pathlib import Path

from vlj_edge import VljEdgeError

ADDRESS = "http://archive.ubuntu.com/ubuntu/pool/main/p/python3.10/python3.10_3.10.12.orig.tar.xz"
SHA256 = "afb74bf19130e7a47d10312c8f5e784f24e0527981eab68e20546cfb865830b8"  # of jammy-updates' Sources
# What compiles it, and the libraries of the modules that this project and its packages import.
_LIBRARIES = ("libbz2-dev", "libffi-dev", "libsqlite3-dev", "libssl-dev", "zlib1g-dev")
PACKAGES = (
    "gcc",
    "libc6-dev",
    "make",
    "xz-utils",
    "libffi-dev",
    "libsqlite3-dev",
    "libssl-dev",
    "zlib1g-dev",
    "libbz2-dev",
)
PYTHON = "/python3.10/python"
_BUILD = """set -e
[ -e /usr/bin/awk ] || ln -s mawk /usr/bin/awk
cd /python3.10
tar -xJf python.tar.xz --strip-components 1 --no-same-owner
./configure -q --without-ensurepip --disable-test-modules OPT='-O1 -DNDEBUG' >configure.log 2>&1
make -s -j{jobs} >make.log 2>&1
./python -c 'import bz2, ctypes, hashlib, sqlite3, ssl, zlib'
"""


def build_python(userland: Path, run: Callable[..., str], say: Callable[[str], None]) -> None:
    """Compile it in the userland, unless a run before did.

    Args:
        run: runs a command there.
        say: tells what takes so long.

    Raises:
        VljEdgeError: the sources are not there, are other ones, or do not compile.
    """
    directory = userland / PYTHON[1:]
    done = directory.with_name("done")
    if done.exists():
        return
    say("Python 3.10 is compiled")
    directory.parent.mkdir(exist_ok=True)
    try:
        with urllib.request.urlopen(ADDRESS, timeout=60) as answer:
            source: bytes = answer.read()
    except OSError as error:
        raise VljEdgeError(f"{ADDRESS} cannot be fetched ({error}): try again later") from None
    if hashlib.sha256(source).hexdigest() != SHA256:
        raise VljEdgeError(f"{ADDRESS} has another SHA-256 than {SHA256}: look why")
    directory.with_name("python.tar.xz").write_bytes(source)
    run("sh", "-c", _BUILD.format(jobs=os.cpu_count()))
    done.touch()
