"""Live sources: the process that reads one and how it is restarted; webcams and GStreamer pipelines, by OpenCV.

Live streams from a network are read in the same process, by network/stream_reader.py.
"""
