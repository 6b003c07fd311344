"""How well, and how fast, the bundle of `vlj-edge export things` names pictures that nobody chose anything by.

    apt-get download gcompris-qt-data tuxpaint-stamps-default
    dpkg -x gcompris-qt-data_*.deb data && dpkg -x tuxpaint-stamps-default_*.deb data
    python benchmarks/things.py data --bundle things-fp32 [--half choosing]

photos  of GCompris' activities about tools, animals and the like: one of 93 words for each
stamps  of Tux Paint, cut out on white, without symbols, signs, flags and cartoons: the first sentence about each among
        those about all
speed   windows a second of CPU time, with one thread for the engine: pictures of 640 x 360 in memory, preprocessing
        included

A picture is of the choosing or the judging half by the SHA-256 of its path. All settings of things were chosen on the
choosing half.
"""

from __future__ import annotations

import hashlib
import io
import re
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import numpy.typing as npt
from common import write
from PIL import Image

import vlj_edge

HALVES = ("choosing", "judging")
# What a picture's file name is called in English; the others are called by it. None: no single thing.
NAMES = {
    "blackslate": "blackboard",
    "buffetset": None,
    "bulb": "light bulb",
    "cuttingTool": "pliers",
    "dragon": "komodo dragon",
    "erasers": "eraser",
    "geothermal": None,
    "measuringTape": "measuring tape",
    "nailCutter": "nail clipper",
    "pan": "frying pan",
    "plier": "pliers",
    "polar_bear": "polar bear",
    "scarlet_macaw": "macaw",
    "screwDriver": "screwdriver",
    "sideCutter": "pliers",
    "solar": "solar panel",
    "spoons": "spoon",
    "spray": "spray bottle",
    "tweezer": "tweezers",
    "weighingMachine": "scale",
}
# Further words among which each photo's is found: the animals and fruits of GCompris' language lessons.
MORE = """
apple apricot bear bee beetle bird bull butterfly camel cat chicken coconut cow dog dolphin duck fish fly fox frog
giraffe gorilla hedgehog hippopotamus horse kangaroo kiwi lemon lizard melon mosquito mouse orange owl panda peach pear
pig plum rabbit raspberry rhinoceros shark sheep snail snake spider strawberry turkey turtle whale wolf
"""
PHOTOS = {
    "categorization": "images/(tools|renewable|fishes|others)/",
    "explore_world_animals": "animals/",
    "explore_farm_animals": "animals/",
}
NO_STAMPS = {"symbols", "cartoon", "roadsigns", "flags", "seasonal"}
Pixels = npt.NDArray[np.uint8]


class Picture(NamedTuple):
    text: str
    path: str
    pixels: Pixels  # [height, width, 3], BGR, on white

    @property
    def half(self) -> str:
        return HALVES[hashlib.sha256(self.path.encode()).digest()[0] % 2]


@click.command()
@click.argument("data", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--bundle", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--half", type=click.Choice(HALVES), help="Only this half, and write no results.")
@click.option("--extract", type=click.Path(path_type=Path), help="Write the photos of farm animals here, and stop.")
def main(data: Path, bundle: Path, half: str | None, extract: Path | None) -> None:
    if extract is not None:
        extract.mkdir(parents=True)
        for photo in read_photos(data):
            if "farm_animals" in photo.path:
                Image.fromarray(photo.pixels[..., ::-1]).save(extract / f"{photo.text}.png")
        return
    photos, stamps = list(read_photos(data)), list(read_stamps(data))
    words = sorted({photo.text for photo in photos} | set(MORE.split()))
    found: dict[str, Any] = {"megabytes": round(sum(path.stat().st_size for path in bundle.iterdir()) / 1e6, 2)}
    with vlj_edge.load(bundle, threads=1) as model:
        for name, pictures, texts in (
            ("photos", photos, words),
            ("stamps", stamps, sorted({stamp.text for stamp in stamps})),
        ):
            bank = vlj_edge.make_bank(model, texts)
            for each in HALVES if half is None else (half,):
                found[f"{name}, {each}"] = score(model, [one for one in pictures if one.half == each], bank)
        found["speed"] = speed(model)
    click.echo(found)
    if half is None:
        write("things.json", found, "python benchmarks/things.py DATA --bundle BUNDLE")


def score(model: vlj_edge.Model, pictures: list[Picture], bank: vlj_edge.LabelBank) -> dict[str, Any]:
    """Return top-1, top-5 and top-10 with a 95 % bootstrap interval of top-1, and top-1 as the mean over texts."""
    texts = list(bank.labels)
    cosines = np.stack([embed(model, picture.pixels) for picture in pictures]) @ bank.embeddings.T
    right = np.array([texts.index(picture.text) for picture in pictures])
    ranks = (cosines > cosines[np.arange(len(right)), right][:, None]).sum(1)
    first = ranks == 0
    drawn = np.random.default_rng(0).choice(first, (4000, len(first))).mean(1)
    by_text = [first[right == each].mean() for each in np.unique(right)]
    return {
        "pictures": len(pictures),
        "texts": len(texts),
        "top-1": rounded(first.mean()),
        "top-1 interval": [rounded(each) for each in np.percentile(drawn, (2.5, 97.5))],
        "top-1 by text": rounded(np.mean(by_text)),
        "top-5": rounded((ranks < 5).mean()),
        "top-10": rounded((ranks < 10).mean()),
    }


def embed(model: vlj_edge.Model, pixels: Pixels) -> npt.NDArray[np.float32]:
    frames = np.repeat(pixels[None], model.manifest.clip.frames, 0)
    [window] = model.embed(frames, every_window=True)
    return window.embedding


def speed(model: vlj_edge.Model) -> dict[str, float]:
    clip = model.manifest.clip
    frames = np.random.default_rng(0).integers(0, 256, (clip.frames + 99 * clip.stride, 360, 640, 3), np.uint8)
    seconds = []
    for _ in range(3):
        started = time.process_time()  # of all threads, so that what else the machine does counts for nothing
        windows = sum(1 for _ in model.embed(frames, every_window=True))
        seconds.append((time.process_time() - started) / windows)
    return {"windows a second of CPU time": round(1 / float(np.median(seconds)), 1), "threads": 1}


def read_photos(data: Path) -> Iterator[Picture]:
    for name, wanted in PHOTOS.items():
        for path, content in read_rcc(data / "usr/share/gcompris-qt/rcc" / f"{name}.rcc"):
            stem = re.sub(r"\d+$", "", Path(path).stem)
            text = NAMES.get(stem, stem)
            if path.endswith(".webp") and re.search(wanted, path) and text is not None:
                yield Picture(text, path, on_white(Image.open(io.BytesIO(content))))


def read_stamps(data: Path) -> Iterator[Picture]:
    folder = data / "usr/share/tuxpaint/stamps"
    for path in sorted(folder.rglob("*.png")):
        name, sentence = path.relative_to(folder), path.with_suffix(".txt")
        if NO_STAMPS & set(name.parts) or not sentence.is_file() or path.stem.endswith("_mirror"):
            continue
        line = sentence.read_text(encoding="utf-8").splitlines()[0].strip()
        first = re.split(r"(?<=[.!?])\s", line)[0]
        yield Picture(first, str(name), on_white(Image.open(path)))


def read_rcc(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of every file in Qt's binary resource file (qtbase, tools/rcc), version 2 or later."""
    content = path.read_bytes()
    _, tree, data, names = struct.unpack(">IIII", content[4:20])

    def walk(number: int, above: str) -> Iterator[tuple[str, bytes]]:
        node = tree + number * 22
        at, flags = struct.unpack(">IH", content[node : node + 6])
        (length,) = struct.unpack(">H", content[names + at : names + at + 2])
        name = content[names + at + 6 : names + at + 6 + 2 * length].decode("utf-16-be")
        here = f"{above}/{name}" if number else ""
        if flags & 2:  # a folder
            count, first = struct.unpack(">II", content[node + 6 : node + 14])
            for child in range(first, first + count):
                yield from walk(child, here)
            return
        (start,) = struct.unpack(">I", content[node + 10 : node + 14])
        (size,) = struct.unpack(">I", content[data + start : data + start + 4])
        stored = content[data + start + 4 : data + start + 4 + size]
        yield here, zlib.decompress(stored[4:]) if flags & 1 else stored

    yield from walk(0, "")


def on_white(picture: Image.Image) -> Pixels:
    picture = picture.convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    white.alpha_composite(picture)
    return np.ascontiguousarray(np.asarray(white.convert("RGB"))[..., ::-1])


def rounded(value: Any) -> float:
    return round(float(value), 3)


if __name__ == "__main__":
    main()
