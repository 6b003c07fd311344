"""The gates: what may be skipped for a window. Scene, motion, meaning and the caption memory, one file each.

They decide on ClipWindow objects and settings of vlj_edge.bundle. Nothing here reads frames, runs an engine or makes
words; a window that is encoded on demand is the only thing that leads back to the engines.
"""
