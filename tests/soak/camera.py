"""A network camera in a process of its own, so that it can be killed and stopped: python -m tests.soak.camera PORT

/video is an MJPEG stream and /picture a JPEG. Both change their colour every few seconds. After SIGUSR1, and until
SIGUSR2, the pictures are damaged.
"""

from __future__ import annotations

import io
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import PIL.Image

COLOURS = ("red", "lime", "blue")
SECONDS_OF_EACH, RATE = 2.5, 8
damaged = False


def jpeg(colour: str) -> bytes:
    """Return a plain picture."""
    data = io.BytesIO()
    PIL.Image.new("RGB", (64, 48), colour).save(data, "JPEG")
    return data.getvalue()


PICTURES = [jpeg(colour) for colour in COLOURS]


def picture() -> bytes:
    """Return the JPEG of now."""
    data = PICTURES[int(time.monotonic() / SECONDS_OF_EACH) % len(PICTURES)]
    return data[: len(data) // 2] if damaged else data


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        if self.path == "/picture":
            self.send_header("Content-Type", "image/jpeg")
            self.end_headers()
            self.wfile.write(picture())
            return
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=b")
        self.end_headers()
        while True:
            data = picture()
            head = f"--b\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n".encode()
            self.wfile.write(head + data + b"\r\n")
            time.sleep(1 / RATE)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:  # a client that has gone
        pass


def damage(number: int, _: object) -> None:
    """Handle SIGUSR1 and SIGUSR2."""
    global damaged
    damaged = number == signal.SIGUSR1


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, damage)
    signal.signal(signal.SIGUSR2, damage)
    server = Server(("127.0.0.1", int(sys.argv[1])), Handler)
    print("ready", flush=True)
    server.serve_forever()
