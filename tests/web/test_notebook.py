"""`DrawingPad` in JupyterLab, in Chromium: a digit drawn with the mouse is answered by the net in the kernel."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from contextlib import suppress

import nbformat
import pytest

import strokes
from browser import Browser
from conftest import module_env

pytestmark = pytest.mark.web

CELL = """
from gluon_lenet.inference.trained import Trained
from gluon_lenet.viz import DrawingPad
trained = Trained({run!r}, ctx="cpu")
pad = DrawingPad(trained.net, "mnist", trained.transform)
pad
"""
PROMPT = "document.querySelector('.jp-InputArea-prompt').textContent.trim()"
HOST = "[...document.querySelectorAll('.jp-OutputArea *')].find(e => e.shadowRoot)"


def in_widget(expression: str) -> str:
    """An expression of `root`, the widget's own document, false while there is none."""
    return f"(found => found && (root => {expression})(found.shadowRoot))({HOST})"


@pytest.fixture
def notebook(tmp_path):
    """The address of a notebook with the widget, in a JupyterLab of its own; not yet executed."""
    run = "pretrained:augmented_mnist"
    cells = [nbformat.v4.new_code_cell(CELL.format(run=run).strip())]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), tmp_path / "pad.ipynb")
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip", "127.0.0.1", "--port", "0", "--allow-root"]
    command += ["--expose-app-in-browser", "--IdentityProvider.token=", "--ServerApp.disable_check_xsrf=True"]
    log = tmp_path / "jupyter.log"
    with log.open("w") as output:
        server = subprocess.Popen(
            command, cwd=tmp_path, stdout=output, stderr=output, env=module_env(JUPYTER_CONFIG_DIR=str(tmp_path))
        )
    try:
        while not (found := re.search(r"http://127\.0\.0\.1:\d+/", log.read_text())):
            assert server.poll() is None, log.read_text()
            time.sleep(0.1)
        yield f"{found[0]}lab/tree/pad.ipynb"
    finally:
        server.terminate()
        with suppress(subprocess.TimeoutExpired):
            server.wait(60)
        server.kill()
        server.wait()


def test_a_drawing_is_answered_by_the_kernel(notebook):
    with Browser() as browser:
        browser.open(notebook)
        browser.until("window.jupyterapp && document.querySelector('.jp-Notebook')", 180)
        browser.until("document.querySelector('.jp-Notebook-ExecutionIndicator[data-status=idle]')", 180)
        while browser.js(PROMPT) == "[ ]:":  # JupyterLab drops keys until its editor is ready
            browser.click(".jp-InputArea-editor")
            browser.press("Enter", modifiers=8)  # Shift+Enter runs the cell
            time.sleep(5)
        browser.until(f"/\\d/.test({PROMPT})", 180)  # [*]: while it runs, then its number
        browser.until(in_widget("root.querySelector('.big').textContent === '8'"), 180)
        assert browser.js(in_widget("root.querySelectorAll('.column').length")) == 8
        paper = f"{HOST}.shadowRoot.querySelector('.paper').getBoundingClientRect()"
        browser.js(f"{HOST}.scrollIntoView({{block: 'start'}})")
        for digit in (3, 7):
            browser.js(f"{HOST}.shadowRoot.querySelector('button').click()")
            left, top, width, height = browser.js(f"(b => [b.left, b.top, b.width, b.height])({paper})")
            for stroke in strokes.DIGITS[digit]:
                browser.drag([(left + x * width, top + y * height) for x, y in stroke])
            browser.until(in_widget(f"root.querySelector('.big').textContent === '{digit}'"))
        assert not browser.complaints()
