"""Texts passed to a command that speaks them."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from contextlib import suppress

from vlj_edge.errors import VljEdgeError, WrongCall

from .alert_event import AlertEvent
from .base import AnyEvent
from .console import one_line

SPEAKING_SECONDS = 30.0


class Speech:
    """Runs a command for each text, without a shell.

    The command gets the text on stdin, and in place of an argument `{}`. write() returns when it ends. In a queue of
    capacity 1 the newest text waits for the one that is being spoken, and older ones are dropped.

    Args:
        command: split as a shell would.
        timeout: seconds after which a command that still runs is killed.

    Raises:
        VljEdgeError: the command is not installed, or its quotes do not match.
    """

    def __init__(self, command: str, timeout: float = SPEAKING_SECONDS) -> None:
        try:
            self._command = shlex.split(command)
        except ValueError as error:
            raise WrongCall(f"the command {command} cannot be read ({error}): check its quotes") from None
        if not self._command or shutil.which(self._command[0]) is None:
            raise VljEdgeError(f"the command '{command}' is not there: install it, or give another, such as espeak-ng")
        self._timeout = timeout
        self._running: subprocess.Popen[bytes] | None = None
        self._interrupted = False

    def write(self, event: AnyEvent) -> None:
        """See Sink.

        Raises:
            VljEdgeError: the command cannot be run, failed, or took too long.
        """
        if isinstance(event, AlertEvent):
            said = event.sentence if event.kind == "start" else ""
        else:
            said = event.narration.text
        text = one_line(said.replace("\0", " "))
        if not text:
            return
        argument = f" {text}" if text.startswith("-") else text  # so that it is not taken for an option
        name = self._command[0]
        try:
            running = subprocess.Popen(
                [argument if part == "{}" else part for part in self._command],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # so that its children can be killed with it
            )
        except OSError as error:
            raise VljEdgeError(f"{name} cannot be run ({error.strerror or error}): check the command") from error
        self._running = running
        try:
            running.communicate(text.encode("utf-8", "replace"), timeout=self._timeout)
        except subprocess.TimeoutExpired:
            raise VljEdgeError(
                f"{name} had not spoken after {self._timeout:g} s and was killed: check the command"
            ) from None
        finally:
            self._kill()
            running.wait()
            if running.stdin is not None:
                with suppress(OSError):
                    running.stdin.close()
            self._running = None
        if running.returncode and not self._interrupted:
            raise VljEdgeError(f"{name} failed (exit code {running.returncode}): run it by hand to see why")

    def interrupt(self) -> None:
        """End what is being spoken, which is no failure. Callable from any thread."""
        self._interrupted = True
        self._kill()

    def _kill(self) -> None:
        running = self._running
        if running is not None and running.poll() is None:
            with suppress(OSError):
                os.killpg(running.pid, signal.SIGKILL)

    def close(self) -> None:
        """See Sink."""
        self.interrupt()
