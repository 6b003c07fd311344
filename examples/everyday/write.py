"""Write the bank of everyday sentences of `vlj-edge export --captions everyday`, from the templates of grammar.txt.

python examples/everyday/write.py
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path

from vlj_edge.text_list import EVERYDAY

GRAMMAR = Path(__file__).with_name("grammar.txt")


def sentences(grammar: str) -> list[str]:
    """Return each sentence of the templates once, in their order: one template a line, {a|b} stands for a and for b."""
    templates = [line for line in grammar.splitlines() if line and not line.startswith("#")]
    return list(dict.fromkeys(sentence for template in templates for sentence in _expanded(template)))


def _expanded(template: str) -> list[str]:
    parts = [part.split("|") for part in re.split(r"[{}]", template)]
    return [" ".join("".join(chosen).split()) for chosen in itertools.product(*parts)]


if __name__ == "__main__":
    EVERYDAY.parent.mkdir(exist_ok=True)
    EVERYDAY.write_text("\n".join(sentences(GRAMMAR.read_text(encoding="ascii"))) + "\n", encoding="ascii")
