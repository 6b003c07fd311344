"""VL-JEPA: the four parts and how they join."""

from __future__ import annotations

from torch import nn

from vlj_edge.presets import Preset

from .decoder import Decoder
from .predictor import Predictor
from .stem import STRIDE
from .vision_encoder import VisionEncoder


class VLJepa(nn.Module):
    """All that is trained here or mapped from checkpoints; the text encoder's backbone stays in transformers.

    State dict prefixes: `vision_encoder.`, `predictor.`, `decoder.`, `text_projection.`.
    """

    def __init__(self, preset: Preset) -> None:
        super().__init__()
        self.preset = preset
        self.vision_encoder = VisionEncoder(preset.vision, preset.clip, preset.preprocess)
        self.predictor = Predictor(preset, visual_tokens(preset))
        self.decoder = Decoder(preset)
        self.text_projection = nn.Linear(preset.text.width, preset.embedding)


def visual_tokens(preset: Preset) -> int:
    """How many tokens the vision encoder makes of a clip."""
    side = preset.preprocess.crop // (STRIDE if preset.vision.stem else 1) // preset.vision.patch
    return max(preset.clip.frames // preset.vision.tubelet, 1) * side * side  # an image is one tubelet
