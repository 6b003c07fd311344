from __future__ import annotations

import re
import string
import sys

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from vlj_edge import VljEdgeError
from vlj_edge.errors import require, without_credentials, without_secrets

# What a person may type as a password, also what a URI would want encoded.
PASSWORD = st.text(string.ascii_letters + string.digits + "@/:?#&%$!;=+*~ ", min_size=4, max_size=12)
# '&' ends a parameter, so it cannot stand in one as it is
PARAMETER = st.text(string.ascii_letters + string.digits + "@/:?#%$!;=+*~ ", min_size=4, max_size=12)
SCHEME = st.sampled_from(["rtsp", "rtsps", "http", "https", "RTSP", "rtmp", "srt"])


# --- without_credentials


@given(scheme=SCHEME, user=st.text(string.ascii_letters, max_size=5), password=PASSWORD)
@example(scheme="rtsp", user="admin", password="p@ss")
@example(scheme="rtsp", user="admin", password="pa/ss")
@example(scheme="rtsp", user="admin", password="12/3@4:5")
@example(scheme="rtsp", user="", password="secret")
def test_a_password_never_survives(scheme: str, user: str, password: str) -> None:
    address = "://***@cam.local:554/live.sdp"
    assume(password not in scheme + address)
    shown = without_credentials(f"{scheme}://{user}:{password}@cam.local:554/live.sdp")
    assert password not in shown
    ambiguous = re.search("[?&;][^?&;=]*=", password)  # it may be a query in which the '@' is
    assert shown in (scheme + address, f"{scheme}://***@***") if ambiguous else shown == scheme + address


@given(
    scheme=SCHEME, password=PARAMETER, name=st.sampled_from(["password", "PWD", "pass", "passwd", "token", "apikey"])
)
@pytest.mark.parametrize("before", ["/live?", "/live?channel=1&", "/channel=1&"])
def test_a_password_in_the_query_never_survives(before: str, scheme: str, name: str, password: str) -> None:
    uri = f"{scheme}://cam.local{before}{name}={password}&subtype=0"
    assume(password not in f"{scheme}://***@cam.local{before}{name}=***&subtype=***channel")
    assert password not in without_credentials(uri)


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("rtsp://cam/live?channel=1&password=hunter2", "rtsp://cam/live?channel=***&password=***"),
        ("http://cam/snap.cgi?loginuse=admin&loginpas=hunter2", "http://cam/snap.cgi?loginuse=***&loginpas=***"),
        ("http://cam/a.jpg?pw=hunter2", "http://cam/a.jpg?pw=***"),
        ("https://cdn/a.m3u8?Policy=a&sig=hunter2%3D", "https://cdn/a.m3u8?Policy=***&sig=***"),
        ("http://cam/a;jsessionid=hunter2", "http://cam/a;jsessionid=***"),
        ("http://cam/a;jsessionid=hunter2/b.jpg?x=1", "http://cam/a;jsessionid=***"),
        ("http://cam/a;hunter2", "http://cam/a;***"),
        ("http://cam/a?hunter2", "http://cam/a?***"),
        ("http://cam/a?x=1;y=hunter2", "http://cam/a?x=***;y=***"),
        ("http://cam/a#hunter2", "http://cam/a#***"),
        ("http://cam/a?mail=me@hunter2&x=hunter2", "http://***@***&x=***"),
        ("rtsp://cam:554/user=admin_password=hunter2_channel=1_stream=0.sdp", "rtsp://cam:554/user=***"),
        ("s3://bucket/store?secret=hunter2", "s3://bucket/store?secret=***"),
        ("mqtts://me:hunter2@broker/home", "mqtts://***@broker/home"),
        ("rtsp:/me:hunter2@cam/1", "rtsp:/***@cam/1"),
        ("//me:hunter2@cam/1", "***@cam/1"),
        ("me:hunter2@cam/1", "***@cam/1"),
        (
            "gst:rtspsrc location=rtsp://cam/1?x=hunter2 user-pw=hunter2 ! a",
            "gst:rtspsrc location=rtsp://cam/1?x=*** user-pw=*** ! a",
        ),
        ("v4l2:///dev/video0?size=640x480&fps=5", "v4l2:///dev/video0?size=640x480&fps=5"),
        ("file:///films/me@home?.mp4", "file:///films/me@home?.mp4"),
    ],
)
def test_no_value_is_shown(uri: str, shown: str) -> None:
    assert without_credentials(uri) == shown
    assert without_credentials(shown) == shown


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("uri is 'rtsp://me:hunter2@cam/1?a=hunter2': correct it", "uri is 'rtsp://***@cam/1?a=***': correct it"),
        ("no answer from http://cam/?pw=hunter2, waiting", "no answer from http://cam/?pw=***, waiting"),
        ("(http://me:it's hunter2@cam/).", "(http://***@cam/)."),
        ("[http] http://cam/?a=hunter2 and rtsp://cam/?b=hunter2", "[http] http://cam/?a=*** and rtsp://cam/?b=***"),
        (
            "http://cam:x/ is wrong: write %40 for @ in a password",
            "http://cam:x/ is wrong: write %40 for @ in a password",
        ),
        ("nothing to hide @ all?", "nothing to hide @ all?"),
    ],
)
def test_addresses_in_a_line_are_hidden_too(line: str, shown: str) -> None:
    assert without_secrets(line) == shown


@given(
    host=st.from_regex(r"[a-z0-9.-]{1,10}(:[0-9]{1,5})?", fullmatch=True), path=st.text(string.ascii_letters + "/._-")
)
def test_an_address_without_credentials_stays_as_it_is(host: str, path: str) -> None:
    assert without_credentials(f"rtsp://{host}/{path}") == f"rtsp://{host}/{path}"


@pytest.mark.parametrize("path", ["video.mp4", "/dev/video0", "0", "me@home/video.mp4", "C:\\video.mp4", ""])
def test_a_path_stays_as_it_is(path: str) -> None:
    assert without_credentials(path) == path


# --- require


def test_what_is_installed_is_imported() -> None:
    assert require("json", "cpu").loads("1") == 1


def test_what_is_not_installed_names_the_extra_that_installs_it() -> None:
    with pytest.raises(VljEdgeError, match=r"^no_such_package is needed .* pip install 'vlj-edge\[export\]'$"):
        require("no_such_package.sub", "export")


def test_what_is_installed_but_broken_says_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "cv2":
                raise ImportError("libGL.so.1: cannot open shared object file")

    monkeypatch.delitem(sys.modules, "cv2", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(VljEdgeError, match=r"cv2 .*libGL\.so\.1.*vlj-edge\[cpu\]"):
        require("cv2", "cpu")


# --- the message


@given(quoted=st.text())
def test_a_message_is_one_line_whatever_it_quotes(quoted: str) -> None:
    shown = str(VljEdgeError(f"{quoted} is missing: copy it again"))
    assert shown.replace("\u200c", "").replace("\u200d", "").isprintable()


@given(quoted=st.text(st.characters(exclude_categories=["C", "Z"])))
def test_what_can_be_printed_is_quoted_as_it_is(quoted: str) -> None:
    assert str(VljEdgeError(f"{quoted}: mend it")) == f"{quoted}: mend it"
