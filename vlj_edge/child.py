"""Python processes that vlj_edge starts, which import nothing from the current folder."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path


def python_command(module: str) -> tuple[str, ...]:
    """Return the command line of a process that runs main() of a module of vlj_edge; append arguments to it.

    `python -m` and `python -c` search the current folder first, which may hold anybody's json.py. From Python 3.11 on,
    the option -P prevents it (3.13 imports modules even before the program runs); in 3.10 the process first removes
    that folder from sys.path. PYTHONPATH, virtual environments and editable installs work as usual.
    """
    package = str(Path(__file__).parents[1])  # searched last: vlj_edge may not be installed
    program = (
        "import sys; sys.path[:1] = filter(None, sys.path[:1]);"
        f" sys.path.append({package!r}); from {module} import main; main()"
    )
    safe = ("-P",) if sys.version_info >= (3, 11) else ()
    return (sys.executable, *safe, "-c", program)


def limit_this_process(memory: int, seconds: int | None = None) -> None:
    """Limit what a process that decodes bytes from outside may take, and let it be the first to go for lack of memory.

    Beyond the limits, an allocation fails, and the system ends the process.

    Args:
        memory: bytes that it may allocate. (Not its address space, of which drivers reserve much and use little.)
        seconds: of processor time; None: any, for what runs for ever.
    """
    with suppress(OSError):  # not Linux, or a sandbox
        Path("/proc/self/oom_score_adj").write_text("900")
    try:
        import resource
    except ImportError:  # not a Unix
        return
    limits = [(resource.RLIMIT_DATA, memory), (resource.RLIMIT_CORE, 0)]
    if seconds is not None:
        limits.append((resource.RLIMIT_CPU, seconds))
    for kind, limit in limits:
        _, hard = resource.getrlimit(kind)
        most = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(kind, (most, most))
