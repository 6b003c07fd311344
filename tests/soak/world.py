"""What surrounds the service: cameras, a recording, a broker, a webhook's server, and its configuration."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import numpy as np

from tests.runtime import tiny_bundle
from tests.runtime.sinks.broker import Broker
from tests.runtime.video.test_streams import has_rtsp_server
from tests.waiting import free_port

RTSP_SERVER = Path(__file__).parents[1] / "runtime" / "video" / "rtsp_server.py"
CHANGING = ("door", "yard", "film")  # the others always show the same
FILM_SECONDS = 2.0  # of each colour


class Camera:
    """A server of pictures in a process of its own, which says when it is ready. "PORT" in its command is replaced."""

    def __init__(self, *command: str) -> None:
        self.port = free_port()
        self._command = [word.replace("PORT", str(self.port)) for word in command]
        self.start()

    def start(self) -> None:
        """Start it, at the same port as before."""
        self.process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.process.stdout is not None and self.process.stdout.readline() == "ready\n"

    def kill(self) -> None:
        """End it at once, with its connections."""
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)


class Hook:
    """The webhook's server. `mode` says what it does: answer, fail, drip or be silent.

    Attributes:
        got: sources, numbers and clocks of the texts that it answered with 2xx.
    """

    def __init__(self) -> None:
        self.mode, self.got = "answer", list[tuple[str, int, float]]()
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if hook.mode == "answer":
                    hook.got.append((event["source"], event["number"], event["clock"]))
                while hook.mode in ("drip", "silent"):
                    time.sleep(0.2)
                    if hook.mode == "drip":
                        self.wfile.write(b"H")
                self.send_response(204 if hook.mode == "answer" else 500)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:  # a client that has gone
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        """Answer what waits, and end."""
        self.mode = "answer"
        self._server.shutdown()
        self._server.server_close()


class World:
    """All of it, in a folder. A context manager.

    Attributes:
        live: names of the sources that are cameras.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._cleanup = folder, ExitStack()
        self.port = free_port()
        self.config, self.log = folder / "serve.toml", folder / "texts.jsonl"
        self.film, self.whole_film = folder / "film.ts", _film(folder / "whole.ts")
        self.film.write_bytes(self.whole_film)

    def __enter__(self) -> World:
        with ExitStack() as started:
            self.hook = Hook()
            started.callback(self.hook.close)
            self.broker = Broker(self.folder)
            started.callback(self.broker.kill)
            self.door = Camera(sys.executable, "-m", "tests.soak.camera", "PORT")
            started.callback(self.door.kill)
            red = ("PORT", "0xffff0000")
            self.hall = Camera("/usr/bin/python3", str(RTSP_SERVER), *red) if has_rtsp_server() else None
            if self.hall is not None:
                started.callback(self.hall.kill)
            self._cleanup = started.pop_all()
        self.live = ["door", "yard", *(["hall"] if self.hall else [])]
        bundle = tiny_bundle.build(self.folder / "bundle")
        self._options = (
            f'bundle = "{bundle}"\nport = {self.port}\nlog = "{self.log}"\nstore = "{self.folder / "store"}"\n'
            f'mqtt = "mqtt://127.0.0.1:{self.broker.port}/soak"\nwebhook = "{self.hook.url}"\n'
            f'profile = "{self.folder / "profile.json"}"\n'
        )
        self.write_config()
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def write_config(self, more: str = "") -> None:
        """Write serve.toml: the sources that are always there, and then `more`."""
        camera = f"http://127.0.0.1:{self.door.port}"
        sources = {"door": f"{camera}/video", "yard": f"{camera}/picture", "film": str(self.film)}
        if self.hall is not None:
            sources["hall"] = f"rtsp://127.0.0.1:{self.hall.port}/camera"
        tables = [f'[[source]]\nname = "{name}"\nuri = "{uri}"\n' for name, uri in sources.items()]
        tables[2] += "loop = true\n"
        new = self.config.with_suffix(".new")
        new.write_text(self._options + "".join(tables) + more)
        new.replace(self.config)  # the service may be told to read it at any moment


def _film(path: Path) -> bytes:
    """Return a recording of which any part can be read: MPEG-TS with a key frame every second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg2video", rate=25, options={"g": "25"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for colour in (tiny_bundle.RED, tiny_bundle.GREEN, tiny_bundle.BLUE, tiny_bundle.GREEN):
            for _ in range(round(25 * FILM_SECONDS)):
                frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), colour, np.uint8), format="bgr24")
                container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path.read_bytes()
