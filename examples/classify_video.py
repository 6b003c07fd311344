"""Which of a few labels does a video show, and when?

python examples/classify_video.py examples/media/demo.mp4 "opens the drawer" "closes the door" "hammers the nail"
"""

import sys

import vlj_edge

if len(sys.argv) < 3:
    print("usage: classify_video.py VIDEO LABEL... (prints which label the video shows, and when)", file=sys.stderr)
    sys.exit(2)

video, *labels = sys.argv[1:]
try:
    with vlj_edge.load() as model:
        bank = vlj_edge.make_bank(model, labels)  # save_bank() keeps it for a device without the text encoder
        settings = model.manifest.labels
        windows = model.embed(video, query=settings.query or None)
        for answer in vlj_edge.watch(windows, bank, settings):
            print(f"{answer.start:6.1f} s  {answer.label or 'none of these'}  ({answer.score:.2f})")
except vlj_edge.VljEdgeError as error:
    sys.exit(f"error: {error}")
