"""A real RTSP server, GStreamer's, that shows a colour: /usr/bin/python3 rtsp_server.py PORT 0xAARRGGBB

It runs in the system's Python: apt install gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-good python3-gi.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

Gst.init(None)
server = GstRtspServer.RTSPServer()
server.set_service(sys.argv[1])
factory = GstRtspServer.RTSPMediaFactory()
factory.set_launch(
    f"( videotestsrc is-live=true pattern=solid-color foreground-color={sys.argv[2]}"
    " ! video/x-raw,format=I420,width=160,height=120,framerate=15/1 ! jpegenc ! rtpjpegpay name=pay0 )"
)
factory.set_shared(True)
server.get_mount_points().add_factory("/camera", factory)
server.attach(None)
print("ready", flush=True)
GLib.MainLoop().run()
