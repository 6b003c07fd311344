"""Texts of a model that was trained to tell some labels apart: the label of the largest logit."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vlj_edge.bundle import LabelHead

from ..engines.base import Engine


def label_logits(engine: Engine, embedding: object) -> npt.NDArray[np.float32]:
    """Return the logits of an embedding, float32 [labels], in one run. `embedding` as for words.decode.decode()."""
    engine.set_input("embedding", embedding)
    engine.run()
    engine.wait()
    logits: npt.NDArray[np.float32] = engine.outputs["logits"][0].astype(np.float32)
    return logits


def softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return probabilities, float32 [labels]."""
    raised = np.exp(logits - logits.max())
    return np.asarray(raised / raised.sum(), np.float32)


def choose_label(logits: npt.NDArray[np.float32], labels: list[str], head: LabelHead, last: str = "") -> str:
    """Return the label of the largest logit; see likeliest().

    Args:
        logits: float32 [labels].
    """
    return likeliest(softmax(logits), labels, head, last)


def likeliest(probabilities: npt.NDArray[np.float32], labels: list[str], head: LabelHead, last: str = "") -> str:
    """Return the most probable label; empty if none of the labels is likely enough.

    The last label stays until another is more probable by `head.lead`, so that two near ones do not take turns.

    Args:
        probabilities: float32 [labels].
        last: the label before, or any other text.
    """
    best = int(probabilities.argmax())
    if last in labels and probabilities[labels.index(last)] > probabilities[best] - head.lead:
        best = labels.index(last)
    return labels[best] if probabilities[best] >= head.none_below else ""
