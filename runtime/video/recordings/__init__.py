"""What ends: video files, folders of images, pipes; and films, which are written.

Recordings behind http are opened in network/.
"""
