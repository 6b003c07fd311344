"""What a wearable runs: embeddings of a camera or video in a ring on the disk, and a line when something is new.

python examples/embed_on_device.py examples/media/demo.mp4 ring.vlj
"""

import sys
import time
from pathlib import Path

import vlj_edge

if len(sys.argv) != 3:
    print("usage: embed_on_device.py SOURCE RING_FILE (keeps embeddings, prints what is new)", file=sys.stderr)
    sys.exit(2)

source, ring = sys.argv[1], Path(sys.argv[2])
try:
    with vlj_edge.load() as model:
        width = model.manifest.embedding
        layout = vlj_edge.Layout("int8", width, vlj_edge.embedding_space(model.manifest), slots=100)
        novelty = vlj_edge.NoveltyDetector(0.7, width)
        with vlj_edge.RecordFile(ring, layout, sync=True) as records:
            for item in model.embed(source, every=1.0):
                records.write(item.window.centre, time.time(), item.embedding)
                if novelty.update(item.embedding) is not None:
                    print(f"{item.window.centre:6.1f} s  something new")
    kept = list(vlj_edge.read_records(ring))
    print(f"{len(kept)} embeddings kept, {ring.stat().st_size / 1e3:.1f} kB")
except vlj_edge.VljEdgeError as error:
    sys.exit(f"error: {error}")
