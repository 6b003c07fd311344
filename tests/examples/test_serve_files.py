"""The configuration and unit files for running vlj-edge serve permanently."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.cli.command import run_here
from vlj_edge.bundle import GateSettings
from vlj_edge.runtime.service.config import Config, FileOptions, read_config

SERVE = Path(__file__).parents[2] / "examples" / "serve"


def test_the_config_is_right_and_so_is_what_it_comments_out(tmp_path: Path) -> None:
    config = read_config(SERVE / "serve.toml")
    assert config.source_names == ["bench"]
    text = re.sub(r"^# (?=[\w\[])", "", (SERVE / "serve.toml").read_text().partition("\n")[2], flags=re.M)
    (tmp_path / "all.toml").write_text(text)
    whole = read_config(tmp_path / "all.toml")
    assert whole.source_names == ["bench", "door"]
    assert [alert.name for alert in whole.alerts] == ["door open"]
    assert {*whole.options, "source", "alert"} == {each.name for each in dataclasses.fields(FileOptions)}, (
        "every option is there"
    )
    gates = whole.sources(GateSettings())[1].gates
    assert gates is not None and gates.meaning.speak_below == 0.9


@pytest.mark.slow
def test_the_example_of_alerts_tells_of_the_drawer_in_the_demo_video(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(SERVE.parents[1])
    text = (SERVE / "alerts.toml").read_text()
    done = run_here("alerts", "test", "--config", "examples/serve/alerts.toml", "examples/media/demo.mp4", "--json")
    found = json.loads(done.stdout)
    begins = [event["since"] for event in found["events"] if event["kind"] == "start"]
    assert len(begins) == 1 and 9 <= begins[0] <= 15  # of the 80 seconds
    whole = re.sub(r"^# (?=\w+ = )", "", text, flags=re.M)
    (alert,) = read_config_text(whole).alerts
    assert alert.keep > 0 and alert.quiet is not None and alert.confirm is not None and alert.cameras == ("bench",)


def read_config_text(text: str) -> Config:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "all.toml")
        path.write_text(text)
        return read_config(path)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "vlj-edge.service"
    text = (SERVE / "vlj-edge.service").read_text()
    unit.write_text(text.replace("/opt/vlj-edge/bin/vlj-edge", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "vlj-edge.service" not in done.stderr, done.stderr
