"""Python processes that vlj_edge starts, which import nothing from the current folder."""

from __future__ import annotations

import sys
from pathlib import Path


def python_command(module: str) -> tuple[str, ...]:
    """Return the command line of a process that runs main() of a module of vlj_edge; append arguments to it.

    `python -m` and `python -c` search the current folder first, which may hold anybody's json.py, and Python 3.10 has
    no option to prevent it. So the process first removes that folder from sys.path. PYTHONPATH, virtual environments
    and editable installs work as usual.
    """
    package = str(Path(__file__).parents[1])  # searched last: vlj_edge may not be installed
    program = (
        "import sys; sys.path[:1] = filter(None, sys.path[:1]);"
        f" sys.path.append({package!r}); from {module} import main; main()"
    )
    return (sys.executable, "-c", program)
