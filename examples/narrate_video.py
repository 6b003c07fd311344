"""Say what happens in a video, when it changes.

python examples/narrate_video.py examples/media/demo.mp4
"""

import sys

import vlj_edge

model = vlj_edge.load()  # or vlj_edge.load("path/to/a/bundle")
narration = model.narrate(sys.argv[1])
for event in narration:
    print(f"{event.centre:6.1f} s  {event.text}")
print(f"{narration.totals.windows} windows, {narration.totals.decoder_runs} of them decoded")
