"""Fuzzers of every parser of bytes from outside: python -m tests.fuzz NAME --seconds 30 --seed 1

Each mutates valid samples. A parser returns or raises VljEdgeError, within 5 seconds and 1 GB; all else is a finding.
"""
