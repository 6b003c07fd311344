"""Video files of every kind that people have, made by ffmpeg: codec, container, geometry, timing, streams, damage.

`FILES` has for each file what makes it: a command line of ffmpeg (`WORDS` says what IN, SOUND and the like stand for;
{name} is another file of the corpus as an input, @name its path), or what is done to another file.
"""

from __future__ import annotations

import shlex
import struct
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

WORDS = {
    "IN": "-f lavfi -i testsrc2=s=96x64:r=25:d=2,rotate=a=t/2",
    "SHORT": "-f lavfi -i testsrc2=s=96x64:r=25:d=1,rotate=a=t/2",
    "SOUND": "-f lavfi -i sine=d=2:r=44100",
    "X264": "-c:v libx264 -preset veryfast -bf 3 -g 25",
    "FIELDS": "-f lavfi -i testsrc2=s=96x64:r=50:d=2,rotate=a=t/2,tinterlace=interleave_top",
    "BOTTOM_FIELDS": "-f lavfi -i testsrc2=s=96x64:r=50:d=2,rotate=a=t/2,tinterlace=interleave_bottom",
}


@dataclass(frozen=True)
class Joined:
    """Files one behind the other, as cat does it."""

    names: tuple[str, ...]

    def __call__(self, find: Callable[[str], Path], out: Path) -> None:
        out.write_bytes(b"".join(find(name).read_bytes() for name in self.names))


@dataclass(frozen=True)
class Cut:
    """The beginning of a file: a copy that broke off, or one of a file that is still being written."""

    name: str
    share: float

    def __call__(self, find: Callable[[str], Path], out: Path) -> None:
        whole = find(self.name).read_bytes()
        out.write_bytes(whole[: int(len(whole) * self.share)])


@dataclass(frozen=True)
class Overwritten:
    """A file with bytes in its middle that are noise."""

    name: str
    share: float = 0.02

    def __call__(self, find: Callable[[str], Path], out: Path) -> None:
        content = bytearray(find(self.name).read_bytes())
        count, middle = int(len(content) * self.share), len(content) // 2
        content[middle : middle + count] = bytes((37 * number + 11) % 256 for number in range(count))
        out.write_bytes(content)


@dataclass(frozen=True)
class LostPackets:
    """A transport stream of which some packets of 188 bytes in a row never arrived."""

    name: str

    def __call__(self, find: Callable[[str], Path], out: Path) -> None:
        whole = find(self.name).read_bytes()
        packets = [whole[at : at + 188] for at in range(0, len(whole), 188)]
        middle = len(packets) // 2
        out.write_bytes(b"".join(packets[:middle] + packets[middle + 5 :]))


@dataclass(frozen=True)
class DisplayMatrix:
    """An MP4 whose track header has another matrix (a b c d of ISO/IEC 14496-12, 8.3.2)."""

    name: str
    matrix: tuple[int, int, int, int]

    def __call__(self, find: Callable[[str], Path], out: Path) -> None:
        content = bytearray(find(self.name).read_bytes())
        at = content.index(b"tkhd") + 4 + 40  # version 0: the matrix follows 40 bytes of times, numbers and volume
        a, b, c, d = (value << 16 for value in self.matrix)
        content[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
        out.write_bytes(content)


@dataclass(frozen=True)
class LateText:
    """An FLV at whose end a stream of text begins."""

    name: str

    def __call__(self, find: Callable[[str], Path], out: Path) -> None:
        text = b"\2\0\nonTextData\10\0\0\0\2\0\4type\2\0\4Text\0\4text\2\0\5hello\0\0\t"
        header = b"\x12" + len(text).to_bytes(3, "big") + (1900).to_bytes(3, "big") + bytes(4)
        out.write_bytes(find(self.name).read_bytes() + header + text + (len(text) + 11).to_bytes(4, "big"))


@dataclass(frozen=True)
class Text:
    """A file that is no video."""

    content: bytes

    def __call__(self, find: Callable[[str], Path], out: Path) -> None:
        out.write_bytes(self.content)


Step: TypeAlias = "str | Joined | Cut | Overwritten | LostPackets | DisplayMatrix | LateText | Text"

CODECS: dict[str, Step] = {
    "h264.mp4": "IN X264",
    "h264_pyramid.mkv": "IN -c:v libx264 -x264-params b-pyramid=normal:bframes=7:b-adapt=0:ref=4",
    "h264_long_group.mp4": "IN -c:v libx264 -g 250",
    "h264_open_group.ts": "IN -c:v libx264 -x264-params open-gop=1:keyint=12:bframes=3:b-adapt=0",
    "h264_intra.mp4": "IN -c:v libx264 -g 1",
    "h264_one_reference.mp4": "IN -c:v libx264 -tune zerolatency",
    "h264_tff.mp4": "FIELDS -c:v libx264 -x264-params interlaced=1:tff=1:bframes=2",
    "h264_bff.ts": "BOTTOM_FIELDS -c:v libx264 -x264-params interlaced=1:bff=1",
    "h264_marked_interlaced.mp4": "IN -c:v libx264 -x264-params fake-interlaced=1",
    "h264_10_bit.mp4": "IN X264 -pix_fmt yuv420p10le",
    "h264_422.mkv": "IN X264 -pix_fmt yuv422p",
    "h264_444.mp4": "IN X264 -pix_fmt yuv444p",
    "h264_full_range.mp4": "IN X264 -pix_fmt yuvj420p",
    "h264_rgb.mkv": "IN -c:v libx264rgb -preset veryfast",
    "h264_bt709.mp4": "IN X264 -vf scale=out_color_matrix=bt709 -colorspace bt709",
    "h264_intra_refresh.mkv": "IN X264 -x264-params intra-refresh=1:bframes=0",
    "hevc_open_group.mp4": "IN -c:v libx265 -preset veryfast -x265-params log-level=0:open-gop=1:keyint=10",
    "hevc.mp4": "IN -c:v libx265 -preset veryfast -x265-params log-level=0:bframes=4 -tag:v hvc1",
    "hevc_10_bit.mkv": "IN -c:v libx265 -preset veryfast -x265-params log-level=0 -pix_fmt yuv420p10le",
    "mpeg1.mpg": "IN -c:v mpeg1video -bf 2 -q:v 3",
    "mpeg2.mpg": "IN -c:v mpeg2video -bf 2 -q:v 3 -f vob",
    "mpeg2_dvd.mpg": "FIELDS SOUND -c:v mpeg2video -bf 2 -q:v 3 -flags +ildct+ilme -top 1 -c:a mp2 -f dvd",
    "mpeg2_dvb.ts": "FIELDS SOUND -c:v mpeg2video -bf 2 -q:v 3 -flags +ildct+ilme -top 1 -c:a mp2",
    "mpeg4.mp4": "IN -c:v mpeg4 -bf 2 -q:v 3",
    "mpeg4_packed.avi": "IN -c:v libxvid -bf 2 -q:v 3",
    "msmpeg4.avi": "SHORT -c:v msmpeg4 -q:v 3",
    "vp8.webm": "IN -c:v libvpx -auto-alt-ref 1 -lag-in-frames 16 -deadline realtime -b:v 1M",
    "vp9.webm": "IN -c:v libvpx-vp9 -auto-alt-ref 1 -lag-in-frames 16 -deadline realtime -cpu-used 8 -b:v 1M",
    "vp9_10_bit.webm": "SHORT -c:v libvpx-vp9 -deadline realtime -cpu-used 8 -pix_fmt yuv420p10le -b:v 1M",
    "av1.mp4": "IN -c:v libsvtav1 -preset 12",
    "av1.mkv": "SHORT -c:v libsvtav1 -preset 12 -pix_fmt yuv420p10le",
    "prores.mov": "SHORT -c:v prores_ks",
    "prores_4444.mov": "SHORT -c:v prores_ks -profile:v 4444 -pix_fmt yuva444p10le",
    "dnxhr.mxf": "-f lavfi -i testsrc2=s=256x128:r=25:d=1,rotate=a=t/2 -c:v dnxhd -profile:v dnxhr_sq -pix_fmt yuv422p",
    "mpeg2.mxf": "IN -c:v mpeg2video -bf 2 -q:v 3",
    "mjpeg.avi": "SHORT -c:v mjpeg -q:v 3",
    "mjpeg.mov": "SHORT -c:v mjpeg -q:v 3",
    "pal.dv": "-f lavfi -i testsrc2=s=720x576:r=25:d=0.4,rotate=a=t/2 -target pal-dv",
    "dv.avi": "-f lavfi -i testsrc2=s=720x480:r=30000/1001:d=0.4,rotate=a=t/2 -c:v dvvideo -pix_fmt yuv411p",
    "ffv1.mkv": "SHORT -c:v ffv1",
    "huffyuv.avi": "SHORT -c:v huffyuv",
    "utvideo.avi": "SHORT -c:v utvideo",
    "raw.avi": "SHORT -c:v rawvideo -pix_fmt bgr24",
    "raw_palette.avi": "SHORT -c:v rawvideo -pix_fmt pal8",
    "raw.mov": "SHORT -c:v rawvideo -pix_fmt uyvy422",
    "raw.y4m": "SHORT -pix_fmt yuv420p",
    "animation.gif": "SHORT",
    "animation.apng": "SHORT -plays 0",
    "theora.ogv": "IN SOUND -c:v libtheora -q:v 7 -c:a libvorbis",
    "wmv2.wmv": "IN SOUND -c:v wmv2 -q:v 3 -c:a wmav2",
    "sorenson.flv": "IN SOUND -c:v flv -q:v 3 -c:a libmp3lame",
    "h263.3gp": "-f lavfi -i testsrc2=s=176x144:r=25:d=1,rotate=a=t/2 -c:v h263 -q:v 3",
    "cinepak.avi": "-f lavfi -i testsrc2=s=48x32:r=10:d=1,rotate=a=t/2 -c:v cinepak",
    "qtrle.mov": "SHORT -c:v qtrle",
    "png.mov": "SHORT -c:v png",
    "jpeg2000.mov": "SHORT -c:v jpeg2000",
    "interlaced.mkv": "FIELDS -c:v ffv1 -vf setfield=tff",
    "grey_10_bit.mkv": "SHORT -c:v ffv1 -pix_fmt gray10le",
    "grey.mkv": "SHORT -c:v ffv1 -pix_fmt gray",
    "rgba.mkv": "SHORT -c:v ffv1 -pix_fmt bgra",
}

CONTAINERS: dict[str, Step] = {
    "h264.mov": "IN SOUND X264 -c:a aac",
    "h264_aac.mp4": "IN SOUND X264 -c:a aac -movflags +faststart",
    "h264.mkv": "IN SOUND X264 -c:a aac",
    "h264.avi": "IN SOUND -c:v libx264 -bf 0 -c:a libmp3lame",
    "h264.ts": "IN SOUND X264 -c:a aac",
    "camcorder.mts": "FIELDS SOUND X264 -x264-params interlaced=1:tff=1 -c:a ac3 -f mpegts -mpegts_m2ts_mode 1",
    "h264.flv": "IN SOUND X264 -c:a aac",
    "h264.asf": "IN SOUND -c:v libx264 -bf 0 -c:a wmav2",
    "h264.3gp": "IN SOUND -c:v libx264 -bf 0 -profile:v baseline -pix_fmt yuv420p -c:a aac",
    "h264.nut": "IN SOUND X264 -c:a libmp3lame",
    "h264.mpg": "IN SOUND X264 -c:a mp2 -f mpeg",
    "h264.h264": "IN X264",
    "h264_pyramid.h264": "IN -c:v libx264 -x264-params b-pyramid=normal:bframes=7:b-adapt=0:ref=4",
    "h264_30.h264": "-f lavfi -i testsrc2=s=96x64:r=30:d=1,rotate=a=t/2 X264",
    "hevc.hevc": "IN -c:v libx265 -preset veryfast -x265-params log-level=0:bframes=4",
    "mpeg2.m2v": "IN -c:v mpeg2video -bf 2 -q:v 3",
    "hevc.ts": "IN -c:v libx265 -preset veryfast -x265-params log-level=0:bframes=4",
    "fragmented.mp4": "IN SOUND X264 -c:a aac -movflags frag_keyframe+empty_moov+default_base_moof",
    "live.mkv": "IN SOUND X264 -c:a aac -live 1",
    "live.webm": "IN -c:v libvpx -deadline realtime -b:v 1M -live 1",
}

_ODD = "-f lavfi -i testsrc2=s=97x63:r=25:d=1,rotate=a=t/2"
GEOMETRY: dict[str, Step] = {
    "wide_pixels.mp4": "IN X264 -vf setsar=2/1",
    "tall_pixels.mp4": "IN X264 -vf setsar=1/2",
    "ntsc_pixels.mp4": "IN X264 -vf setsar=10/11",
    "anamorphic.mkv": "IN X264 -vf setsar=40/33",
    "pal_16_9.mpg": "IN -c:v mpeg2video -aspect 16:9 -q:v 3 -f dvd",
    "rotated_90.mp4": "{h264_aac.mp4} -c copy -metadata:s:v rotate=90",
    "rotated_180.mov": "{h264_aac.mp4} -c copy -metadata:s:v rotate=180",
    "rotated_270.mp4": "{h264_aac.mp4} -c copy -metadata:s:v rotate=270",
    "rotated_wide_pixels.mp4": "{wide_pixels.mp4} -c copy -metadata:s:v rotate=90",
    "mirrored.mp4": DisplayMatrix("h264.mp4", (-1, 0, 0, 1)),
    "upside_down.mp4": DisplayMatrix("h264.mp4", (1, 0, 0, -1)),
    "mirrored_and_upside_down.mp4": DisplayMatrix("h264.mp4", (-1, 0, 0, -1)),
    "mirrored_rotated_90.mp4": DisplayMatrix("h264.mp4", (0, 1, 1, 0)),
    "mirrored_rotated_270.mp4": DisplayMatrix("h264.mp4", (0, -1, -1, 0)),
    "odd_size.mp4": f"{_ODD} X264 -pix_fmt yuv444p",
    "odd_size.webm": f"{_ODD} -c:v libvpx-vp9 -deadline realtime -cpu-used 8 -pix_fmt yuv420p",
    "odd_size.mkv": f"{_ODD} -c:v ffv1",
    "odd_size_wide_pixels.mkv": f"{_ODD} -c:v ffv1 -vf setsar=4/3",
    "cropped.mp4": "{h264.mp4} -c copy -bsf:v h264_metadata=crop_left=10:crop_right=6:crop_top=4:crop_bottom=2",
    "small_cif.mp4": "-f lavfi -i testsrc2=s=128x90:r=25:d=1,rotate=a=t/2 X264",
    "other_size.ts": "-f lavfi -i testsrc2=s=64x48:r=25:d=1,rotate=a=t/2 X264 -output_ts_offset 3",
    "wide_pixels.ts": "IN X264 -vf setsar=4/3 -output_ts_offset 3",
    "aspect_changes.ts": Joined(("h264.ts", "wide_pixels.ts")),
    "small_fields.ts": "BOTTOM_FIELDS -vf scale=64:64,setsar=1 -c:v libx264 -flags +ildct -output_ts_offset 3",
    "size_of_fields_changes.ts": Joined(("h264_bff.ts", "small_fields.ts")),
    "size_changes.ts": Joined(("h264.ts", "other_size.ts")),
    "size_changes.h264": Joined(("h264.h264", "other_size.h264")),
    "other_size.h264": "-f lavfi -i testsrc2=s=64x48:r=25:d=1,rotate=a=t/2 X264",
}

TIMING: dict[str, Step] = {
    "variable_rate.mp4": "IN X264 -vf select='not(mod(n\\,3))+not(mod(n\\,7))+lt(n\\,12)' -vsync vfr",
    "slows_down.mkv": "IN X264 -vf setpts='if(lt(N\\,10)\\,N\\,10+(N-10)*12)/25/TB' -vsync vfr",
    "2_a_second.mp4": "-f lavfi -i testsrc2=s=96x64:r=2:d=5 X264",
    "1_a_second.mkv": "-f lavfi -i testsrc2=s=96x64:r=1:d=5 X264",
    "half_a_second.avi": "-f lavfi -i testsrc2=s=96x64:r=1/2:d=8 -c:v mpeg4 -q:v 3",
    "half_a_second.mp4": "-f lavfi -i testsrc2=s=96x64:r=1/2:d=8 X264",
    "120_a_second.mp4": "-f lavfi -i testsrc2=s=96x64:r=120:d=1,rotate=a=t X264",
    "film.mkv": "-f lavfi -i testsrc2=s=96x64:r=24000/1001:d=2,rotate=a=t/2 X264",
    "ntsc.ts": "-f lavfi -i testsrc2=s=96x64:r=30000/1001:d=2,rotate=a=t/2 X264",
    "picture_late.mp4": "-itsoffset 5 IN SOUND X264 -c:a aac",
    "picture_late.mkv": "-itsoffset 5 IN SOUND X264 -c:a aac",
    "late_alone.mkv": "-itsoffset 3 IN X264",
    "picture_late.ts": "-itsoffset 1 IN SOUND X264 -c:a aac",
    "sound_late.mp4": "IN -itsoffset 1 SOUND X264 -c:a aac",
    "sound_late.ts": "IN -itsoffset 1 SOUND X264 -c:a aac",
    "day_old.ts": "IN SOUND X264 -c:a aac -output_ts_offset 90000",
    "wraps.ts": "IN SOUND X264 -c:a aac -output_ts_offset 95442.717",
    "joined.ts": Joined(("h264.ts", "h264.ts")),
    "joined_sound.ts": Joined(("sound_late.ts", "picture_late.ts")),
    "trimmed.mp4": "-ss 0.7 {h264_aac.mp4} -c copy",
    "trimmed_end.mp4": "-ss 1.3 {h264_aac.mp4} -t 0.5 -c copy",
    "trimmed_twice.mp4": "-ss 0.4 {trimmed.mp4} -c copy",
    "trimmed.mov": "-ss 0.5 {h264_long_group.mp4} -c copy",
    "trimmed.mkv": "-ss 0.7 {h264.mkv} -c copy",
    "trimmed_hevc.mp4": "-ss 0.9 {hevc.mp4} -c copy",
    "trimmed_mpeg4.mp4": "-ss 0.9 {mpeg4.mp4} -c copy",
    "begins_before_zero.mp4": "IN SOUND X264 -c:a aac -output_ts_offset -0.5 -avoid_negative_ts disabled",
    "negative_offsets.mp4": "IN SOUND X264 -c:a aac -movflags +negative_cts_offsets",
    "same_time_twice.mkv": "SHORT -c:v ffv1 -vf setpts='floor(N/2)*2/25/TB' -vsync passthrough",
    "one_picture.mp4": "IN X264 -frames:v 1",
    "two_pictures.mp4": "IN X264 -frames:v 2",
}

STREAMS: dict[str, Step] = {
    "two_videos.mkv": "IN SHORT X264 -map 0 -map 1 -vf:1 hflip -disposition:v:0 0 -disposition:v:1 default",
    "two_videos.mp4": "-f lavfi -i testsrc2=s=48x32:r=25:d=2 IN X264 -map 0 -map 1",
    "cover.jpg": "-f lavfi -i color=red:s=200x200 -frames:v 1",
    "photo.mp4": Cut("cover.jpg", 1.0),
    "cover.mp4": "{h264_aac.mp4} {cover.jpg} -map 1 -map 0 -c copy -disposition:v:0 attached_pic",
    "cover_behind.mp4": "{h264_aac.mp4} {cover.jpg} -map 0 -map 1 -c copy -disposition:v:1 attached_pic",
    "cover.mkv": "{h264.mkv} -c copy -attach @cover.jpg -metadata:s:2 mimetype=image/jpeg",
    "subtitles.srt": Text(b"1\n00:00:00,500 --> 00:00:01,500\nhello\n\n"),
    "subtitles.mkv": "{h264.mkv} {subtitles.srt} -map 0 -map 1 -c copy -c:s srt",
    "subtitles.mp4": "{h264_aac.mp4} {subtitles.srt} -map 0 -map 1 -c copy -c:s mov_text",
    "late_text.flv": LateText("h264.flv"),
    "time_code.mov": "IN X264 -timecode 10:00:00:00",
    "sound_first.mp4": "{h264_aac.mp4} -map 0:a -map 0:v -c copy",
}

DAMAGE: dict[str, Step] = {
    **{
        f"overwritten{Path(name).suffix}": Overwritten(name)
        for name in ("h264_aac.mp4", "h264.mkv", "ntsc.ts", "mpeg4_packed.avi", "mpeg2_dvd.mpg", "h264.flv", "vp9.webm")
    },
    "overwritten_hevc.mp4": Overwritten("hevc.mp4", 0.05),
    **{
        f"cut_at_{share}_of_{name}": Cut(name, share / 100)
        for name in ("h264_aac.mp4", "fragmented.mp4", "h264.mkv", "h264.ts", "h264.flv", "mpeg4_packed.avi")
        for share in (30, 60, 95)
    },
    "cut_at_30_of_raw.avi": Cut("raw.avi", 0.31),
    "cut_at_20_of_dnxhr.mxf": Cut("dnxhr.mxf", 0.2),
    "cut_at_40_of_ntsc.ts": Cut("ntsc.ts", 19808 / 49068),
    "lost_packets.ts": LostPackets("h264_open_group.ts"),
    "growing.mkv": Cut("live.mkv", 0.7),
}

NO_VIDEO: dict[str, Step] = {
    "notes.mp4": Text(b"this is no video\n" * 200),
    "page.mp4": Text(b"<!DOCTYPE html><html><body>404 not found</body></html>\n" * 20),
    "archive.mp4": Text(b"PK\x03\x04\x14\x00\x00\x00\x08\x00" + bytes(range(256)) * 20),
    "zeros.mp4": Text(bytes(20000)),
    "sound.mp4": "SOUND -c:a aac",
    "sound.wav": "SOUND",
    "sound.mp3": "SOUND",
    "song_with_cover.mp4": "SOUND {cover.jpg} -map 0 -map 1 -c:a aac -c:v copy -disposition:v attached_pic",
    "song_with_cover.mp3": "SOUND {cover.jpg} -map 0 -map 1 -c:v copy -disposition:v attached_pic",
    "index_lost.mp4": Cut("h264.mp4", 0.8),
    "only_the_head.mkv": Cut("h264.mkv", 0.03),
    "no_pictures.mp4": "IN X264 -frames:v 0",
}

FILES = CODECS | CONTAINERS | GEOMETRY | TIMING | STREAMS | DAMAGE | NO_VIDEO


class Corpus:
    """The files, each made when it is first asked for.

    Args:
        folder: where they are written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, name: str) -> Path:
        """Return the path of a file."""
        path = self._folder / name
        if not path.exists():
            step = FILES[name]
            if isinstance(step, str):
                self._run(step, path)
            else:
                step(self, path)
        return path

    def _run(self, command: str, out: Path) -> None:
        arguments: list[str] = []
        for word in shlex.split(command):
            if word in WORDS:
                arguments += shlex.split(WORDS[word])
            elif word.startswith("{"):
                arguments += ["-i", str(self(word[1:-1]))]
            elif word.startswith("@"):
                arguments.append(str(self(word[1:])))
            else:
                arguments.append(word)
        run = ["ffmpeg", "-y", "-v", "error", "-nostdin", *arguments, str(out)]
        done = subprocess.run(run, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"{out.name}: {done.stderr}"
