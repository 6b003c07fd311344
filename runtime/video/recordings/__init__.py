"""Sources that end: video files, folders of images, pipes; also writing videos.

Recordings behind http are opened in network/.
"""
