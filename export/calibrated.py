"""Files beside the weights that belong to them: gate settings, label settings, axes of short embeddings, queries."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TypeVar

from vlj_edge.bundle import GateSettings, KnownSettings, LabelSettings, nano_bundle, read_manifest
from vlj_edge.errors import VljEdgeError
from vlj_edge.schema import parse

from .weights.locations import shipped_weights

GATES_FILE = "gates.json"
LABELS_FILE = "labels.json"
QUERIES_FILE = "queries.json"  # the queries of the training, a list
PREFIX_FILE = "prefix.npy"  # axes, int8 or float [embedding, axes], on which short embeddings keep the most

T = TypeVar("T")


def has_gates(weights: Path | None) -> bool:
    """Return whether there are calibrated gate settings."""
    return weights is not None and (weights / GATES_FILE).is_file()


def read_gates(weights: Path | None) -> GateSettings:
    """Return the calibrated gate settings, or the defaults where there are none."""
    return _read_settings(weights, GATES_FILE, GateSettings) or GateSettings()


def read_labels(weights: Path | None) -> LabelSettings:
    """Return the calibrated label settings, or the defaults where there are none."""
    return _read_settings(weights, LABELS_FILE, LabelSettings) or LabelSettings()


def read_queries(weights: Path | None) -> tuple[str, ...]:
    """Return the queries that the weights were trained on; empty where they are not known."""
    return _read_settings(weights, QUERIES_FILE, tuple[str, ...]) or ()


def copy_prefix(weights: Path | None, directory: Path) -> str | None:
    """Copy the axes of short embeddings into `directory`. Returns the file's name, or None where there is no file."""
    if weights is None:
        return None
    # The package ships nano's once, in the bundle.
    path = (nano_bundle() if weights == shipped_weights() else weights) / PREFIX_FILE
    if not path.is_file():
        return None
    shutil.copyfile(path, directory / PREFIX_FILE)
    return PREFIX_FILE


def copy_known(weights: Path | None, directory: Path) -> KnownSettings | None:
    """Copy what nano's embeddings look like on data that it knows into `directory`. None for other weights."""
    known = read_manifest(nano_bundle()).known if weights == shipped_weights() else None
    if known is not None:
        shutil.copyfile(nano_bundle() / known.file, directory / known.file)
    return known


def _read_settings(weights: Path | None, name: str, kind: type[T]) -> T | None:
    if weights is None or not (weights / name).is_file():
        return None
    path = weights / name
    try:
        return parse(kind, json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, RecursionError) as error:
        raise VljEdgeError(f"{path} cannot be read ({error}): remove it, or calibrate again") from error
