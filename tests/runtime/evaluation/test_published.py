"""Annotation files of public data, small ones of the form that their owners publish."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.runtime.evaluation.test_data import write
from vlj_edge import VljEdgeError
from vlj_edge.runtime.evaluation.data import Data, read_data

MSR_VTT = {
    "info": {"contributor": "Microsoft MSM group", "version": "1.0"},
    "videos": [
        {"video_id": f"video{n}", "category": 9, "url": "x", "start time": 1.5, "end time": 9, "split": "test", "id": n}
        for n in range(3)
    ],
    "sentences": [
        {"caption": "a car is shown", "video_id": "video0", "sen_id": 0},
        {"caption": "a  car drives", "video_id": "video0", "sen_id": 1},
        {"caption": "someone cooks", "video_id": "video1", "sen_id": 2},
        {"caption": "people sing", "video_id": "video2", "sen_id": 3},
    ],
}
PAIRS = "key,vid_key,video_id,sentence\nret0,msr0,video0,a car is shown\nret1,msr2,video2,people sing\n"
SOMETHING = [
    {
        "id": "78687",
        "label": "holding potato next to vicks vaporub bottle",
        "template": "Holding [something] next to [something]",
        "placeholders": ["potato", "vicks vaporub bottle"],
    },
    {"id": "42326", "label": "closing a box", "template": "Closing [something]", "placeholders": ["a box"]},
]
KINETICS = """label,youtube_id,time_start,time_end,split,is_cc
abseiling,-3B32lodo2M,59,69,val,0
"air drumming",_dbcJuKJQNs,40,50,val,0
waving hand,--nQbRBEz2s,104,114,val,0
"""


def clips(data: Data) -> list[tuple[str, float, float | None, tuple[str, ...]]]:
    return [(clip.video.name, clip.start, clip.end, clip.texts) for clip in data.clips]


def test_msr_vtt(tmp_path: Path) -> None:
    for name in ("video0.mp4", "video2.mp4"):
        write(tmp_path / "TestVideo" / name, "")
    data = read_data(write(tmp_path / "test_videodatainfo.json", json.dumps(MSR_VTT)))
    assert clips(data) == [
        ("video0.mp4", 0.0, None, ("a car is shown", "a car drives")),
        ("video2.mp4", 0.0, None, ("people sing",)),
    ]
    assert data.missing == 1 and not data.labels and data.texts == ("a car is shown", "a car drives", "people sing")
    pairs = read_data(write(tmp_path / "pairs" / "MSRVTT_JSFUSION_test.csv", PAIRS), tmp_path / "TestVideo")
    assert [texts for *_, texts in clips(pairs)] == [("a car is shown",), ("people sing",)] and pairs.missing == 0


def test_something_something(tmp_path: Path) -> None:
    write(tmp_path / "78687.webm", "")
    data = read_data(write(tmp_path / "validation.json", json.dumps(SOMETHING)))
    assert clips(data) == [("78687.webm", 0.0, None, ("Holding something next to something",))]
    assert data.labels and data.missing == 1
    assert data.texts == ("Holding something next to something", "Closing something"), "all classes are candidates"


def test_kinetics(tmp_path: Path) -> None:
    write(tmp_path / "videos" / "abseiling" / "-3B32lodo2M_000059_000069.mp4", "")
    write(tmp_path / "videos" / "_dbcJuKJQNs.mkv", "")
    data = read_data(write(tmp_path / "val.csv", KINETICS), tmp_path / "videos")
    assert clips(data) == [
        ("-3B32lodo2M_000059_000069.mp4", 0.0, None, ("abseiling",)),
        ("_dbcJuKJQNs.mkv", 40.0, 50.0, ("air drumming",)),
    ]
    assert data.labels and data.missing == 1 and data.texts == ("abseiling", "air drumming", "waving hand")


@pytest.mark.parametrize("separator", [";", "\t"])
def test_csv_that_a_spreadsheet_saved_again(separator: str, tmp_path: Path) -> None:
    for name in ("video0.mp4", "video2.mp4", "_dbcJuKJQNs.mkv"):
        write(tmp_path / "videos" / name, "")
    pairs = read_data(write(tmp_path / "pairs.csv", PAIRS.replace(",", separator)), tmp_path / "videos")
    assert [texts for *_, texts in clips(pairs)] == [("a car is shown",), ("people sing",)]
    classes = read_data(write(tmp_path / "val.csv", KINETICS.replace(",", separator)), tmp_path / "videos")
    assert clips(classes) == [("_dbcJuKJQNs.mkv", 40.0, 50.0, ("air drumming",))]


UID, OTHER, AWAY = "3c489f86-8896-4c86-8a5a-929999799d36", "0a1b", "ffff"


def described(text: str | None, timestamp: float | None, seen: object, **more: object) -> dict[str, object]:
    best = {"raw_cam_id": "1", "cam_id": "cam01"}
    told = {"text": text, "timestamp": timestamp, "subject": "C", "ego_visible": seen, "unsure": "0"}
    return told | {"best_exo": best} | more


EGO_EXO = {
    "ds": "2024-01-01",
    "take_cam_id_map": {UID: {"1": "cam01"}},
    "annotations": {
        UID: [
            {
                "annotation_uid": "fe6b",
                "annotator_id": "5284",
                "rejected": False,
                "reject_reason": None,
                "descriptions": [
                    described("C moves his  right hand.", 0.5, "0"),
                    described("C touches the screw.", 18.5, "1"),
                    described("C turns the screw.", 20, True, unsure="1"),
                    described(None, 21.0, "1"),
                    described("C is somewhere.", None, "1"),
                ],
            },
            {"annotation_uid": "2d", "rejected": True, "descriptions": [described("C sleeps.", 3.0, "1")]},
            {"annotation_uid": "2e", "rejected": False, "descriptions": [described("The man X walks.", 0.75, None)]},
        ],
        OTHER: [{"rejected": False, "descriptions": [described("C sits.", 4.0, "0")]}],
        AWAY: [{"rejected": False, "descriptions": [described("C runs.", 4.0, "1")]}],
    },
}


def test_ego_exo_descriptions_are_moments_of_the_wearers_video(tmp_path: Path) -> None:
    take = tmp_path / "takes" / "unc_bike_02" / "frame_aligned_videos"
    for name in ("aria01_214-1.mp4", "cam01.mp4", "downscaled/448/aria01_214-1.mp4", "aria01_1201-1.mp4"):
        write(take / name, "")
    write(tmp_path / "takes" / f"{OTHER}.mp4", "")
    takes = [{"take_uid": UID, "take_name": "unc_bike_02", "root_dir": "takes/unc_bike_02", "duration_sec": 60.5}]
    write(tmp_path / "takes.json", json.dumps(takes))
    path = write(tmp_path / "annotations" / "atomic_descriptions_val.json", json.dumps(EGO_EXO))
    data = read_data(path, tmp_path)
    assert data == read_data(path, tmp_path / "takes")
    assert clips(data) == [
        ("aria01_214-1.mp4", 16.5, 20.5, ("C touches the screw.",)),
        ("aria01_214-1.mp4", 18.0, 22.0, ("C turns the screw.",)),
        ("aria01_214-1.mp4", 0.0, 2.75, ("The man X walks.",)),
        (f"{OTHER}.mp4", 2.0, 6.0, ("C sits.",)),
    ]
    assert data.missing == 1 and not data.labels
    assert data.clips[0].video == (take / "downscaled/448/aria01_214-1.mp4").absolute()
    assert [event.start for event in data.events[data.clips[0].video]] == [0.0, 16.5, 18.0]
    write(tmp_path / "takes.json", "[{}]")
    with pytest.raises(VljEdgeError, match=r"takes\.json"):
        read_data(path, tmp_path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", '{"annotations": {}}'),
        ("a.json", '{"annotations": []}'),
        ("a.json", '{"annotations": {"video0": [{"descriptions": [{"text": 3, "timestamp": 1}]}]}}'),
        ("a.json", '{"annotations": {"video0": [{"descriptions": [{"text": "C", "timestamp": -1}]}]}}'),
        ("a.json", '{"annotations": {"elsewhere": [{"descriptions": [{"text": "C", "timestamp": 1}]}]}}'),
        ("a.json", "{"),
        ("a.json", "[]"),
        ("a.json", "[" * 100_000),
        ("a.json", '{"videos": []}'),
        ("a.json", '{"sentences": []}'),
        ("a.json", '[{"id": "video0"}]'),  # as of a test set: without its answers
        ("a.json", '[{"id": "video0", "template": " "}]'),
        ("a.csv", "video_id,sentence\nvideo0\n"),
        ("a.csv", "label,youtube_id,time_start,time_end\nwaving,video0,9,9\n"),
        ("a.csv", "label,youtube_id,time_start,time_end\nwaving,video0,nan,9\n"),
        ("a.csv", "label,youtube_id,time_start,time_end\nwaving,video0,1\n"),
        ("a.csv", "label,youtube_id,time_start,time_end\n"),
        ("a.json", json.dumps(SOMETHING)),  # whose videos are elsewhere
    ],
)
def test_what_is_damaged_is_named(name: str, text: str, tmp_path: Path) -> None:
    write(tmp_path / "video0.mp4", "")
    with pytest.raises(VljEdgeError, match=name):
        read_data(write(tmp_path / name, text))


@pytest.mark.parametrize("name", ["a.csv", "."])
def test_a_folder_of_videos_is_for_published_files(name: str, tmp_path: Path) -> None:
    write(tmp_path / "red" / "video0.mp4", "")
    write(tmp_path / "a.csv", "video,text\nred/video0.mp4,red\n")
    with pytest.raises(VljEdgeError, match="published"):
        read_data(tmp_path / name, tmp_path / "red")
