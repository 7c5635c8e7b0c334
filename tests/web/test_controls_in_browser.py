"""The page's controls in Chromium: cells, nets side by side, sliders, languages, the keyboard, screen readers."""

from __future__ import annotations

import numpy as np
import pytest

import strokes
from browser import Browser
from gluon_lenet.inference.trained import Trained
from gluon_lenet.web import files
from gluon_lenet.web.describe import round_to_half
from gluon_lenet.web.samples import sample_images

pytestmark = pytest.mark.web


def test_a_cell_is_chosen_by_clicking_and_by_keys_and_stepped(lenet):
    left, top, width, height = lenet.browser.box(".overview .column:nth-child(4) .maps")
    lenet.browser.click_at(left + 0.1 * width, top + 0.1 * height)
    here = "document.querySelector('.here').textContent"
    first = lenet.browser.js(here)
    assert first.startswith("map 1, row 5, column 5:")
    assert (
        lenet.browser.js("document.querySelector('.layer h4').textContent")
        == "C3: 16 maps of 10×10 · convolution 5×5, ReLU"
    )
    assert lenet.browser.js("document.querySelectorAll('.overview .frame.window').length") == 6
    assert (
        lenet.browser.js("document.querySelector('.sees p').textContent")
        == "14×14 pixels: rows 7 to 20, columns 7 to 20."
    )
    lenet.browser.click(".stepper .main")
    assert lenet.browser.js(here).startswith("map 1, row 5, column 6:")
    lenet.browser.js("document.querySelector('.overview .column:nth-child(4) .maps').focus()")
    lenet.browser.press("ArrowDown")
    assert lenet.browser.js(here).startswith("map 1, row 6, column 6:")
    for _ in range(4):
        lenet.browser.press("ArrowRight")
    assert lenet.browser.js(here).startswith("map 1, row 6, column 10:")
    lenet.browser.press("ArrowRight")
    assert lenet.browser.js(here).startswith("map 2, row 6, column 1:")


def test_pointing_shows_a_cell_and_leaving_returns(lenet):
    here = "document.querySelector('.here').textContent"
    before = lenet.browser.js(here)
    left, top, _, _ = lenet.browser.box(".overview .column:nth-child(6) .maps")
    lenet.browser.mouse("mouseMoved", left + 4, top + 4)
    assert lenet.browser.js(here).startswith("unit 1:")
    lenet.browser.mouse("mouseMoved", left + 4, top - 60)
    assert lenet.browser.js(here) == before


def test_two_nets_side_by_side_show_that_they_disagree(lenet):
    lenet.browser.click("#compare")
    for number in range(1, 7):
        lenet.set(".card:nth-child(2) select", number)
        lenet.settle()
        answers = lenet.browser.js("[...document.querySelectorAll('.big')].map(e => e.textContent)")
        verdict = lenet.browser.js("document.querySelector('#verdict').textContent")
        assert len(answers) == 2
        if number > 3:
            assert verdict.startswith("The two nets know different classes")
        else:
            assert verdict == (
                f"Both say {answers[0]}."
                if answers[0] == answers[1]
                else f"They disagree: {answers[0]} on the left, {answers[1]} on the right."
            )


@pytest.mark.parametrize(
    ("name", "value"), [("turn", 60), ("right", 6), ("down", -6), ("scribble", 9), ("invert", 100)]
)
def test_a_slider_changes_what_the_net_sees(lenet, name, value):
    before = np.array(lenet.browser.js("Array.from(lenet.answers()[0].image)"))
    lenet.set(f"#slider-{name}", value)
    after = np.array(lenet.browser.js("Array.from(lenet.answers()[0].image)"))
    assert (before != after).any()
    if name == "invert":
        np.testing.assert_array_equal(after, 255 - before)
    if name == "right":
        np.testing.assert_array_equal(after.reshape(28, 28)[:, 6:], before.reshape(28, 28)[:, :-6])


def test_occlusion_is_what_gluon_says_without_a_patch(lenet):
    """The map of patches, recomputed with Gluon: the mean loss of log-odds over the patches that cover a pixel."""
    trained = Trained(files.PRETRAINED[0], ctx="cpu")
    round_to_half(trained.net)
    image = sample_images("mnist")[8]
    found = lenet.browser.js(
        """(image => [...lenet.occlude(lenet.nets[0], image, 28, x => lenet.input(lenet.nets[0], x), 8)].pop())(
          Uint8Array.from(IMAGE))""".replace("IMAGE", str(image.ravel().tolist()))
    )

    def log_odds(images):
        outputs = trained.net(trained.transform(images)).asnumpy().astype(np.float64)
        others = np.delete(outputs, 8, axis=1)
        return outputs[:, 8] - np.log(np.exp(others).sum(axis=1))

    corners = [(top, left) for top in range(-2, 28, 2) for left in range(-2, 28, 2)]
    masks = np.zeros((len(corners), 28, 28), bool)
    for mask, (top, left) in zip(masks, corners, strict=True):
        mask[max(top, 0) : top + 4, max(left, 0) : left + 4] = True
    lost = log_odds(image[None]) - log_odds(np.where(masks, 0, image).astype(np.uint8))
    has_ink = (masks & (image > 0)).any(axis=(1, 2))
    masks, lost = masks[has_ink], lost[has_ink]
    expected = np.where(image > 0, (masks * lost[:, None, None]).sum(axis=0) / np.maximum(masks.sum(axis=0), 1), 0)
    np.testing.assert_allclose(np.array(list(found.values())).reshape(28, 28), expected, atol=1e-3)
    lenet.browser.until("document.querySelector('.why').dataset.patches === 'done'")
    assert "occlusion" in lenet.browser.js("document.querySelector('.why .note').textContent")


def test_languages(written):
    with Browser("zh-CN") as browser:
        browser.open(written)
        assert browser.js("document.title") == "看 LeNet 怎么想"
        assert browser.js("document.documentElement.lang") == "zh-CN"
        browser.click("#clear")
        browser.until("document.querySelector('.sure').textContent === '请先画点什么'")
        browser.click("#language")
        assert browser.js("document.title") == "See LeNet think"
        assert browser.js("document.querySelector('.sure').textContent") == "Draw something"
        assert not browser.complaints()


def test_every_control_has_a_name_and_reduced_motion_is_heeded(lenet):
    lenet.browser.prefer(reduced_motion="reduce")
    lenet.open()
    assert not lenet.browser.js("[...document.querySelectorAll('button')].some(b => b.textContent === 'Play')")
    assert lenet.browser.js("getComputedStyle(document.querySelector('.bar')).transitionDuration") == "0s"
    nodes = lenet.browser("Accessibility.getFullAXTree")["nodes"]
    controls = {"button", "slider", "combobox", "application", "img"}
    named = [
        (n["role"]["value"], n.get("name", {}).get("value"))
        for n in nodes
        if n.get("role", {}).get("value") in controls
    ]
    assert len(named) > 40
    assert all(name for _, name in named), named


@pytest.mark.parametrize(("key", "modifiers", "answer"), [("Delete", 0, "–"), ("z", 2, "3")])
def test_keys_of_the_pad_leave_a_test_image(lenet, key, modifiers, answer):
    """Delete clears and Ctrl+Z undoes what is shown, also if that is a test image and no drawing."""
    lenet.draw(strokes.DIGITS[3])
    lenet.browser.click(".thumb:nth-child(8)")
    assert lenet.answer() == "7"
    lenet.browser.js("document.querySelector('#pad canvas').focus()")
    lenet.browser.press(key, modifiers)
    assert lenet.answer() == answer


def test_the_example_can_be_cleared_by_a_key(lenet):
    lenet.browser.js("document.querySelector('#pad canvas').focus()")
    lenet.browser.press("Delete")
    assert lenet.answer() == "–"


def test_another_language_and_a_dark_page_keep_what_the_reader_has(lenet):
    """The set of drawings, the drawing, the chosen cell: at dusk the system turns dark by itself."""
    lenet.draw(strokes.DIGITS[3])
    lenet.browser.click("#add-to-set")
    lenet.browser.js("document.querySelectorAll('.overview .column')[3].querySelector('.maps').click()")
    shown = "document.querySelector('.here').textContent.match(/\\d+/g).join()"
    before = lenet.browser.js(shown)
    for change in (lambda: lenet.browser.click("#language"), lambda: lenet.browser.prefer(color_scheme="dark")):
        change()
        lenet.settle()
        assert lenet.browser.js("document.querySelectorAll('.collection .thumb').length") == 1
        assert lenet.browser.js(shown) == before
        assert lenet.answer() == "3"
    lenet.browser.js("document.querySelector('.collection .thumb').click()")


def test_controls_that_are_made_anew_keep_the_focus(lenet):
    """Someone who uses the keyboard alone stays where they are."""
    focused = "(e => `${e.tagName} ${e.ariaLabel || e.textContent}`)(document.activeElement)"

    def press(selector, key):
        lenet.browser.js(f"document.querySelector({selector!r}).focus()")
        lenet.browser.press(key)
        lenet.settle()
        return lenet.browser.js(focused)

    assert press(".pick select", "ArrowDown") == "SELECT Net"
    assert lenet.browser.js("document.querySelector('.pick select').value") == "1"
    press(".pick select", "ArrowUp")
    lenet.browser.js("document.querySelectorAll('.overview .column')[3].querySelector('.maps').click()")
    cell = lenet.browser.js("document.querySelector('.here').textContent")
    assert press(".chip", "Enter").startswith("BUTTON Map 1, sum")
    assert press("#compare", "Enter") == "SELECT Second net"
    assert lenet.browser.js("document.querySelector('.here').textContent") == cell
    assert press(".card:nth-child(2) .pick button", "Enter") == "BUTTON Compare"
    lenet.draw(strokes.DIGITS[3])
    for _ in range(2):
        lenet.browser.click("#add-to-set")
    assert press(".collection .thumb", "Enter") == "BUTTON Remove this drawing of 0"
    assert press(".collection .thumb", "Enter") == "SELECT 0123456789"


def test_switching_nets_while_drawing(lenet):
    """Nets, windows and languages change in the middle of a stroke, and the page goes on."""
    left, top, width, height = lenet.browser.box("#pad canvas")
    (stroke,) = strokes.DIGITS[3][:1]
    lenet.browser.mouse("mousePressed", left + 5, top + 5, button="left", buttons=1, clickCount=1)
    for number, (x, y) in enumerate(stroke):
        lenet.browser.mouse("mouseMoved", left + x * width, top + y * height, button="left", buttons=1)
        lenet.set(".pick select", number % 7)
        if number % 5 == 0:
            lenet.browser.js("document.querySelector('.pick button').click()")
        if number % 9 == 0:
            lenet.browser.window(400 + 40 * number, 800)
    lenet.browser.js("document.querySelector('#pad canvas').focus()")
    lenet.browser.press("Delete")
    lenet.browser.mouse("mouseMoved", left + 50, top + 50, button="left", buttons=1)
    lenet.browser.mouse("mouseReleased", left + 5, top + 5, button="left", buttons=0, clickCount=1)
    assert lenet.answer() == "–"
    lenet.browser.press("z", modifiers=2)
    lenet.settle()
    expected = np.argmax(lenet.browser.js("lenet.answers()[0].probabilities"))
    shown = lenet.browser.js("document.querySelector('.pick select').value")
    assert lenet.answer() == lenet.browser.js(f"lenet.nets[{shown}].classes[{expected}]")
