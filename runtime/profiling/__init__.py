"""Profiling: the probe that times stages, the profile of a run and its reports, power, clocks, and backend comparison.

The run itself is in runtime/model.py; it calls the probe only if one was given.
"""
