"""Store the moments of videos once, and find one by a sentence.

python examples/search_library.py examples/media "the robot arm opens the drawer"
"""

import sys

import vlj_edge

if len(sys.argv) != 3:
    print("usage: search_library.py FOLDER_OF_VIDEOS TEXT (prints the moments that match TEXT)", file=sys.stderr)
    sys.exit(2)

videos, sentence = sys.argv[1:]
try:
    with vlj_edge.load() as model, vlj_edge.Store("library.store", model.manifest, write=True) as store:
        for done in vlj_edge.index(store, model, [videos]):
            print(f"{done.path}: {done.moments} moments", done.problem or "")
        for moment in vlj_edge.search(store, model.embed_text(sentence), top=3):
            print(f"{moment.score:.2f}  {moment.start:.1f} s to {moment.end:.1f} s  {moment.file}")
except vlj_edge.VljEdgeError as error:
    sys.exit(f"error: {error}")
