"""Live sources: the reader process and its restarts; webcams and GStreamer pipelines, by OpenCV.

Live streams from a network are read in the same process, by network/stream_reader.py.
"""
