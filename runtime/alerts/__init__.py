"""Alerts: tell me when a sentence becomes true of what a camera shows.

From an embedding to a message: score.py compares it with the alert's references, decision.py decides from the scores
when an event begins and ends, and events.py is what is told of it. Not here: who is told, which is in sinks/.
"""
