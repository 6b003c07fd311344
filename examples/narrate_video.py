"""Say what happens in a video, when it changes.

python examples/narrate_video.py examples/media/demo.mp4
"""

import sys

import vlj_edge

if len(sys.argv) != 2:
    print("usage: narrate_video.py VIDEO (prints what happens in it, when it changes)", file=sys.stderr)
    sys.exit(2)

try:
    with vlj_edge.load() as model:  # or vlj_edge.load("path/to/a/bundle")
        narration = model.narrate(sys.argv[1])
        for event in narration:
            print(f"{event.begins:6.1f} s  {event.text}")
        print(f"{narration.totals.windows} windows, {narration.totals.decoder_runs} of them decoded")
except vlj_edge.VljEdgeError as error:
    sys.exit(f"error: {error}")
