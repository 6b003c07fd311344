"""Keeps libraries from sending usage data: ONNX Runtime (to Microsoft), OpenVINO (to Google Analytics), Hugging Face.

Importing vlj_edge sets the variables below, before any of these libraries is imported; child processes inherit them.
What a user has set is left as it is, so ORT_DISABLE_TELEMETRY=0 lets ONNX Runtime send.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType

from .errors import require

_ON = ("1", "true", "yes", "on")


def opt_out() -> None:
    """Set the libraries' environment variables against telemetry that are not set."""
    if not os.environ.get("ORT_DISABLE_TELEMETRY"):
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    if not any(os.environ.get(name) for name in ("HF_HUB_DISABLE_TELEMETRY", "DISABLE_TELEMETRY", "DO_NOT_TRACK")):
        os.environ["HF_HUB_DISABLE_TELEMETRY"] = os.environ["DO_NOT_TRACK"] = "1"


def import_onnxruntime() -> ModuleType:
    """Import and return onnxruntime, with its telemetry off, even if it was imported before vlj_edge.

    Raises:
        VljEdgeError: it is not installed, or cannot be imported.
    """
    opt_out()
    onnxruntime = require("onnxruntime", "cpu")
    if os.environ["ORT_DISABLE_TELEMETRY"].lower() in _ON:
        onnxruntime.disable_telemetry_events()
    return onnxruntime


def import_openvino() -> ModuleType:
    """Import and return openvino without openvino_telemetry, which it needs only to send.

    OpenVINO has no variable for this, and its opt-out is a file in the user's home. Where that file says that the user
    has opted in, openvino_telemetry is left alone.

    Raises:
        VljEdgeError: openvino is not installed, or cannot be imported.
    """
    if "openvino" in sys.modules or _opted_in_to_openvino():
        return require("openvino", "openvino")
    name = "openvino_telemetry"
    before = sys.modules.get(name)
    sys.modules[name] = None  # type: ignore[assignment]  # makes its import fail, so that openvino uses a stub
    try:
        return require("openvino", "openvino")
    finally:
        sys.modules.pop(name, None)
        if before is not None:
            sys.modules[name] = before


def _opted_in_to_openvino() -> bool:
    try:
        return (Path.home() / "intel" / "openvino_telemetry").read_text().strip() == "1"  # by opt_in_out --opt_in
    except (OSError, RuntimeError, ValueError):  # no such file, no home, or not text
        return False
