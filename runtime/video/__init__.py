"""Where frames come from, up to the encoder's input.

Sources (files, folders, cameras and streams, stdin), the sampling of frames into clip windows, and preprocessing.
Gating/ decides whether a window is encoded; sinks/ take the texts.
"""
