"""Chromium, without a window, spoken to over its DevTools protocol: real mouse, touch and key events, its own log.

What the tests need of a browser is in that protocol itself, and Jupyter has brought a websocket client: so no driver is
installed beside the browser.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import websocket

NAMES = ("chromium", "chromium-browser", "google-chrome")
SECONDS = 60  # for an answer of the browser
DESKTOP, PHONE = (1280, 900), (390, 844)  # CSS pixels


def find() -> str | None:
    """The path of Chromium, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class BrowserError(Exception):
    """The page raised an error, or the browser refused a command."""


class Browser:
    """One Chromium with one page; a context manager."""

    socket = session = None

    def __init__(self, language: str = "en-US"):
        self.folder = Path(tempfile.mkdtemp(prefix="gluon_lenet-browser-"))
        self.downloads = self.folder / "downloads"
        self.downloads.mkdir()
        flags = [
            *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--mute-audio"),
            *("--remote-debugging-port=0", "--remote-allow-origins=*", f"--user-data-dir={self.folder}/profile"),
            *(f"--lang={language}", f"--accept-lang={language}", "--force-color-profile=srgb", "--hide-scrollbars"),
        ]
        environment = {**os.environ, "LANGUAGE": language}
        self.process = subprocess.Popen(
            [find(), *flags, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
        )
        self.numbers, self.events = itertools.count(1), []
        try:
            port = self._port()
            self.socket = websocket.create_connection(f"ws://127.0.0.1:{port[0]}{port[1]}", timeout=SECONDS)
            targets = self._call("Target.getTargets")["targetInfos"]
            target = next(target["targetId"] for target in targets if target["type"] == "page")
            self.session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Network", "Log"):
                self(f"{domain}.enable")
            self("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(self.downloads))
            self.window(*DESKTOP)
        except BaseException:
            self.close()
            raise

    def _port(self) -> tuple[str, str]:
        """The port and the path of the browser's socket, which it writes into its profile."""
        file = self.folder / "profile" / "DevToolsActivePort"
        for _ in range(10 * SECONDS):
            if file.exists() and len(lines := file.read_text().split()) == 2:
                return lines[0], lines[1]
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        raise BrowserError("Chromium does not start")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def close(self) -> None:
        """End the browser and remove its files."""
        if self.socket is not None:
            self.socket.close()
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _call(self, method: str, **params) -> dict:
        number = self._send(method, **params)
        while True:
            answer = json.loads(self.socket.recv())
            if answer.get("id") == number:
                if "error" in answer:
                    raise BrowserError(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)
            if answer.get("method") == "Page.javascriptDialogOpening":  # "Leave the page?": yes
                self._send("Page.handleJavaScriptDialog", accept=True)

    def _send(self, method: str, **params) -> int:
        """Send a command; returns its number, which the answer has."""
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        self.socket.send(json.dumps(message))
        return number

    def __call__(self, method: str, **params) -> dict:
        """Call a method of the DevTools protocol; events that arrive meanwhile are kept in `events`."""
        return self._call(method, **params)

    def window(self, width: int, height: int, touch: bool = False, scale: float = 1) -> None:
        """Take the size of a window, in CSS pixels, of a desktop or a phone."""
        self("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=touch)
        self("Emulation.setTouchEmulationEnabled", enabled=touch, maxTouchPoints=5 if touch else 1)

    def prefer(self, **features: str) -> None:
        """Set media features: `color_scheme="dark"`, `reduced_motion="reduce"`."""
        listed = [{"name": f"prefers-{name.replace('_', '-')}", "value": value} for name, value in features.items()]
        self("Emulation.setEmulatedMedia", features=listed)

    def open(self, address: str) -> None:
        """Load a page, anew if it is open already, and wait until it is loaded."""
        self("Page.navigate", url="about:blank")
        self.until("location.href === 'about:blank'")
        self.events.clear()
        self("Page.navigate", url=address)
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def js(self, expression: str):
        """The value of a JavaScript expression, awaited; raises BrowserError if it throws."""
        result = self("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            details = result["exceptionDetails"]
            raise BrowserError(details.get("exception", {}).get("description") or details["text"])
        return result["result"].get("value")

    def until(self, expression: str, seconds: float = SECONDS) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + seconds
        while not self.js(f"Boolean({expression})"):
            if time.monotonic() > end:
                raise BrowserError(f"not within {seconds} s: {expression}")
            time.sleep(0.02)

    def box(self, selector: str) -> tuple[float, float, float, float]:
        """The element's left, top, width and height in the window, after it was scrolled into view."""
        scroll = "e.scrollIntoView({block: 'center', behavior: 'instant'})"
        measure = "(b => [b.left, b.top, b.width, b.height])(e.getBoundingClientRect())"
        return tuple(self.js(f"(e => ({scroll}, {measure}))(document.querySelector({json.dumps(selector)}))"))

    def mouse(self, kind: str, x: float, y: float, **params) -> None:
        """One real mouse event: `mousePressed`, `mouseMoved`, `mouseReleased`."""
        self("Input.dispatchMouseEvent", type=kind, x=x, y=y, **params)

    def click(self, selector: str) -> None:
        """Click in the middle of an element."""
        left, top, width, height = self.box(selector)
        self.click_at(left + width / 2, top + height / 2)

    def click_at(self, x: float, y: float) -> None:
        """Click at a place in the window."""
        self.mouse("mouseMoved", x, y)
        for kind in ("mousePressed", "mouseReleased"):
            self.mouse(kind, x, y, button="left", buttons=int(kind == "mousePressed"), clickCount=1)

    def drag(self, points: Iterable[tuple[float, float]]) -> None:
        """Press the mouse at the first point, move along the others, release it."""
        points = list(points)
        self.mouse("mousePressed", *points[0], button="left", buttons=1, clickCount=1)
        for point in points[1:]:
            self.mouse("mouseMoved", *point, button="left", buttons=1)
        self.mouse("mouseReleased", *points[-1], button="left", buttons=0, clickCount=1)

    def swipe(self, points: Iterable[tuple[float, float]]) -> None:
        """The same with a finger."""
        points = [{"x": x, "y": y} for x, y in points]
        self("Input.dispatchTouchEvent", type="touchStart", touchPoints=points[:1])
        for point in points[1:]:
            self("Input.dispatchTouchEvent", type="touchMove", touchPoints=[point])
        self("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def press(self, key: str, modifiers: int = 0) -> None:
        """Press and release a key, by its DOM name: `ArrowLeft`, ` `, `Delete`."""
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        number = {"Tab": 9, "Enter": 13, "ArrowDown": 40}.get(key)  # links, lists and JupyterLab read it
        code = {} if number is None else {"windowsVirtualKeyCode": number, "code": key}
        self("Input.dispatchKeyEvent", type="keyDown", key=key, text=text, modifiers=modifiers, **code)
        self("Input.dispatchKeyEvent", type="keyUp", key=key, modifiers=modifiers, **code)

    def choose_files(self, selector: str, *paths: Path) -> None:
        """Give files to a file input."""
        root = self("DOM.getDocument")["root"]["nodeId"]
        node = self("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self("DOM.setFileInputFiles", files=[str(path) for path in paths], nodeId=node)

    def downloaded(self, name: str) -> Path:
        """The file that the page saves as `name`, once it is there."""
        path = self.downloads / name
        end = time.monotonic() + SECONDS
        while not path.exists() or list(self.downloads.glob("*.crdownload")):
            if time.monotonic() > end:
                raise BrowserError(f"{name} was not saved")
            time.sleep(0.05)
        return path

    def screenshot(self, whole: bool = False, **clip: float) -> bytes:
        """A PNG of the window, of the whole page, or of a part: x, y, width, height of the page."""
        params = {"format": "png"}
        if whole:
            size = self("Page.getLayoutMetrics")["cssContentSize"]
            clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"]}
        if clip:
            params |= {"clip": {**clip, "scale": 1}, "captureBeyondViewport": True}
        return base64.b64decode(self("Page.captureScreenshot", **params)["data"])

    def requests(self) -> list[str]:
        """The addresses that the page has asked for since `open`."""
        self.js("0")  # what has happened until now arrives before the answer
        return [e["params"]["request"]["url"] for e in self.events if e.get("method") == "Network.requestWillBeSent"]

    def complaints(self) -> list[str]:
        """Errors that the page has raised or the browser has logged since `open`."""
        self.js("0")
        found = []
        for event in self.events:
            if event.get("method") == "Runtime.exceptionThrown":
                details = event["params"]["exceptionDetails"]
                found.append(details.get("exception", {}).get("description") or details["text"])
            if event.get("method") == "Log.entryAdded" and event["params"]["entry"]["level"] == "error":
                found.append(event["params"]["entry"]["text"])
        return found
