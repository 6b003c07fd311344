"""Python processes that vlj_edge starts: they import nothing from the current folder."""

from __future__ import annotations

import sys
from pathlib import Path


def python_command(module: str) -> tuple[str, ...]:
    """Return the command line of a process that runs main() of a module of vlj_edge; arguments may follow it.

    `python -m` and `python -c` look for modules in the current folder first, where a json.py may lie that is anybody's,
    and Python 3.10 has no option against it. So the process begins by forgetting that folder. PYTHONPATH, virtual
    environments and editable installs count as ever.
    """
    package = str(Path(__file__).parents[1])  # last: found where this process found vlj_edge, even if not installed
    program = (
        "import sys; sys.path[:1] = filter(None, sys.path[:1]);"
        f" sys.path.append({package!r}); from {module} import main; main()"
    )
    return (sys.executable, "-c", program)
