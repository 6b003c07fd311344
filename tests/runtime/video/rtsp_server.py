"""A real RTSP server, GStreamer's, that shows a colour: /usr/bin/python3 rtsp_server.py PORT 0xAARRGGBB [options]

It runs in the system's Python: apt install gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-good python3-gi, and for
H.264 gstreamer1.0-plugins-bad.
"""

import argparse

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

options = argparse.ArgumentParser()
options.add_argument("port")
options.add_argument("colour")
options.add_argument("--encoder", default="jpegenc ! rtpjpegpay", help="elements that end in a payloader")
options.add_argument("--live", default="true", help="false: also the first client gets the first group of pictures")
options.add_argument("--user")
options.add_argument("--password")
options.add_argument("--digest", action="store_true")
asked = options.parse_args()

Gst.init(None)
server = GstRtspServer.RTSPServer()
server.set_service(asked.port)
factory = GstRtspServer.RTSPMediaFactory()
factory.set_launch(
    f"( videotestsrc is-live={asked.live} pattern=solid-color foreground-color={asked.colour}"
    f" ! video/x-raw,format=I420,width=160,height=120,framerate=15/1 ! {asked.encoder} name=pay0 )"
)
factory.set_shared(True)
if asked.user is not None:
    auth, token = GstRtspServer.RTSPAuth(), GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    permissions = GstRtspServer.RTSPPermissions()
    permissions.add_role("viewer")
    permissions.add_permission_for_role("viewer", "media.factory.access", True)
    permissions.add_permission_for_role("viewer", "media.factory.construct", True)
    factory.set_permissions(permissions)
    if asked.digest:
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
        auth.add_digest(asked.user, asked.password, token)
    else:
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(asked.user, asked.password), token)
    server.set_auth(auth)
server.get_mount_points().add_factory("/camera", factory)
server.attach(None)
print("ready", flush=True)
GLib.MainLoop().run()
