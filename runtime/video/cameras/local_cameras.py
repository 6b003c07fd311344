"""Cameras that OpenCV reads: webcams (V4L2), a Jetson's CSI cameras, and GStreamer pipelines."""

from __future__ import annotations

import re
from fractions import Fraction

from vlj_edge.errors import WrongCall, without_credentials

from .camera_address import CameraAddress
from .gstreamer import NVIDIA, Elements, csi_pipeline, readable_pipeline

_CAMERA = (
    "check that it is plugged in (ls /dev/video*), that this user is in the group video, and that no other program"
    " uses it"
)
_CSI = "check its cable and sudo systemctl restart nvargus-daemon"
_PIPELINE = "try it with gst-launch-1.0, fakesink in the place of appsink"

_SIZE, _RATE = r"[1-9][0-9]{0,4}x[1-9][0-9]{0,4}", r"[0-9]{1,4}(\.[0-9]{1,6})?|[0-9]{1,9}/[1-9][0-9]{0,8}"
# The pattern of each option, and an example.
_OPTIONS = {
    "size": (_SIZE, "1280x720"),
    "fps": (_RATE, "30"),
    "format": (r"[ -+\--~]{4}", "MJPG"),
    "flip": (r"[0-7]", "2"),
}


def local_camera(text: str, elements: Elements = NVIDIA) -> CameraAddress | None:
    """Return the camera on this machine that a URI names; None if it names none.

    An index, a device or v4l2://DEVICE, csi://SENSOR, or gst:PIPELINE. Options follow a '?' or ',' and are separated by
    '&' or ',': v4l2:///dev/video0?size=1280x720&fps=30&format=MJPG, csi://0,size=1920x1080,fps=30,flip=2.

    Args: elements: of GStreamer, for csi:// and gst:.

    Raises:
        VljEdgeError: it is ill-formed.
    """
    if text.startswith("gst:"):
        shown = without_credentials(text)
        pipeline = readable_pipeline(text.removeprefix("gst:"), shown, elements)
        return CameraAddress(shown, pipeline, backend="GSTREAMER", remedy=_PIPELINE)
    device, *option_parts = re.split(r"[?,]", text, maxsplit=1)
    option_text = option_parts[0] if option_parts else ""
    if device.startswith("csi://"):
        return _csi_camera(text, device.removeprefix("csi://"), option_text, elements)
    plain = device.removeprefix("v4l2://")
    if not re.fullmatch(r"[0-9]{1,9}|/dev/[^/].*", plain) or (option_parts and plain == device and device[0] != "/"):
        if plain != device:
            raise WrongCall(f"{text} names no camera: write v4l2:///dev/video0 for the first")
        return None
    options = _options(text, option_text, "size", "fps", "format")
    settings = dict[str, float | str]()
    if "format" in options:  # set in this order, since available sizes and rates depend on the format
        settings["format"] = options["format"]
    if "size" in options:
        settings["width"], settings["height"] = map(int, options["size"].split("x"))
    if "fps" in options:
        settings["fps"] = float(Fraction(options["fps"]))
    place = int(plain) if plain.isdecimal() else plain
    return CameraAddress(f"camera {plain}", place, backend="V4L2", settings=settings, remedy=_CAMERA)


def _csi_camera(text: str, sensor: str, option_text: str, elements: Elements) -> CameraAddress:
    if not re.fullmatch(r"[0-9]{1,3}", sensor):
        raise WrongCall(f"{text} names no CSI camera: write csi://0 for the first")
    options = _options(text, option_text, "size", "fps", "flip")
    width, height = map(int, options.get("size", "1280x720").split("x"))
    rate = Fraction(options.get("fps", "30")).limit_denominator(1001)
    pipeline = csi_pipeline(int(sensor), width, height, rate, int(options.get("flip", "0")), elements)
    return CameraAddress(f"csi://{sensor}", pipeline, backend="GSTREAMER", remedy=_CSI)


def _options(text: str, option_text: str, *names: str) -> dict[str, str]:
    """Return the options in `name=value&name=value`.

    Raises:
        VljEdgeError: one is unknown, ill-formed or given twice.
    """
    found: dict[str, str] = {}
    for option in re.split("[,&]", option_text) if option_text else ():
        name, _, value = option.partition("=")
        pattern = _OPTIONS[name][0] if name in names and name not in found else r"\Z."
        if not re.fullmatch(pattern, value) or (name == "fps" and not 0 < Fraction(value) <= 1000):
            known = ", ".join(f"{name}={_OPTIONS[name][1]}" for name in names)
            raise WrongCall(f"{text}: '{option}' is not understood: the options are {known}, each once")
        found[name] = value
    return found
