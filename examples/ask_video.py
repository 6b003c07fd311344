"""Put questions to a video, each with a choice of answers. It is encoded once for all of them.

python examples/ask_video.py examples/media/demo.mp4 "Is the door open or closed?" "the door is open,the door is closed"
"""

import sys

import vlj_edge
from vlj_edge.runtime.embedding.ask import ask

video, *pairs = sys.argv[1:]
questions, choices = pairs[::2], [each.split(",") for each in pairs[1::2]]
for answer in ask(vlj_edge.load(), video, questions, choices):
    print(f"{answer.question}  {answer.choice}  ({answer.guesses[0].score:.2f})")
