"""The gates, which decide what is skipped for a window. Rest, scene, meaning and the caption
memory, one file each, and the noise that they allow for.

They decide on ClipWindow objects and settings of vlj_edge.bundle. Nothing here reads frames, runs an engine or makes
words; only a window's embedding, which is computed on demand, calls the engines.
"""
