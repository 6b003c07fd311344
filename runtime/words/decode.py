"""From an embedding to a text: the tokens of a language model, greedily, or the nearest of a bank of captions."""

from __future__ import annotations

from pathlib import Path

from vlj_edge.bundle import Manifest, verify_file
from vlj_edge.errors import VljEdgeError

from ..engines.base import Engine


def decode(engine: Engine, embedding: object, end: int | None, capacity: int) -> tuple[list[int], int]:
    """Token ids of the text that the decoder engine makes of an embedding, and how often the engine ran for it.

    Position 0 of the decoder's sequence is the prefix that it makes of the embedding; the choice made there is the
    first token. The caches are not cleared between texts: the engine masks whatever lies beyond the position.

    Args:
        embedding: float32 [embedding], unit length; or the same, kept by the engine that made it (Engine.keep_output).
        end: the id that ends a text and is not part of it; without it, or if it does not come, the text is as long as
            the key-value cache.
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
    """The texts of a bundle whose decoder chooses among captions; line i is caption i.

    Raises:
        VljEdgeError: the file is not the one that was sealed, or not text.
    """
    path = verify_file(directory, name, manifest)
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise VljEdgeError(f"{path} is not UTF-8 ({error.reason}): export the bundle again") from error


def nearest_caption(engine: Engine, embedding: object, captions: list[str]) -> str:
    """The caption that a decoder engine with a bank chooses. One run of the engine. `embedding` as for decode().

    Raises:
        VljEdgeError: the engine names a caption that the file does not have.
    """
    engine.set_input("embedding", embedding)
    engine.run()
    engine.wait()
    number = int(engine.outputs["caption"][0, 0])
    if not 0 <= number < len(captions):
        raise VljEdgeError(f"the decoder chose caption {number} of {len(captions)}: export the bundle again")
    return captions[number]
