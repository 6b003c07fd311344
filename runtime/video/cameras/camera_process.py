"""The process that reads one source, live or of a stranger: main() with the arguments MEMORY PIPE, REQUEST on stdin

MEMORY and PIPE are file descriptors, see ReaderOutput. The request is JSON on stdin, because every user of the machine
can read the arguments of a process. It is one line; after it, a file's reader gets a byte for every frame.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from typing import Any

from vlj_edge.child import limit_this_process
from vlj_edge.errors import VljEdgeError

from ..network.address import network_address
from .reader_output import ReaderOutput


def main() -> None:
    """Read until the source or the parent process ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches this process too; the parent ends it
    memory, pipe = int(sys.argv[1]), int(sys.argv[2])
    request = json.loads(sys.stdin.buffer.readline())
    limit_this_process(**request["limits"])
    threading.Thread(target=_exit_with_parent, args=(request["parent"],), daemon=True).start()
    os.set_blocking(pipe, False)
    output = ReaderOutput(memory, pipe, request["every"])
    try:
        last = _read(request, output)
    except (VljEdgeError, OSError, MemoryError) as error:
        last = f"failed {VljEdgeError(getattr(error, 'reason', None) or str(error) or 'no memory is left')}"
    os.set_blocking(pipe, True)
    output.send(last)


def _read(request: dict[str, Any], output: ReaderOutput) -> str:
    """Read the source to its end, and return the last line to send."""
    # imported here: each reader needs other libraries
    place = request["place"]
    if request["reader"] == "file":
        from ..recordings.untrusted import read_untrusted

        return read_untrusted(place, request["shown"], output, sys.stdin.buffer)
    if request["reader"] == "opencv":
        from .opencv_reader import read_opencv

        read_opencv(place, request["backend"], request["settings"], request["shown"], output)
        return "end"
    from ..network.stream_reader import read_http, read_stream

    address = network_address(place)
    if request["reader"] == "http":
        read_http(address, output, request["polled"], request["decoder"])
    else:
        read_stream(address, output, request["decoder"])
    return "end"


def _exit_with_parent(parent: int) -> None:
    """Exit when the parent process is gone.

    (Linux's signal for that, PR_SET_PDEATHSIG, is sent when the thread that started this process ends; a source may
    outlive that thread.)
    """
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
