"""The gates, which decide what is skipped for a window. Scene, motion, meaning and the caption memory, one file each.

They decide on ClipWindow objects and settings of vlj_edge.bundle. Nothing here reads frames, runs an engine or makes
words; only a window's embedding, which is computed on demand, calls the engines.
"""
