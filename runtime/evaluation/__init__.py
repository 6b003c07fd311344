"""Evaluation: does a model work on somebody's own videos?

data.py is what is evaluated, tables.py reads it from CSV and JSONL, published.py from the annotation files of public
data, embed.py embeds each clip and each text once, figures.py turns similarities into ranks, shares and intervals, and
evaluation.py joins these. Printing belongs to the command.
"""
