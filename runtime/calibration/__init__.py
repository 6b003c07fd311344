"""Calibration: gates for one camera, from a recording of it.

record.py stores once what the gates decide on, replay.py runs the gates over it with other settings, reference.py says
what should have been said, search.py tries settings, cross_validation.py judges them on time they were not chosen on,
and proposal.py joins these. Nothing here has a gate of its own: those of runtime/gating run.
"""
