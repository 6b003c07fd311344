"""python -m vlj_edge, for where the command is not on the path."""

from vlj_edge.commands import main

main()
