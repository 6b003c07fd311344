"""Label banks: labels embedded once with the text encoder, saved, and compared with windows without it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vlj_edge.atomic_write import atomic_write
from vlj_edge.bundle.embedding_space import embedding_space
from vlj_edge.errors import VljEdgeError, WrongCall, WrongText
from vlj_edge.regular_file import check_regular_file
from vlj_edge.text_list import read_texts

from ..model import Model

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class LabelBank:
    """Labels and their embeddings.

    Attributes:
        embeddings: float32 [labels, embedding], rows of unit length.
        space: identifies the weights that made them (vlj_edge.bundle.embedding_space).

    Example:
        >>> import vlj_edge
        >>> with vlj_edge.load() as model:
        ...     bank = vlj_edge.make_bank(model, ["opens the drawer", "closes the door"])
        >>> bank.labels, bank.embeddings.shape
        (('opens the drawer', 'closes the door'), (2, 384))
    """

    labels: tuple[str, ...]
    embeddings: Vectors
    space: str

    def similarities(self, embedding: Vectors) -> Vectors:
        """Return the cosine of each label to an embedding, float32 [labels]."""
        return np.asarray(self.embeddings @ embedding, np.float32)


def read_labels(text: str) -> list[str]:
    """Return labels: one a line if `text` is the path of a file, otherwise `text` itself, separated by commas.

    In a file, blank lines and lines that begin with # are left out.

    Raises:
        VljEdgeError: there are no labels, one is repeated, the file cannot be read, or `text` looks like a path and
            nothing is there.
    """
    return read_texts(text, "label")


def check_labels(labels: Sequence[str]) -> None:
    """Check that there are labels and that none is repeated.

    Raises:
        VljEdgeError: there are none, one is repeated, or they are one string, which would be read letter by letter.
    """
    refuse_string(labels, "labels")
    if not labels:
        raise WrongCall("there are no labels: name them with commas between, or a file with one a line")
    seen: set[str] = set()
    for label in labels:
        if label in seen:
            raise WrongCall(f"the label '{label}' is there twice: name each once")
        seen.add(label)


def refuse_string(texts: Sequence[str], what: str) -> None:
    """Raise VljEdgeError if `texts` is one string where a list of them belongs."""
    if isinstance(texts, str):
        raise WrongCall(f"{what} are one string, '{texts[:60]}': give a list, [...]")


def make_bank(
    model: Model,
    labels: Sequence[str],
    templates: Sequence[str] | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> LabelBank:
    """Embed labels. A label's embedding is the mean over its templates, scaled to unit length.

    Args:
        templates: wordings in which "{}" stands for the label; None: the bundle's.
        progress: called with the number of labels done.

    Raises:
        VljEdgeError: there is no label, two are the same to the text encoder, one is too long, a template lacks "{}",
            or the bundle cannot be used.
    """
    rows = []
    for number, wordings in enumerate(check_wordings(model, labels, templates)):
        mean = np.stack([model.embed_text(wording) for wording in wordings]).mean(0)
        rows.append(mean / max(float(np.linalg.norm(mean)), 1e-6))
        progress(number + 1)
    return LabelBank(tuple(labels), np.stack(rows).astype(np.float32), embedding_space(model.manifest))


def check_wordings(model: Model, labels: Sequence[str], templates: Sequence[str] | None = None) -> list[list[str]]:
    """Return the wordings of each label. No text is embedded, so that what is wrong with one is said at once.

    Raises:
        VljEdgeError: see make_bank().
    """
    check_labels(labels)
    templates = model.manifest.labels.templates if templates is None else tuple(templates)
    for template in templates:
        if "{}" not in template:
            raise WrongCall(f"the template '{template}' has no place for a label: put {{}} where it belongs")
    known, found = dict[bytes, str](), []
    for label in labels:
        wordings = [template.replace("{}", label) for template in templates]
        try:
            ids = [model.chain.text_ids(wording) for wording in wordings]
        except WrongText as error:  # of the label in a template
            raise WrongText(str(error), label) from None
        same = known.setdefault(ids[0], label)
        if same != label:
            problem = f"'{label}' and '{same}' are the same to the text encoder: word one of them differently"
            raise WrongText(problem, label)
        found.append(wordings)
    return found


def save_bank(bank: LabelBank, path: str | Path) -> None:
    """Write a bank atomically as a NumPy archive (.npz): `labels` (JSON in UTF-8), `embeddings`, `space`.

    Raises:
        VljEdgeError: the file cannot be written.
    """
    names = np.frombuffer(json.dumps(bank.labels, ensure_ascii=False).encode(), np.uint8)
    space = np.frombuffer(bank.space.encode(), np.uint8)
    try:
        with atomic_write(Path(path)) as stream:
            np.savez(stream, labels=names, embeddings=bank.embeddings, space=space)
    except OSError as error:
        raise VljEdgeError(f"{path} cannot be written ({error.strerror or error}): name another place") from error


def load_bank(path: str | Path, model: Model) -> LabelBank:
    """Read a bank that save_bank() wrote. Nothing in the file is executed.

    Raises:
        VljEdgeError: there is no such file, it is no bank, or it was made with other weights.
    """
    if not model.manifest.embeds_texts:
        raise WrongCall(
            f"{model.directory} knows its own labels alone, and no bank of others: leave --bank out; vlj-edge classify"
            f" VIDEO --bundle {model.directory} ranks them, and --stream says which is likeliest when"
        )
    check_regular_file(path, "name a bank of labels")
    try:
        with np.load(path, allow_pickle=False) as found:
            labels = json.loads(found["labels"].tobytes())
            bank = LabelBank(tuple(labels), found["embeddings"], found["space"].tobytes().decode())
        valid = all(type(label) is str for label in labels) and bank.embeddings.dtype == np.float32
        if not valid or bank.embeddings.ndim != 2 or len(labels) != len(bank.embeddings) or not labels:
            raise ValueError("labels and embeddings do not match")
    except Exception as error:  # zipfile and numpy let many through
        why = error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())
        if "pickle" in why:  # numpy's advice for a file in another format is to unpickle it
            why = "it is in another format"
        raise VljEdgeError(f"{path} is no bank of labels ({why}): make one with vlj-edge labels --out") from error
    if bank.space != embedding_space(model.manifest) or bank.embeddings.shape[1] != model.manifest.embedding:
        raise VljEdgeError(
            f"{path} was made with other weights than {model.directory} has: name its --bundle, or make it again with"
            " vlj-edge labels"
        )
    return bank
