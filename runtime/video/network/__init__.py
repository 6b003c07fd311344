"""What is reached over a network: addresses, http, HLS, snapshots, live streams.

The process in which a live stream is read is in cameras/.
"""
