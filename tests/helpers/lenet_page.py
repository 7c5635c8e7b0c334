"""The page in a browser -> what it computes and shows, for tests and pictures."""

from __future__ import annotations

import base64
import json

import numpy as np

from browser import Browser


class Page:
    """The page in a browser, and what it computes."""

    def __init__(self, browser: Browser, address: str):
        self.browser, self.address = browser, address

    def open(self, fragment: str = "language=en") -> Browser:
        """Load the page anew."""
        self.browser.open(f"{self.address}#{fragment}")
        return self.browser

    def logits(self, number: int, images: np.ndarray) -> np.ndarray:
        """The outputs of the page's net `number` for uint8 images (n, 28, 28)."""
        each = f"(_, i) => lenet.logits({number}, bytes.slice(784 * i, 784 * i + 784))"
        return np.array(self.browser.js(_with_bytes(images, f"Array.from({{length: {len(images)}}}, {each})")))

    def see(self, form: str, grey: np.ndarray) -> np.ndarray | str:
        """A grey picture in a data set's form, or the key of the error's text."""
        height, width = grey.shape
        call = (
            f"(({{image, error}}) => image ? Array.from(image) : error)(lenet.see('{form}', bytes, {height}, {width}))"
        )
        found = self.browser.js(_with_bytes(grey, call))
        return found if isinstance(found, str) else np.array(found, np.uint8).reshape(28, 28)

    def answer(self) -> str:
        """What the first card says now."""
        self.settle()
        return self.browser.js("document.querySelector('.big').textContent")

    def set(self, selector: str, value: float) -> None:
        """Give a slider or a choice a value, as its user does."""
        element = f"document.querySelector({json.dumps(selector)})"
        events = "for (const name of ['input', 'change']) e.dispatchEvent(new Event(name))"
        self.browser.js(f"(e => {{ e.value = {value}; {events} }})({element})")
        self.settle()

    def settle(self) -> None:
        """Wait for the next two frames."""
        self.browser.js("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done())))")

    def draw(self, strokes, finger: bool = False) -> None:
        """Draw strokes of points 0 to 1 on the pad."""
        left, top, width, height = self.browser.box("#pad canvas")
        for stroke in strokes:
            points = [(left + x * width, top + y * height) for x, y in stroke]
            (self.browser.swipe if finger else self.browser.drag)(points)


def _with_bytes(array: np.ndarray, expression: str) -> str:
    encoded = base64.b64encode(np.ascontiguousarray(array, np.uint8).tobytes()).decode()
    return f"(bytes => {expression})(Uint8Array.from(atob('{encoded}'), c => c.charCodeAt(0)))"
