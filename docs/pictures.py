"""The page in a browser -> the pictures in docs/pictures: one that moves, and four that do not. `make pictures`"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw

import strokes
from browser import DESKTOP, PHONE, Browser
from gluon_lenet import demo
from gluon_lenet.atomic import write_atomically
from lenet_page import Page

FOLDER = Path(__file__).with_name("pictures")
MOVING = (1200, 1040)  # CSS pixels of the window
WIDTH = 800  # pixels of the moving picture
DIGIT = 5
LARGEST = 1_000_000  # bytes


def main() -> None:
    """Write all pictures and print their sizes."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lenet.html"
        assert demo.main(["--output", str(path)]) == 0
        pictures = {}
        with Browser("en-US") as browser:
            page = Page(browser, path.as_uri())
            pictures["drawing.webp"] = moving(page)
            pictures["desktop.png"] = still(page, DESKTOP, 7, "light", whole=True)
            pictures["dark.png"] = still(page, DESKTOP, 3, "dark")
            pictures["phone.png"] = still(page, PHONE, 4, "light", touch=True)
        with Browser("zh-CN") as browser:
            pictures["chinese.png"] = still(Page(browser, path.as_uri()), DESKTOP, 2, "light", language="zh")
    for name, data in pictures.items():
        assert len(data) < LARGEST, f"{name} has {len(data):,} bytes"
        write_atomically(FOLDER / name, data)
        print(f"docs/pictures/{name}: {len(data):,} bytes")


def still(page: Page, window, digit: int, scheme: str, language="en", touch=False, whole=False) -> bytes:
    """The page with a drawn digit: the window, or all of it, in 256 colours."""
    browser = page.browser
    browser.window(*window, touch=touch, scale=2 if touch else 1)
    browser.prefer(color_scheme=scheme)
    page.open(f"language={language}")
    page.draw(strokes.DIGITS[digit], finger=touch)
    left, top, width, height = browser.box(".overview .column:nth-child(4) .maps")
    browser.click_at(left + 0.35 * width, top + 0.4 * height)
    browser.until("document.querySelector('.why').dataset.patches === 'done'")
    browser.js("document.activeElement.blur(); scrollTo(0, 0)")
    page.settle()
    file = io.BytesIO()
    Image.open(io.BytesIO(browser.screenshot(whole=whole))).convert("RGB").quantize(256).save(
        file, "PNG", optimize=True
    )
    return file.getvalue()


def moving(page: Page) -> bytes:
    """A digit being drawn, then cells being pointed at, as an animated WebP."""
    browser = page.browser
    browser.window(*MOVING)
    browser.prefer(color_scheme="light")
    page.open()
    browser.click("#clear")
    frames = []
    left, top, width, height = browser.box("#pad canvas")
    for stroke in strokes.DIGITS[DIGIT]:
        points = [(left + x * width, top + y * height) for x, y in stroke]
        browser.mouse("mousePressed", *points[0], button="left", buttons=1, clickCount=1)
        for number, point in enumerate(points):
            browser.mouse("mouseMoved", *point, button="left", buttons=1)
            if number % 2 == 0:
                frames.append((_frame(page, point), 70))
        browser.mouse("mouseReleased", *points[-1], button="left", buttons=0, clickCount=1)
    frames.append((_frame(page, points[-1]), 900))
    left, top, width, height = browser.box(".overview .column:nth-child(4) .maps")
    for step in range(12):
        point = (left + width * (0.1 + 0.06 * step), top + height * (0.42 + 0.01 * step))
        browser.mouse("mouseMoved", *point)
        frames.append((_frame(page, point), 160))
    frames.append((_frame(page, point), 1500))
    images, durations = zip(*frames, strict=True)
    file = io.BytesIO()
    images[0].save(
        file, "WEBP", save_all=True, append_images=images[1:], duration=list(durations), loop=0, quality=72, method=6
    )
    return file.getvalue()


def _frame(page: Page, pointer: tuple[float, float]) -> Image.Image:
    """The window with a mark where the pointer is, at the picture's size."""
    page.settle()
    image = Image.open(io.BytesIO(page.browser.screenshot())).convert("RGB")
    x, y = pointer
    ImageDraw.Draw(image).ellipse((x - 7, y - 7, x + 7, y + 7), outline="#b8125c", width=3)
    height = round(image.height * WIDTH / image.width)
    return image.resize((WIDTH, height), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    main()
