"""README and docs are true: their commands exist, their links lead somewhere, their examples print what is shown."""

from __future__ import annotations

import re
import shlex
from itertools import chain
from pathlib import Path

import click
import PIL.Image
import pytest

from tests.cli.command import vlj_edge
from vlj_edge.bundle import nano_bundle, read_manifest
from vlj_edge.cli.group import cli

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
README = (ROOT / "README.md").read_text(encoding="utf-8")
LABELS = "opens the drawer,closes the door,hammers the nail"


def code(path: Path) -> list[str]:
    """The commands in a page's code blocks and inline code, without a prompt, with continued lines joined."""
    text = path.read_text(encoding="utf-8")
    blocks = [block.replace("\\\n", " ").splitlines() for block in re.findall(r"```\n(.*?)```", text, re.DOTALL)]
    inline = re.findall(r"`(vlj-edge [^`\n]+)`", text)
    return [re.sub(r"^(\w*\$ +)?", "", line) for line in [*chain.from_iterable(blocks), *inline]]


def test_the_readme_is_short_and_in_order() -> None:
    assert len(README.splitlines()) <= 130
    headings = re.findall(r"^## (.*)$", README, re.MULTILINE)
    assert headings == ["Is it for you?", "Try it", "Install", "Use it", "Five numbers", "How the folders fit", "Help"]


def test_the_readme_says_how_large_nano_is() -> None:
    megabytes = sum(file.bytes for file in read_manifest(nano_bundle()).files.values()) / 1e6
    assert f"`nano` ({megabytes:.0f} MB)" in README


def test_the_moving_picture_moves_and_is_small() -> None:
    picture = ROOT / "docs" / "images" / "narration.webp"
    assert picture.name in README and picture.stat().st_size < 1_500_000
    with PIL.Image.open(picture) as opened:
        assert opened.is_animated  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_command_of_a_page_exists_with_its_options(path: Path) -> None:
    for line in code(path):
        if not line.startswith("vlj-edge ") or line.startswith("vlj-edge COMMAND"):
            continue
        name, *words = shlex.split(line, comments=True)[1:]
        if name.startswith("-"):
            continue
        command = cli.get_command(click.Context(cli), name)
        if isinstance(command, click.Group) and words:
            command = command.get_command(click.Context(command), words.pop(0))
        assert command is not None, line
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        used = {word.split("=")[0] for word in words if re.match(r"-\w|--\w", word)}
        assert used <= known | {"--help"}, line


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_target_and_extra_of_a_page_exists(path: Path) -> None:
    rules = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")  # not what was installed: that may be older
    offered = set(re.findall(r"^([\w-]+) = \[", project.partition("[project.optional-dependencies]")[2], re.MULTILINE))
    text = path.read_text(encoding="utf-8")
    for rule in re.findall(r"(?:^|`)make ([a-z0-9-]+)", text, re.MULTILINE):
        assert rule in rules, rule
    for extras in re.findall(r"(?:-e \"?\.|vlj-edge|install \"?\.)\[([\w,-]+)\]", text):
        assert set(extras.split(",")) <= offered, extras


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_link_of_a_page_leads_somewhere(path: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        place, _, anchor = link.partition("#")
        target = path.parent / place if place else path
        assert target.exists(), link
        if anchor:
            page = target / "README.md" if target.is_dir() else target
            assert anchor in anchors(page), link


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_file_that_a_page_names_exists(path: Path) -> None:
    folders = "runtime|export|vlj_edge|tests|examples|benchmarks|results|docs"
    for name in re.findall(rf"`((?:{folders})/[\w./-]*)", path.read_text(encoding="utf-8")):
        assert (ROOT / name).exists(), name


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_of_the_docs_is_in_their_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    for path in ROOT.glob("docs/*.md"):
        assert path.name == "README.md" or f"({path.name})" in index, path.name


def shown_after(command: str) -> list[str]:
    """The output that the README shows for a command, up to its `...`."""
    lines = README.split(f"$ {command}\n")[1].split("```")[0].splitlines()
    return [line for line in lines if line != "..."]


@pytest.fixture
def beside_the_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)


def assert_printed(shown: list[str], printed: str) -> None:
    """Each line that is shown was printed: the same words, and numbers that differ by less than machines do."""
    lines = printed.splitlines()
    for line in shown:
        assert any(alike(line, other) for other in lines), f"not printed: {line}\n{printed}"


def alike(one: str, other: str) -> bool:
    number = r"\d+(?:\.\d+)?"
    one, other = (re.sub(rf'"clock": {number}', '"clock"', each) for each in (one, other))
    if re.sub(number, "N", one.strip()) != re.sub(number, "N", other.strip()):
        return False
    pairs = zip(re.findall(number, one), re.findall(number, other), strict=True)
    return all(abs(float(a) - float(b)) <= 0.05 for a, b in pairs)


def printed_by(command: str) -> str:
    done = vlj_edge(*shlex.split(command)[1:])
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_readme_classifies_as_it_shows(beside_the_examples: None) -> None:
    command = f'vlj-edge classify examples/media/demo.mp4 --labels "{LABELS}" --stream'
    assert_printed(shown_after(command), printed_by(command))


def test_the_readme_embeds_as_it_shows(beside_the_examples: None) -> None:
    labels = f'vlj-edge labels "{LABELS}" --out bank.npz'
    command = "vlj-edge embed examples/media/demo.mp4 --bank bank.npz --events --ring memory.vlj"
    assert labels in README
    printed_by(labels)
    assert_printed(shown_after(command), printed_by(command))


def test_the_readme_searches_as_it_shows(beside_the_examples: None, tmp_path: Path) -> None:
    pytest.importorskip("lancedb")
    index = "vlj-edge index examples/media --store library"
    command = 'vlj-edge search "the robot arm opens the drawer" --store library --top 2'
    assert index in README
    printed_by(index)
    assert_printed(shown_after(command), printed_by(command).replace(f"{tmp_path}/", "/home/me/vlj-edge/"))


def test_every_promise_names_tests_that_exist() -> None:
    rows = re.findall(r"^\| (?!promise|---)(.*) \|$", (ROOT / "docs" / "promises.md").read_text("utf-8"), re.MULTILINE)
    assert rows
    for row in rows:
        named = re.findall(r"`(tests/[\w/.]+)(?:::(\w+))?`", row)
        assert named, row
        for path, name in named:
            assert (ROOT / path).is_file(), row
            assert not name or f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), row
