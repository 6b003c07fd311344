"""Store the moments of videos, once, and find one by a sentence.

python examples/search_library.py FOLDER_OF_VIDEOS "the robot arm opens the drawer"
"""

import sys

import vlj_edge
from vlj_edge.runtime.library import Store, here, index, search

videos, sentence = sys.argv[1:]
model = vlj_edge.load()
with Store("library.store", model.manifest, write=True) as store:
    for done in index(store, here(model, store.query), [videos]):
        print(f"{done.path}: {done.moments} moments", done.problem or "")
    for moment in search(store, model.embed_text(sentence), top=3):
        print(f"{moment.score:.2f}  {moment.start:.1f} s to {moment.end:.1f} s  {moment.file}")
