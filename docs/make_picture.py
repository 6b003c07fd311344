"""Draw the README's moving picture: the demo video, four times as fast, with the texts that nano says about it.

python docs/make_picture.py
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

import vlj_edge

HERE = Path(__file__).parent
VIDEO = HERE.parent / "examples" / "media" / "demo.mp4"
OUT = HERE / "images" / "narration.webp"
STEP, SHOWN = 0.5, 125  # seconds of video between two pictures; milliseconds that each is shown
SIZE, BAR = 384, 56  # pixels: side of the video, height of the text below it
BACKGROUND, DIM, BRIGHT = (18, 20, 24), (130, 136, 148), (240, 242, 246)


def main() -> None:
    with vlj_edge.load() as model:
        events = [(event.centre, event.text) for event in model.narrate(VIDEO)]
    pictures = []
    with vlj_edge.open_source(VIDEO) as source:
        for frame in source:
            if frame.time >= len(pictures) * STEP:
                pictures.append(draw(frame, [event for event in events if event[0] <= frame.time][-2:]))
    first, *rest = pictures
    first.save(OUT, save_all=True, append_images=rest, duration=SHOWN, loop=0, quality=60, method=6)
    print(f"{OUT}: {len(pictures)} pictures, {OUT.stat().st_size / 1e6:.2f} MB")


def draw(frame: vlj_edge.Frame, said: list[tuple[float, str]]) -> Image.Image:
    """One picture: the frame, and below it the newest text and, dimmed, the one before."""
    picture = Image.new("RGB", (SIZE, SIZE + BAR), BACKGROUND)
    picture.paste(Image.fromarray(frame.image[:, :, ::-1]).resize((SIZE, SIZE)))
    canvas, font = ImageDraw.Draw(picture), ImageFont.load_default(14)
    for row, (time, text) in enumerate(said):
        newest = row == len(said) - 1
        canvas.text((10, SIZE + 8 + 22 * row), f"{time:5.1f} s  {text}", BRIGHT if newest else DIM, font)
    return picture


if __name__ == "__main__":
    main()
