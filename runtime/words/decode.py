"""Make a text from an embedding: by greedy decoding, or by the nearest caption of a bank."""

from __future__ import annotations

from pathlib import Path

from vlj_edge.bundle import Manifest, verify_file
from vlj_edge.errors import VljEdgeError

from ..engines.base import Engine


def decode(engine: Engine, embedding: object, end: int | None, capacity: int) -> tuple[list[int], int]:
    """Decode an embedding greedily. Return the token ids of the text and the number of runs of the engine.

    Position 0 of the decoder's sequence is the embedding, projected to the decoder's width; its output is the first
    token. The caches are not cleared between texts: the engine masks all positions beyond the current one.

    Args:
        embedding: float32 [embedding], unit length; or a result of Engine.keep_output.
        end: the token id that ends a text. If it is None or does not occur, the text is as long as the key-value cache.
        capacity: positions of that cache.
    """
    token, position = engine.inputs["token"], engine.inputs["position"]
    chosen = engine.outputs["next_token"]
    engine.set_input("embedding", embedding)
    token[0, 0] = 0  # ignored at position 0
    ids: list[int] = []
    for step in range(capacity):
        position[0] = step
        engine.run()
        engine.wait()
        if chosen[0, 0] == end:
            return ids, step + 1
        ids.append(int(chosen[0, 0]))
        token[0, 0] = chosen[0, 0]
    return ids, capacity


def read_captions(directory: Path, manifest: Manifest, name: str) -> list[str]:
    """Read the captions of a bundle whose decoder is a caption bank. Line i is caption i.

    Raises:
        VljEdgeError: the file does not match the manifest, or is not UTF-8.
    """
    path = verify_file(directory, name, manifest)
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise VljEdgeError(f"{path} is not UTF-8 ({error.reason}): export the bundle again") from error


def nearest_caption(engine: Engine, embedding: object, captions: list[str]) -> str:
    """Return the caption that a caption bank engine chooses, in one run. `embedding` as for decode().

    Raises:
        VljEdgeError: the index that the engine returns is not in the file.
    """
    engine.set_input("embedding", embedding)
    engine.run()
    engine.wait()
    number = int(engine.outputs["caption"][0, 0])
    if not 0 <= number < len(captions):
        raise VljEdgeError(f"the decoder chose caption {number} of {len(captions)}: export the bundle again")
    return captions[number]
