"""Ask questions about a video, each with a choice of answers. The video is encoded once for all of them.

python examples/ask_video.py examples/media/demo.mp4 "Is the door open or closed?" "the door is open,the door is closed"
"""

import sys

import vlj_edge

if len(sys.argv) < 4 or len(sys.argv) % 2:
    print("usage: ask_video.py VIDEO [QUESTION ANSWER,ANSWER,...]... (prints the likeliest answer)", file=sys.stderr)
    sys.exit(2)

video, *pairs = sys.argv[1:]
questions, choices = pairs[::2], [answers.split(",") for answers in pairs[1::2]]
try:
    with vlj_edge.load() as model:
        for answer in vlj_edge.answer_questions(model, video, questions, choices):
            print(f"{answer.question}  {answer.choice}  ({answer.guesses[0].score:.2f})")
except vlj_edge.VljEdgeError as error:
    sys.exit(f"error: {error}")
