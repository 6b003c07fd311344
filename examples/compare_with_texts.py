"""The embedding of every window against a few sentences: no decoder is loaded.

python examples/compare_with_texts.py examples/media/demo.mp4 "the robot arm stays still" "the robot arm opens the door"
"""

import sys

import numpy as np

import vlj_edge

video, *sentences = sys.argv[1:]
model = vlj_edge.load()
texts = np.stack([model.embed_text(sentence) for sentence in sentences])
for item in model.embed(video):
    cosines = texts @ item.embedding
    print(f"{item.window.centre:6.1f} s  {cosines.max():.2f}  {sentences[cosines.argmax()]}")
