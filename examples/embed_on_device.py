"""What a wearable runs: embeddings of a camera or video in a ring on the disk, and a line when something is new.

python examples/embed_on_device.py SOURCE RING_FILE
"""

import sys
import time
from pathlib import Path

import vlj_edge
from vlj_edge.bundle.embedding_space import embedding_space
from vlj_edge.runtime.embedding.novelty import Novelty, notice
from vlj_edge.runtime.embedding.record_file import Layout, RecordFile, read_records

source, ring = sys.argv[1:]
model = vlj_edge.load()
width = model.manifest.embedding
layout = Layout("int8", width, embedding_space(model.manifest), slots=100)
with RecordFile(Path(ring), layout, sync=True) as records:
    for noticed in notice(model.embed(source, pause=1.0), bank=None, none_below=0.0, novelty=Novelty(0.7, width)):
        records.write(noticed.item.window.centre, time.time(), noticed.item.embedding)
        if noticed.event == "novel":
            print(f"{noticed.item.window.centre:6.1f} s  something new")
kept = list(read_records(Path(ring)))
print(f"{len(kept)} embeddings kept, {Path(ring).stat().st_size / 1e3:.1f} kB")
