"""Make export/families/things_classes.tsv, what `vlj-edge export things` knows of ImageNet's classes, from WordNet.

    apt-get download wordnet-base && dpkg -x wordnet-base_*.deb wordnet
    pip download --no-deps timm && unzip timm-*.whl timm/data/_info/imagenet_synsets.txt
    python benchmarks/things_classes.py wordnet/usr/share/wordnet timm/data/_info/imagenet_synsets.txt

A line a class, in the order of the classifier's outputs: its names, a tab, its hypernyms from near to far.
vlj_edge/captions/things.txt, what narrate says: the first name of every class, and each hypernym of several classes.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import click
from common import ROOT

CLASSES = ROOT / "export" / "families" / "things_classes.tsv"
CAPTIONS = ROOT / "vlj_edge" / "captions" / "things.txt"
_NAMES = 2  # of a class; further ones are rare words
_SEVERAL = 3
# Hypernyms that nobody calls a thing by, or that hold for half of all things.
_ABSTRACT = """
entity, physical entity, object, whole, unit, living thing, organism, chordate, artifact, instrumentality,
matter, substance, causal agent, abstraction, vertebrate, placental, conveyance, commodity, consumer goods,
covering, diapsid, anapsid, solid, domestic animal, craft, structure, invertebrate, device, equipment,
implement, instrument, self-propelled vehicle, wheeled vehicle, protective covering, arthropod, container,
furnishing, produce, natural object, carnivore, canine, feline, geological formation
"""


class Synset(NamedTuple):
    names: list[str]
    hypernyms: list[str]  # ids


@click.command()
@click.argument("wordnet", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("classes", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def main(wordnet: Path, classes: Path) -> None:
    synsets = read_nouns(wordnet / "data.noun")
    ids = [line.removeprefix("n") for line in classes.read_text(encoding="utf-8").split()]
    names = [own_names(synsets[each]) for each in ids]
    abstract = {" ".join(name.split()) for name in _ABSTRACT.split(",")}
    above = [[name for name in hypernyms(synsets, each) if name not in abstract] for each in ids]
    lines = [f"{', '.join(own)}\t{', '.join(others)}\n" for own, others in zip(names, above, strict=True)]
    CLASSES.write_text("".join(lines), encoding="utf-8")
    counts = Counter(name for others in above for name in dict.fromkeys(others))
    shared = [name for name, count in counts.items() if count >= _SEVERAL]
    bank = dict.fromkeys([own[0] for own in names] + sorted(shared))
    CAPTIONS.write_text("".join(f"{text}\n" for text in bank), encoding="utf-8")


def read_nouns(path: Path) -> dict[str, Synset]:
    """Read data.noun (wndb(5WN)): id, file, type, number of names, names with a sense each, number of pointers, ..."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith(" "):  # the licence
            continue
        fields = line.partition("|")[0].split()
        end = 4 + 2 * int(fields[3], 16)
        pointers = fields[end + 1 :]
        found[fields[0]] = Synset(
            [name.replace("_", " ") for name in fields[4:end:2]],
            [pointers[i + 1] for i in range(0, 4 * int(fields[end]), 4) if pointers[i] in ("@", "@i")],
        )
    return found


def own_names(synset: Synset) -> list[str]:
    """Return the names of a class without those in Latin, such as "Tinca tinca"."""
    first = synset.names[0]
    return [name for name in synset.names if name == first or not (name[0].isupper() and " " in name)][:_NAMES]


def hypernyms(synsets: dict[str, Synset], start: str) -> list[str]:
    """Return the first name of every hypernym, near ones first."""
    seen, level = [start], [start]
    while level:
        level = list(dict.fromkeys(above for each in level for above in synsets[each].hypernyms if above not in seen))
        seen += level
    return list(dict.fromkeys(synsets[each].names[0] for each in seen[1:]))


if __name__ == "__main__":
    main()
