"""A transformers directory, as far as it can be read without torch: config.json and the settings of its processor."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from vlj_edge.errors import VljEdgeError, WrongCall
from vlj_edge.presets import Preprocess
from vlj_edge.regular_file import MOST_TEXT, check_regular_file

from ..weights.locations import CONFIG_FILE, config_file

# In the order in which they count; the newest versions of transformers write one file for all processors.
_PROCESSOR_FILES = ("preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json")
_Colour: TypeAlias = tuple[float, float, float]
_FILTERS: dict[int, Literal["bilinear", "bicubic"]] = {2: "bilinear", 3: "bicubic"}  # PIL.Image.Resampling
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Checkpoint:
    """A directory as transformers' save_pretrained() writes it, or open_clip, and the content of its configuration."""

    path: Path  # of the configuration: config.json, or open_clip_config.json
    config: Mapping[str, Any]

    @property
    def directory(self) -> Path:
        return self.path.parent

    def part(self, name: str) -> Mapping[str, Any]:
        """Return the configuration of a part ("text_config"); empty where it is left to transformers' defaults."""
        found = self.config.get(name)
        return found if isinstance(found, Mapping) else {}

    def number(self, config: Mapping[str, Any], name: str, default: int) -> int:
        """Return a whole number of a configuration; `default` is that of transformers' class.

        Raises:
            VljEdgeError: it is something else.
        """
        value = config.get(name, default)
        if isinstance(value, list) and len(set(value)) == 1:  # [224, 224]
            value = value[0]
        if type(value) is not int or value < 1:
            raise VljEdgeError(
                f"{self.path} has {name} {str(value)[:40]}, where one number of 1 or more belongs:"
                " only square frames can be exported"
            )
        return value


def read_checkpoint(directory: Path) -> Checkpoint:
    """Read the configuration.

    Raises:
        VljEdgeError: it is not there, or no JSON object.
    """
    path = config_file(directory) or directory / CONFIG_FILE
    return Checkpoint(path, _read_object(path))


def read_own_frames(checkpoint: Checkpoint, frames: int | None, default: int) -> int:
    """Return the frames of a clip for which a video model has positions.

    Args:
        frames: what is asked for; None: nothing.
        default: `num_frames` of transformers' class.

    Raises:
        VljEdgeError: another number is asked for.
    """
    own = checkpoint.number(checkpoint.part("vision_config"), "num_frames", default)
    if frames not in (None, own):
        raise WrongCall(f"{checkpoint.path} has positions for {own} frames, not {frames}: leave --frames out")
    return own


def read_preprocess(
    checkpoint: Checkpoint, side: int, defaults: Mapping[str, Any], fixed: Mapping[str, Any] | None = None
) -> Preprocess:
    """Return what the model's own processor does with a picture.

    Args:
        side: pixels on the side of the model's input, from config.json.
        defaults: of the processor's class: `size`, `crop_size`, `do_center_crop`, `resample`, `image_mean`,
            `image_std`, `do_normalize`, as in its file, which counts where it names them.
        fixed: the same, where the file does not count.

    Raises:
        VljEdgeError: the processor does something that Preprocess cannot express; the message says what.
    """
    path, found = read_processor(checkpoint)
    settings = {
        "do_resize": True,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        **defaults,
        **found,
        **(fixed or {}),
    }
    wrong, factor, resample = None, settings["rescale_factor"], settings["resample"]
    if not settings["do_resize"] or not settings["do_rescale"]:
        wrong = "does not resize or rescale"
    elif not _is_number(factor) or factor <= 0:
        wrong = f"multiplies pixels by {str(factor)[:40]}"
    elif type(resample) is not int or resample not in _FILTERS:
        wrong = f"resizes with filter {str(resample)[:40]}, neither bilinear (2) nor bicubic (3)"
    crops = bool(settings.get("do_center_crop"))
    short, square = _short_side(settings["size"])
    crop = _square_side(settings.get("crop_size")) if crops else short
    if short is None or crop is None or (not crops and not square) or short < crop:
        wrong = "does not make squares"
    elif crop != side:
        wrong = f"makes squares of {crop} pixels, where config.json has {side}"
    if wrong is not None:
        raise VljEdgeError(f"{path}: the processor {wrong}, and this export does not do that: check the directory")
    assert short is not None
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if settings["do_normalize"]:
        mean, std = read_colours(path, settings, "image_mean", "image_std")
    unit = 255 * factor  # (x * factor - mean) / std, with the factor moved into mean and std
    return Preprocess(
        short_side=short,
        crop=side,
        mean=(mean[0] / unit, mean[1] / unit, mean[2] / unit),
        std=(std[0] / unit, std[1] / unit, std[2] / unit),
        keep_aspect=not square,
        resample=_FILTERS[resample],
        corner="floor",
    )


def read_colours(path: Path, settings: Mapping[str, Any], mean: str, std: str) -> tuple[_Colour, _Colour]:
    """Return the mean and the standard deviation of each colour, which `settings` of a file have by these names.

    Raises:
        VljEdgeError: they are not three numbers each, or a deviation is not above 0.
    """
    found = []
    for name in (mean, std):
        values = settings[name]
        if not isinstance(values, (list, tuple)) or len(values) != 3 or not all(map(_is_number, values)):
            raise VljEdgeError(f"{path}: {name} is not three numbers: download it again")
        found.append((float(values[0]), float(values[1]), float(values[2])))
    if min(found[1]) <= 0:
        raise VljEdgeError(f"{path}: {std} has a number that is not above 0: download it again")
    return found[0], found[1]


def read_processor(checkpoint: Checkpoint) -> tuple[Path, Mapping[str, Any]]:
    """Return the file with the processor's settings, and these.

    Raises:
        VljEdgeError: there is none, so that nobody knows how the model's pictures are resized.
    """
    directory = checkpoint.directory
    for name in _PROCESSOR_FILES:
        path = directory / name
        if path.is_file():
            found = _read_object(path)
            for part in ("image_processor", "video_processor"):
                if isinstance(found.get(part), Mapping):
                    return path, found[part]
            return path, found
    raise VljEdgeError(
        f"{directory} has no {_PROCESSOR_FILES[0]}, which says how pictures are made for the model: download it, too"
    )


def _short_side(size: Any) -> tuple[int | None, bool]:
    """Return the short side, and whether the picture is resized to a square of it."""
    if type(size) is int:  # as older files have it, where the short side gets this length
        return size, False
    if isinstance(size, Mapping) and type(size.get("shortest_edge")) is int and not size.get("longest_edge"):
        return size["shortest_edge"], False
    return _square_side(size), True


def _square_side(size: Any) -> int | None:
    if isinstance(size, Mapping) and size.get("height") == size.get("width"):
        size = size.get("height")
    return size if type(size) is int else None


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _read_object(path: Path) -> Mapping[str, Any]:
    check_regular_file(path, "name a transformers directory", MOST_TEXT)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise VljEdgeError(f"{path} cannot be read as JSON ({error}): download it again") from error
    if not isinstance(content, dict):
        raise VljEdgeError(f"{path} is not a JSON object: download it again")
    return content
