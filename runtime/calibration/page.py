"""Show a proposal as an HTML page."""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib.resources import files

from .proposal import Proposal


def page(proposal: Proposal, source: str) -> str:
    """Return one self-contained HTML page, which loads nothing from elsewhere.

    Args:
        source: its name, without credentials.
    """
    data = proposal.as_dict() | {
        "source": source,
        "seconds": proposal.seconds,
        "gates": asdict(proposal.gates),
        "novel_below": proposal.novel_below,
    }
    template = (files("vlj_edge") / "pages" / "calibrate.html").read_text(encoding="utf-8")
    # "</script>" in a name would end the data's element
    return template.replace("{{DATA}}", json.dumps(data).replace("<", "\\u003c"))
