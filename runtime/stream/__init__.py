"""One run over a source: its threads, their cancellation, and the lock with which runs share the engines.

Nothing here depends on the items that are passed on: sampling is in video, decisions in gating, the order of the steps
in model.py.
"""
