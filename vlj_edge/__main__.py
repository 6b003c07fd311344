"""python -m vlj_edge, for where the command is not on the path."""

from .cli import main

main()
