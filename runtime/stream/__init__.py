"""One run over a source: its threads, how they are cancelled, and the lock with which runs share the engines.

Nothing here knows what flows through: sampling is in video, decisions in gating, the order of the steps in model.py.
"""
