"""Keys of built engines: one of a user, one of a machine or a named one; none that others could sign with."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

import pytest

from tests.bundle.test_engine_cache import CARD, put
from tests.cli.command import error_of, python, run_here
from vlj_edge.bundle import read_manifest, signature
from vlj_edge.bundle.engine_cache import find_engine
from vlj_edge.errors import VljEdgeError

pytestmark = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="files have no owner and mode here")


@pytest.fixture(autouse=True)
def no_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user and a machine without keys."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv(signature.KEY_FILE, raising=False)
    monkeypatch.setattr(signature, "MACHINE_KEY", tmp_path / "etc" / "engines.key")


def key(path: Path, mode: int = 0o600, content: bytes = b"k" * 32) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)
    return path


def is_run(bundle: Path) -> bool:
    try:
        find_engine(bundle, read_manifest(bundle), "predictor", CARD)
    except VljEdgeError as error:
        assert "not signed" in str(error) and "--key-file" in str(error) and "--engines" in str(error)
        return False
    return True


def test_the_machines_key_serves_every_user_who_may_read_it(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = key(tmp_path / "etc" / "engines.key", 0o640)
    put(bundle, read_manifest(bundle))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "another user"))
    assert is_run(bundle)
    monkeypatch.setattr(signature, "_may_read", lambda path: False)  # a user outside its group
    assert not is_run(bundle)
    put(bundle, read_manifest(bundle))
    assert is_run(bundle), "signed with the user's own"
    monkeypatch.undo()
    assert machine.read_bytes() == b"k" * 32


def test_a_users_engines_go_on_when_the_machine_gets_a_key(bundle: Path, tmp_path: Path) -> None:
    put(bundle, read_manifest(bundle))
    key(tmp_path / "etc" / "engines.key")
    assert is_run(bundle)


def test_a_named_key_is_the_only_one(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(bundle, read_manifest(bundle))
    named = tmp_path / "volume" / "engines.key"
    monkeypatch.setenv(signature.KEY_FILE, str(named))
    assert not is_run(bundle) and not named.exists(), "looking makes no key"
    put(bundle, read_manifest(bundle))
    assert is_run(bundle) and named.stat().st_mode & 0o777 == 0o600


def test_a_key_made_in_a_groups_folder_is_the_groups_to_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o2750)
    if not folder.stat().st_mode & 0o2000:
        pytest.skip("this file system has no setgid bit")
    monkeypatch.setenv(signature.KEY_FILE, str(folder / "engines.key"))
    signature.sign(b"x")
    assert (folder / "engines.key").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o644, 0o660, 0o620, 0o666, 0o777, 0o601], ids=oct)
@pytest.mark.parametrize("whose", ["machine", "user", "named"])
def test_a_key_that_others_can_use_is_refused(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whose: str, mode: int
) -> None:
    places = {"machine": "etc/engines.key", "user": "data/vlj-edge/machine.key", "named": "any.key"}
    path = key(tmp_path / places[whose], mode)
    if whose == "named":
        monkeypatch.setenv(signature.KEY_FILE, str(path))
    message = rf"{re.escape(str(path))} .*chmod 640"
    with pytest.raises(VljEdgeError, match=message):
        put(bundle, read_manifest(bundle))
    with pytest.raises(VljEdgeError, match=message):
        signature.signing_key(b"x", "")


_AS_ANOTHER_USER = """
import os, sys
from pathlib import Path
from vlj_edge.bundle import signature

signature.MACHINE_KEY = Path(sys.argv[1])
try:
    os.setgroups([int(sys.argv[3])])
    os.setgid(12345), os.setuid(12345)
except OSError:
    sys.exit(77)
print(signature.signing_key(b"content", sys.argv[2]))
"""


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become another user")
def test_members_of_the_keys_group_run_what_root_built_and_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as folder:  # others may not search pytest's own
        os.chmod(folder, 0o755)
        closed = Path(folder) / "etc"
        closed.mkdir()
        try:
            os.chown(closed, 0, 4321)
        except OSError:
            pytest.skip("root has no power over users here")
        closed.chmod(0o2750)
        monkeypatch.setenv(signature.KEY_FILE, str(closed / "engines.key"))
        signed = signature.sign(b"content")
        monkeypatch.delenv(signature.KEY_FILE)
        monkeypatch.setenv("XDG_DATA_HOME", folder)
        for group, found in (("4321", str(closed / "engines.key")), ("4322", "None")):
            done = python(_AS_ANOTHER_USER, closed / "engines.key", signed, group)
            if done.returncode == 77:
                pytest.skip("root has no power over users here")
            assert (done.stdout.strip(), done.returncode) == (found, 0), done.stderr


def test_a_user_without_a_home_has_the_machines_key_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setattr(signature.Path, "home", nowhere)
    (tmp_path / "etc").write_text("not a folder")
    assert signature.signing_key(b"x", "") is None
    with pytest.raises(VljEdgeError, match=r"engines\.key .*--key-file"):
        signature.sign(b"x")
    (tmp_path / "etc").unlink()
    key(tmp_path / "etc" / "engines.key")
    assert signature.signing_key(b"x", signature.sign(b"x")) == tmp_path / "etc" / "engines.key"


@pytest.mark.parametrize("harm", ["empty", "short", "long", "pipe", "folder", "another user's"])
def test_what_is_no_key_of_ours_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: str) -> None:
    path = tmp_path / "any.key"
    monkeypatch.setenv(signature.KEY_FILE, str(path))
    if harm == "pipe":
        os.mkfifo(path)
    elif harm == "folder":
        path.mkdir()
    else:
        key(path, content=b"k" * {"empty": 0, "short": 31, "long": 33}.get(harm, 32))
    if harm == "another user's":
        monkeypatch.setattr(signature.os, "geteuid", lambda: os.getuid() + 1)
        if path.stat().st_uid == 0:
            try:
                os.chown(path, 12345, -1)
            except OSError:
                pytest.skip("there is no second user here")
    for use in (lambda: signature.sign(b"x"), lambda: signature.signing_key(b"x", "")):
        with pytest.raises(VljEdgeError, match=re.escape(str(path))):
            use()


def test_verify_says_who_signed_with_which_key(bundle: Path, tmp_path: Path) -> None:
    path = put(bundle, read_manifest(bundle))
    done = run_here("verify", bundle)
    own = tmp_path / "data" / "vlj-edge" / "machine.key"
    assert done.returncode == 0 and re.search(rf"predictor: signed by .+ on .+ with {re.escape(str(own))}", done.stdout)
    other = run_here("verify", bundle, "--key-file", tmp_path / "other.key")
    assert other.returncode == 0 and f"--engines {path.parent}" in other.stdout and "signed by" not in other.stdout
    assert signature.KEY_FILE not in os.environ, "the option is for one call"
    path.write_bytes(b"another plan")
    assert "predictor" in error_of(run_here("verify", bundle))


def test_verify_refuses_a_key_that_everyone_can_read(bundle: Path, tmp_path: Path) -> None:
    put(bundle, read_manifest(bundle))
    bad = key(tmp_path / "bad.key", 0o644)
    assert str(bad) in error_of(run_here("verify", bundle, "--key-file", bad))
