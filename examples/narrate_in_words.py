"""Say what happens in a video in the words of a vision-language model on a server, when it changes.

python examples/narrate_in_words.py examples/media/demo.mp4 http://localhost:11434/v1 qwen3-vl:4b
"""

import sys

import vlj_edge

if len(sys.argv) != 4:
    print("usage: narrate_in_words.py VIDEO URL MODEL (prints what the model there says, on change)", file=sys.stderr)
    sys.exit(2)

video, url, name = sys.argv[1:]
try:
    words = vlj_edge.Words(vlj_edge.Endpoint(url, name), calls_per_hour=60)
    with vlj_edge.load() as model:
        narration = model.narrate(video, words=words)
        for event in narration:
            print(f"{event.begins:6.1f} s  {event.text}{' (stands in)' if event.stand_in else ''}")
        print(f"{narration.totals.windows} windows, {narration.totals.calls} calls")
except vlj_edge.VljEdgeError as error:
    sys.exit(f"error: {error}")
