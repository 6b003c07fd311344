"""Which of a few labels does a video show, and when?

python examples/classify_video.py examples/media/demo.mp4 "opens the drawer" "closes the door" "hammers the nail"
"""

import sys

import vlj_edge
from vlj_edge.runtime.embedding.classify import watch
from vlj_edge.runtime.embedding.labels import make_bank

video, *labels = sys.argv[1:]
model = vlj_edge.load()
bank = make_bank(model, labels)  # save_bank() and load_bank() keep it for a device without the text encoder
settings = model.manifest.labels
for answer in watch(model.embed(video, query=settings.query or None), bank, settings):
    print(f"{answer.start:6.1f} s  {answer.label or 'none of these'}  ({answer.guesses[0].score:.2f})")
