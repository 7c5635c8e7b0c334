"""Files that the page reads and writes, in Chromium: pictures of every kind, saved drawings, sets of them."""

from __future__ import annotations

import base64
import io
import zipfile

import numpy as np
import pytest
from PIL import Image

import strokes
from conftest import ROOT
from gluon_lenet import evaluate, train
from gluon_lenet.data.datasets import load_dataset
from gluon_lenet.inference.pictures.forms import read_digit
from pictures import enlarge

pytestmark = pytest.mark.web


def test_a_saved_drawing_is_read_back(lenet, tmp_path):
    lenet.draw(strokes.DIGITS[5])
    lenet.settle()
    seen = np.array(lenet.browser.js("Array.from(lenet.answers()[0].image)"), np.uint8).reshape(28, 28)
    lenet.browser.click("#save")
    path = lenet.browser.downloaded("drawing.png")
    np.testing.assert_array_equal(read_digit(path), seen)
    kept = path.rename(tmp_path / "drawing.png")
    lenet.browser.click("#clear")
    lenet.browser.choose_files(".open input", kept)
    lenet.browser.until("lenet.answers()[0]?.image && document.querySelector('.big').textContent === '5'")
    assert lenet.browser.js("Array.from(lenet.answers()[0].image)") == seen.ravel().tolist()


def test_a_set_is_a_folder_with_a_subfolder_a_class(lenet, tmp_path):
    for digit in (1, 7):
        lenet.browser.click("#clear")
        lenet.draw(strokes.DIGITS[digit])
        lenet.settle()
        lenet.browser.js(f"document.querySelector('#set-class').value = '{digit}'")
        lenet.browser.click("#add-to-set")
    lenet.browser.click("#save-set")
    path = lenet.browser.downloaded("drawings.zip")
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == ["drawings/1/1.png", "drawings/7/2.png"]
        archive.extractall(tmp_path)
    path.unlink()
    with Image.open(tmp_path / "drawings" / "7" / "2.png") as image:
        assert (image.mode, image.size) == ("L", (28, 28))
        pixels = np.asarray(image)
    np.testing.assert_array_equal(read_digit(tmp_path / "drawings" / "7" / "2.png"), pixels)


def _bomb(path, side):
    """A PNG that declares side x side pixels, and has few bytes."""
    image = io.BytesIO()
    Image.new("1", (side, side)).save(image, "PNG")
    path.write_bytes(image.getvalue())
    return path


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("text", "not a picture"),
        ("empty", "not a picture"),
        ("cut", "not a picture"),
        ("huge", "50 million pixels"),
        ("blank", "blank picture"),
    ],
)
def test_a_bad_file_is_a_sentence_and_the_drawing_stays(lenet, tmp_path, kind, sentence):
    lenet.draw(strokes.DIGITS[7])
    path = tmp_path / f"<img src=x onerror=alert(1)> {kind}.png"
    good = (ROOT / "gluon_lenet" / "web" / "images" / "mnist.png").read_bytes()
    {
        "text": lambda: path.write_text("no picture"),
        "empty": lambda: path.write_bytes(b""),
        "cut": lambda: path.write_bytes(good[:40]),
        "huge": lambda: _bomb(path, 10_000),
        "blank": lambda: Image.new("L", (80, 80), 255).save(path),
    }[kind]()
    lenet.browser.choose_files(".open input", path)
    lenet.browser.until("!document.querySelector('#message').hidden")
    message = lenet.browser.js("document.querySelector('#message').textContent")
    assert sentence in message
    assert path.name in message
    assert lenet.answer() == "7"


def test_of_ten_files_the_first_is_taken(lenet, tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(10)]
    for path, image in zip(paths, load_dataset("mnist").test_images[:10], strict=True):
        Image.fromarray(255 - enlarge(image, 9)).save(path)
    encoded = base64.b64encode(paths[0].read_bytes()).decode()
    lenet.browser.js(
        """(text => {
          const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0));
          const data = new DataTransfer();
          for (let i = 0; i < 10; i++) data.items.add(new File([bytes], `${i}.png`, {type: 'image/png'}));
          document.querySelector('#stage').dispatchEvent(new DragEvent('drop', {dataTransfer: data, bubbles: true}));
        })('TEXT')""".replace("TEXT", encoded)
    )
    lenet.browser.until("document.querySelector('#message').textContent.startsWith('10 files')")
    assert lenet.answer() == "7"


def test_a_photo_is_read(lenet, tmp_path):
    """A large JPEG, turned by its EXIF orientation, is read as `predict` reads it."""
    digit = load_dataset("mnist").test_images[1]  # a 2
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = Image.fromarray(255 - enlarge(digit, 60)).transpose(Image.Transpose.ROTATE_90)
    picture.save(tmp_path / "photo.jpg", exif=exif, quality=92)
    lenet.browser.choose_files(".open input", tmp_path / "photo.jpg")
    lenet.browser.until("document.querySelector('.big').textContent === '2'")
    seen = np.array(lenet.browser.js("Array.from(lenet.answers()[0].image)")).reshape(28, 28)
    # The browser decodes and shrinks in its own way: not the same pixels, but the same picture
    assert np.corrcoef(seen.ravel(), read_digit(tmp_path / "photo.jpg").ravel())[0, 1] > 0.99


@pytest.mark.parametrize("kind", ["a depth map of 3 MB", "fill bytes"])
def test_a_jpeg_whose_size_stands_late_is_read(lenet, tmp_path, kind):
    """Phones put up to some megabytes before the size of a JPEG; the standard allows fill bytes before a marker."""
    file = io.BytesIO()
    Image.fromarray(255 - enlarge(load_dataset("mnist").test_images[1], 20)).save(file, "JPEG")
    picture = file.getvalue()
    extra = {"a depth map of 3 MB": 48 * (b"\xff\xe1\xff\xff" + bytes(65_533)), "fill bytes": b"\xff\xff\xff"}[kind]
    (tmp_path / "photo.jpg").write_bytes(picture[:2] + extra + picture[2:])
    lenet.browser.choose_files(".open input", tmp_path / "photo.jpg")
    lenet.browser.until("document.querySelector('.big').textContent === '2'")


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "JPEG", "16 bits", "transparent", "black and white"])
def test_every_kind_of_picture_is_read(lenet, tmp_path, kind):
    """The first frame of an animation; four colours of ink; 16 bits; transparent ink; one bit."""
    two, seven = (Image.fromarray(255 - enlarge(load_dataset("mnist").test_images[i], 15)) for i in (1, 0))
    path = tmp_path / "picture"
    if kind in ("GIF", "PNG", "WEBP"):
        two.save(path, kind, save_all=True, append_images=[seven], duration=100)
    else:
        {
            "JPEG": lambda: two.convert("CMYK").save(path, "JPEG"),
            "16 bits": lambda: Image.fromarray(np.asarray(two, np.uint16) * 257).save(path, "PNG"),
            "transparent": lambda: Image.merge("LA", (two, two.point(lambda x: 255 - x))).save(path, "PNG"),
            "black and white": lambda: two.convert("1").save(path, "PNG"),
        }[kind]()
    lenet.browser.choose_files(".open input", path)
    lenet.browser.until("document.querySelector('.big').textContent === '2'")


@pytest.mark.parametrize("kind", ["svg", "heic"])
def test_a_format_that_predict_does_not_read_is_refused(lenet, tmp_path, kind):
    path = tmp_path / f"picture.{kind}"
    start = {"svg": b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>", "heic": b"\0\0\0\x18ftypheic"}
    path.write_bytes(start[kind])
    lenet.browser.choose_files(".open input", path)
    lenet.browser.until("document.querySelector('#message').textContent.includes('use PNG, JPEG')")


def _save_set(lenet, tmp_path, *names):
    """A set with the drawing that is there, in each of the classes; returns its unpacked folder."""
    for name in names:
        lenet.browser.js(f"document.querySelector('#set-class').value = '{name}'")
        lenet.browser.click("#add-to-set")
    lenet.browser.click("#save-set")
    path = lenet.browser.downloaded("drawings.zip")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path)
    path.unlink()
    return tmp_path / "drawings"


def test_a_set_of_clothes_is_evaluated(lenet, tmp_path, capsys):
    """`evaluate` finds the net's own classes, whose names have spaces and hyphens."""
    lenet.browser.click("#samples > :nth-child(2) .thumb:last-child")
    lenet.settle()
    folder = _save_set(lenet, tmp_path, "ankle boot", "t-shirt")
    lenet.browser.js("document.querySelector('.collection .thumb').click()")
    assert sorted(path.name for path in folder.iterdir()) == ["ankle boot", "t-shirt"]
    assert evaluate.main(["--run", "pretrained:d2l_v1_fashion", "--dataset", str(folder)]) == 0
    assert "2 images" in capsys.readouterr().out


def test_a_net_trained_on_a_set_reads_its_drawings(lenet, tmp_path, browser):
    """Drawings saved by the page, `train` on them, `demo` of that run: a page that sees what `predict` sees."""
    from gluon_lenet import demo
    from gluon_lenet.inference.trained import Trained
    from lenet_page import Page

    lenet.draw(strokes.DIGITS[7])
    lenet.settle()
    folder = _save_set(lenet, tmp_path, "1", "1", "7", "7")
    run, path = tmp_path / "run", tmp_path / "own.html"
    assert train.main(["--dataset", str(folder), "--run-dir", str(run), "--epochs", "1", "--quiet"]) == 0
    assert demo.main(["--run", str(run), "--output", str(path)]) == 0
    own = Page(browser, path.as_uri())
    own.open()
    assert browser.js("document.querySelectorAll('.bars li').length") == 2
    own.draw(strokes.DIGITS[7])
    assert own.answer() != "–"
    assert str(tmp_path) not in path.read_text(encoding="utf-8")
    trained = Trained(run, ctx="cpu")
    Image.fromarray(255 - enlarge(load_dataset("mnist").test_images[3], 11)).save(tmp_path / "large.png")
    for picture in (folder / "7" / "3.png", tmp_path / "large.png"):
        with Image.open(picture) as image:
            np.testing.assert_array_equal(own.see("drawing", np.asarray(image)), trained.read_image(picture))
    assert own.see("drawing", np.zeros((28, 28), np.uint8)) == "blank"
    assert not browser.complaints()
