"""Alerts: tell me when a sentence becomes true of what a camera shows.

settings.py says what an alert is, score.py compares an embedding with its references, decision.py decides from the
scores when an event begins and ends, watch.py does so for all sources of a service, and trial.py for a recording. Not
here: what is told of an event, and to whom, which is in sinks/.
"""
