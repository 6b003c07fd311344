"""Compare the embedding of every window with a few sentences. No decoder is loaded.

python examples/compare_with_texts.py examples/media/demo.mp4 "the robot arm stays still" "the robot arm opens the door"
"""

import sys

import numpy as np

import vlj_edge

if len(sys.argv) < 3:
    print("usage: compare_with_texts.py VIDEO TEXT... (prints the nearest text of every window)", file=sys.stderr)
    sys.exit(2)

video, *sentences = sys.argv[1:]
try:
    with vlj_edge.load() as model:
        texts = np.stack([model.embed_text(sentence) for sentence in sentences])
        for item in model.embed(video):
            cosines = texts @ item.embedding
            print(f"{item.window.centre:6.1f} s  {cosines.max():.2f}  {sentences[cosines.argmax()]}")
except vlj_edge.VljEdgeError as error:
    sys.exit(f"error: {error}")
