"""Subtitles are valid SubRip, also after an interruption."""

from __future__ import annotations

import io

from vlj_edge.results import Narration
from vlj_edge.runtime.sinks.subtitles import SrtWriter, VttWriter


def narration(centre: float, text: str) -> Narration:
    return Narration(centre - 1, centre + 1, text, "decoder")


def test_srt_from_centre_to_centre_and_the_last_to_the_end() -> None:
    stream = io.StringIO()
    writer = SrtWriter(stream)
    writer.add(narration(1.0, "first"))
    writer.add(narration(3661.0625, "second\n\nline --> arrow"))
    writer.finish(7200)
    assert stream.getvalue() == (
        "1\n00:00:01,000 --> 01:01:01,062\nfirst\n\n2\n01:01:01,062 --> 02:00:00,000\nsecond line -> arrow\n\n"
    )


def test_srt_times_round_up_into_the_next_second() -> None:
    stream = io.StringIO()
    writer = SrtWriter(stream)
    writer.add(narration(1.0, "x"))
    writer.finish(59.9996)
    assert "--> 00:01:00,000" in stream.getvalue()


def test_srt_is_flushed_as_it_goes() -> None:
    flushed: list[str] = []

    class Stream(io.StringIO):
        def flush(self) -> None:
            flushed.append(self.getvalue())

    writer = SrtWriter(Stream())
    writer.add(narration(1, "one"))
    writer.add(narration(2, "two"))
    assert flushed == ["1\n00:00:01,000 --> 00:00:02,000\none\n\n"]


def test_srt_cue_is_never_empty_or_backwards() -> None:
    stream = io.StringIO()
    writer = SrtWriter(stream)
    writer.add(narration(5, "x"))
    writer.finish(4.0)  # the video's last window may reach beyond its last frame
    assert "00:00:05,000 --> 00:00:05,001" in stream.getvalue()


def test_srt_without_texts_is_empty_and_finishing_twice_is_once() -> None:
    stream = io.StringIO()
    writer = SrtWriter(stream)
    writer.finish(3)
    assert stream.getvalue() == ""
    writer.add(narration(1, "x"))
    writer.finish(3)
    writer.finish(4)
    assert stream.getvalue().count("-->") == 1


def test_vtt_from_centre_to_centre_and_the_last_to_the_end() -> None:
    stream = io.StringIO()
    writer = VttWriter(stream)
    assert stream.getvalue() == "WEBVTT\n\n"
    writer.add(narration(1.0, "first\n\nline"))
    writer.add(narration(3661.0625, 'a < b && "c" --> d'))
    first = "WEBVTT\n\n00:00:01.000 --> 01:01:01.062\nfirst line\n\n"
    assert stream.getvalue() == first
    writer.finish(7200)
    writer.finish(7300)
    last = '01:01:01.062 --> 02:00:00.000\na &lt; b &amp;&amp; "c" --&gt; d\n\n'
    assert stream.getvalue() == first + last


def test_vtt_leaves_out_empty_texts_and_no_cue_is_backwards() -> None:
    stream = io.StringIO()
    writer = VttWriter(stream)
    for text, centre in [(" \n", 1.0), ("x", 5.0), ("y", 4.0)]:
        writer.add(narration(centre, text))
    writer.finish(5.0)
    assert [line for line in stream.getvalue().splitlines() if "-->" in line] == [
        "00:00:05.000 --> 00:00:05.001",
        "00:00:04.000 --> 00:00:05.000",
    ]


def test_an_answer_takes_the_place_of_the_text_that_stood_in() -> None:
    stream = io.StringIO()
    writer = SrtWriter(stream)

    def told(begins: float, text: str, stand_in: bool = False) -> None:
        writer.add(Narration(begins - 1, begins + 1, text, "words", stand_in=stand_in))

    for begins in (1.0, 2.0, 3.0):
        told(begins, f"near {begins:g}", stand_in=True)
    assert not stream.getvalue()  # any of them may be replaced
    told(1.0, "one")
    told(3.0, "three")  # the second was passed over
    told(4.0, "near 4", stand_in=True)
    writer.finish(6.0)
    cues = [block.splitlines()[1:] for block in stream.getvalue().strip().split("\n\n")]
    assert [(cue[0][6:8], cue[0][-6:-4], cue[1]) for cue in cues] == [
        ("01", "02", "one"),
        ("02", "03", "near 2"),
        ("03", "04", "three"),
        ("04", "06", "near 4"),
    ]
