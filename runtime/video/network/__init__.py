"""Network sources: addresses, http, HLS, snapshots, live streams.

The process that reads a live stream is in cameras/.
"""
