"""Evaluation: does a model work on somebody's own videos?

data.py is what is evaluated, tables.py reads it from CSV and JSONL, published.py from the annotation files of public
data (ego_exo.py from one of them), embed.py embeds each clip and each text once, narrate.py narrates annotated videos,
figures.py turns similarities into ranks, shares and intervals, narration.py texts into CIDEr (cider.py) and time, and
evaluation.py joins these; picture.py shows a clip. Tables and the page belong to the command.
"""
