"""A soak of `vlj-edge serve`: a real service, its sources and sinks, and faults of every kind at random while it runs.

python -m tests.soak --seconds 900 --out results/soak.json
"""
