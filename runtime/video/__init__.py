"""Where frames come from, up to the encoder's input.

Sources (files, folders, cameras and streams, stdin), the sampling of frames into clip windows, and preprocessing.
Whether a window is worth encoding is decided in gating/; what comes out goes to sinks/.
"""
