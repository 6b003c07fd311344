"""A query on which the model was not trained is answered like one on which it was, and a line says so."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest

import vlj_edge
from tests.bundle.damage import edit
from tests.cli.command import run_here
from tests.runtime.service.stations import Film, run
from tests.runtime.tiny_bundle import RED
from vlj_edge import VljEdgeError
from vlj_edge.bundle import nano_bundle, read_manifest
from vlj_edge.export.calibrated import read_queries
from vlj_edge.runtime.embedding.ask import answer_questions
from vlj_edge.runtime.model import Model
from vlj_edge.runtime.service.settings import SourceSettings
from vlj_edge.runtime.service.station import Station
from vlj_edge.runtime.words.queries import TrainedQueries


@pytest.fixture(scope="module")
def trained(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that says what it was trained to be asked."""
    copy = Path(shutil.copytree(tiny_bundle, tmp_path_factory.mktemp("queries") / "bundle"))
    edit(copy, lambda raw: raw.update(queries=["describe", "what colour is it"]))
    return copy


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.startswith("vlj_edge")]


def test_nano_says_what_it_was_trained_to_be_asked() -> None:
    manifest = read_manifest(nano_bundle())
    assert (
        manifest.queries == read_queries(Path(vlj_edge.export.__file__).parent / "nano") and len(manifest.queries) > 30
    )
    assert {manifest.default_query, manifest.labels.query, "Is the drawer open or closed?"} <= set(manifest.queries)
    queries = TrainedQueries(manifest)
    for query in ("describe  the VIDEO", "What is happening?", " Name the task"):
        assert query in queries
    for query in ("asdf", "Is there a robot?", "Describe the video in French.", ""):
        assert query not in queries


@pytest.mark.parametrize("name", ["narrate", "embed", "ask", "answer_questions"])
def test_another_query_is_logged_once(
    name: str, trained: Path, make_video: Film, caplog: pytest.LogCaptureFixture
) -> None:
    video = make_video([(RED, 2)])
    with Model(trained) as model:

        def call(query: str) -> None:
            if name == "answer_questions":
                answer_questions(model, video, [query], [["red", "blue"]])
            else:
                list(getattr(model, name)(video, [query] if name == "ask" else query))

        for query in ("describe", "Describe.", "what colour  is it?"):
            call(query)
        assert warnings(caplog) == []
        for _ in range(2):
            call("asdf")
    [line] = warnings(caplog)
    assert "asdf" in line and "describe" in line and "\n" not in line


def test_a_bundle_that_does_not_say_is_asked_anything(
    tiny_bundle: Path, make_video: Film, caplog: pytest.LogCaptureFixture
) -> None:
    with Model(tiny_bundle) as model:
        list(model.narrate(make_video([(RED, 2)]), "asdf"))
    assert warnings(caplog) == []


def test_a_server_that_is_asked_anything_logs_little(caplog: pytest.LogCaptureFixture) -> None:
    queries = TrainedQueries(read_manifest(nano_bundle()))
    queries.warn_of_others(f"{number} " * 500 for number in range(1000))
    assert 1 < len(warnings(caplog)) < 50 and max(map(len, warnings(caplog))) < 400


def test_commands_and_stations_say_it(trained: Path, make_video: Film, caplog: pytest.LogCaptureFixture) -> None:
    video = make_video([(RED, 2)])
    for command in (("narrate",), ("embed",), ("classify", "--labels", "red,blue")):
        done = run_here(command[0], video, *command[1:], "--bundle", trained, "--query", "asdf")
        assert done.returncode == 0 and done.stdout
        lines = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
        assert len(lines) == 1 and "'asdf'" in lines[0] and '"describe"' in lines[0]
        assert "warning" not in run_here(command[0], video, *command[1:], "--bundle", trained).stderr
    assert "'asdf'" in run_here("ask", video, "asdf", "--choices", "red,blue", "--bundle", trained).stderr
    assert "what colour is it" in run_here("inspect", trained).stdout
    with Model(trained) as model, caplog.at_level(logging.WARNING):
        run(Station(model, [SourceSettings("door", str(video), query="asdf")]))
    assert len([line for line in warnings(caplog) if "'asdf'" in line]) == 1


@pytest.mark.parametrize("choices", [None, [["yes", "no"]], [["Yes.", "NO!"]], [["true", "false"]]])
def test_yes_and_no_are_no_evidence(
    choices: list[list[str]] | None, trained: Path, make_video: Film, tiny_bundle: Path
) -> None:
    video = make_video([(RED, 2)])
    with Model(trained) as model:
        with pytest.raises(VljEdgeError, match=r"'is it red'.*--choices \""):
            answer_questions(model, video, ["is it red"], choices)
        for fine in ([["yes it is red", "no it is blue"]], [["red", "no"]]):
            assert answer_questions(model, video, ["is it red"], fine)
        if choices is not None:
            with pytest.raises(
                VljEdgeError, match="same to the text encoder"
            ):  # known words, were they in its vocabulary
                answer_questions(model, video, ["what colour is it"], choices)
    done = run_here("ask", video, "is it red", "--bundle", trained, *(["--choices", "yes,no"] if choices else []))
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1 and "--choices" in done.stderr
