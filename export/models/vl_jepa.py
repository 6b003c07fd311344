"""VL-JEPA: its parts as one module."""

from __future__ import annotations

from torch import nn

from vlj_edge.presets import Preset

from .decoder import Decoder
from .predictor import Predictor
from .stem import STRIDE
from .vision_encoder import VisionEncoder


class VLJepa(nn.Module):
    """All parts but the backbone of the text encoder, which is a module of transformers.

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
    """Return the number of tokens that the vision encoder makes of a clip."""
    side = preset.preprocess.crop // (STRIDE if preset.vision.stem else 1) // preset.vision.patch
    return max(preset.clip.frames // preset.vision.tubelet, 1) * side * side  # an image is one tubelet
