"""Measuring: time a stage, power, temperature and clocks, a report of one run, and the difference between two backends.

probe.py is the part that the pipeline itself calls. Choosing a backend by its speed is in engines/tuning.py.
"""
