"""GStreamer pipelines, as text, that give BGR pictures to OpenCV."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from vlj_edge.errors import WrongCall

_BGR = "videoconvert ! video/x-raw,format=BGR"
_NEWEST = {"drop": "true", "max-buffers": "1"}  # appsink keeps only the newest picture
# Sinks that show or discard pictures, at the end of a copied pipeline: appsink replaces them.
_SHOWING = (
    r"auto(video)?sink|xvimagesink|ximagesink|gl(image)?sink|waylandsink|kmssink|fbdevsink|nveglglessink|nv3dsink"
    r"|nvoverlaysink|nvdrmvideosink|fake(video)?sink|fpsdisplaysink|nvegltransform"
)
_QUOTED = r'"(?:\\.|[^"\\])*"|' + r"'(?:\\.|[^'\\])*'"


@dataclass(frozen=True)
class Elements:
    """GStreamer elements for one kind of machine; the defaults are NVIDIA's.

    Attributes:
        camera: source element of CSI camera {sensor}.
        memory: memory type of its pictures, as caps name it.
        converter: element that copies them to the CPU's memory and rotates or mirrors them by {flip}.
    """

    camera: str = "nvarguscamerasrc sensor-id={sensor}"
    memory: str = "(memory:NVMM)"
    converter: str = "nvvidconv flip-method={flip}"


NVIDIA = Elements()


def csi_pipeline(sensor: int, width: int, height: int, rate: Fraction, flip: int, elements: Elements) -> str:
    """Return the pipeline of a CSI camera: size in pixels, frames a second, and nvvidconv's flip-method."""
    caps = f"video/x-raw{elements.memory},width={width},height={height},framerate={rate.numerator}/{rate.denominator}"
    converter = elements.converter.format(flip=flip)
    return (
        f"{elements.camera.format(sensor=sensor)} ! {caps} ! {converter} ! video/x-raw,format=BGRx !"
        f" {_BGR} ! {_appsink(' sync=false')}"
    )


def readable_pipeline(pipeline: str, shown: str, elements: Elements = NVIDIA) -> str:
    """Complete a pipeline so that OpenCV gets BGR pictures from it, always the newest.

    It may be a pasted command: with `gst-launch-1.0`, a shell's quotes and backslashes, with or without appsink, with a
    window sink, with pictures in NVIDIA's memory.

    Raises:
        VljEdgeError: it is empty, a quote is not closed, or its end gives no pictures.
    """
    text = re.sub(r"\\\r?\n", " ", pipeline).strip()
    text = re.sub(r"^(\S*/)?gst-launch-1\.0(\s+-\S+)*\s+", "", text).replace(r"\(", "(").replace(r"\)", ")")
    parts = [_unquoted(part.strip()) for part in _split(text, shown)]
    if parts and not parts[-1]:  # it ends in '!'
        del parts[-1]
    if not parts or not all(parts):
        raise WrongCall(f"{shown} is no pipeline: write gst:SOURCE ! ELEMENT ! ... as for gst-launch-1.0")
    at = next((i for i, part in enumerate(parts) if re.match(r"appsink\b", part)), None)
    if at is None:
        while parts and re.match(rf"({_SHOWING})\b", parts[-1]):
            del parts[-1]
        at = len(parts)
        parts.append("appsink sync=false")
    last = _first_word(parts[at - 1]) if at else ""
    if at == 0 or re.search(r"sink\d?$", last):
        raise WrongCall(f"{shown} gives no pictures before {last or 'its end'}: end it in '! {_BGR} ! appsink'")
    return " ! ".join([*parts[:at], *_to_bgr(parts[at - 1], elements), _appsink(parts[at][7:]), *parts[at + 1 :]])


def _split(text: str, shown: str) -> list[str]:
    """Split at every '!' that is not in quotes."""
    parts, end = [""], 0
    for found in re.finditer(rf"{_QUOTED}|\\.|[^\"'\\!]+|!", text):
        if found.start() != end:
            break
        end = found.end()
        if found[0] == "!":
            parts.append("")
        else:
            parts[-1] += found[0]
    if end != len(text):
        raise WrongCall(f"{shown} has a quote that is not closed: close it")
    return parts


def _unquoted(part: str) -> str:
    """Remove the quotes that a shell would have removed: GStreamer waits for ever if they are around caps."""
    return part[1:-1].strip() if re.fullmatch(_QUOTED, part) else part


def _to_bgr(part: str, elements: Elements) -> list[str]:
    """Return the elements that convert the pictures of a part of a pipeline to BGR in the CPU's memory."""
    if "memory:NVMM" in part or _first_word(part).startswith("nv"):
        return [elements.converter.format(flip=0), "video/x-raw,format=BGRx", _BGR]
    is_bgr = re.match(r"video/x-raw\b", part) and re.search(r"format\s*=\s*(\(string\)\s*)?\"?BGR\"?\s*(,|$)", part)
    return [] if is_bgr else [_BGR]


def _appsink(properties: str) -> str:
    """Return an appsink with these properties and the defaults for missing ones."""
    lacking = [f"{name}={value}" for name, value in _NEWEST.items() if not re.search(rf"\b{name}\s*=", properties)]
    return " ".join(["appsink", *lacking]) + properties


def _first_word(part: str) -> str:
    return part.split(maxsplit=1)[0] if part else ""
