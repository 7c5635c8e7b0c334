"""viz/: figures contain their data, and Chinese text is drawn."""

import io

import numpy as np
import pytest
from fontTools.ttLib import TTFont
from matplotlib import rcParams
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from gluon_lenet import get_net
from gluon_lenet.nets.table import layer_rows
from gluon_lenet.viz import figures, fonts


def png(figure: Figure) -> bytes:
    """The figure as PNG; a missing glyph is a warning, and warnings are errors in this suite."""
    data = io.BytesIO()
    figure.savefig(data, format="png")
    return data.getvalue()


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axis in figure.axes for text in axis.texts]


def test_the_font_has_the_commonest_characters_and_chinese_punctuation():
    level_1 = {bytes([a, b]).decode("gb2312", "ignore") for a in range(0xB0, 0xD8) for b in range(0xA1, 0xFF)} - {""}
    assert len(level_1) == 3755
    has = set(TTFont(fonts.FILE).getBestCmap())
    assert {character for character in (level_1 | set("，。：；（）、？！《》")) if ord(character) not in has} == set()


def test_chinese_is_drawn_with_the_shipped_font_only(monkeypatch):
    shipped = fonts.families()[:2]
    assert shipped == ["DejaVu Sans", "Droid Sans Fallback"]
    monkeypatch.setattr(fonts, "families", lambda: shipped)
    before = rcParams["font.family"]
    with fonts.chinese():
        figure = Figure()
        figure.subplots().set(title="卷积层：5×5，“池化”", xlabel="迭代周期（epoch）")
    png(figure)
    assert rcParams["font.family"] == before
    figure = Figure()
    figure.text(0, 0, "卷积", fontfamily="DejaVu Sans")
    with pytest.warns(UserWarning, match="missing from font"):
        png(figure)


def test_an_architecture_shows_every_layer_by_its_shape():
    net = get_net("lenet5_sigmoid_maxpool")
    net.initialize()
    rows = layer_rows(net, (1, 1, 28, 28))
    figure = figures.architecture(rows, title="结构")
    shapes = ["1@28×28", "6@24×24", "6@12×12", "16@8×8", "16@4×4", "120", "84", "10"]
    assert [text for text in texts(figure) if text[:1].isdigit()] == shapes
    piles = [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]
    assert len(piles) == 1 + 6 + 6 + 8 + 8 + 3  # no pile is higher than 8
    assert piles[1].get_width() / piles[0].get_width() == pytest.approx(24 / 28)
    png(figure)
    labels = [f"层 {i}" for i in range(8)]
    assert set(labels) <= set(texts(figures.architecture(rows, labels)))


def test_an_image_grid_shows_each_image_on_its_own_scale_or_all_signed_on_one():
    images = [np.array([[0.0, 1.0]]), np.array([[-3.0, 2.0]])]
    dark, signed = figures.image_grid(images, ["一", "二"]), figures.image_grid(images, signed=True)
    assert [axis.get_title() for axis in dark.axes] == ["一", "二"]
    assert [axis.images[0].get_clim() for axis in dark.axes] == [(0, 1), (-3, 2)]
    assert [axis.images[0].get_clim() for axis in signed.axes] == [(-3, 3), (-3, 3)]
    png(dark)


def test_feature_maps_are_a_row_a_layer():
    maps, vector = np.arange(20 * 4 * 4.0).reshape(20, 4, 4), np.arange(7.0)
    figure = figures.feature_maps([("卷积层", maps), ("C5", maps[:5, :1, :1]), ("全连接层", vector)], "逐层", most=16)
    shown = [axis.images[0].get_array() for axis in figure.axes if axis.images]
    assert [image.shape for image in shown] == 16 * [(4, 4)] + [(1, 5), (1, 7)]
    assert shown[3].tolist() == maps[3].tolist()
    png(figure)


def test_lines_bars_and_cells_hold_their_numbers():
    figure = figures.lines({"甲": ([1, 2], [0.1, 0.4]), "乙": ([1, 2], [0.2, 0.3])}, "迭代周期", "准确率", ylim=(0, 1))
    assert [line.get_ydata().tolist() for line in figure.axes[0].lines] == [[0.1, 0.4], [0.2, 0.3]]
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["甲", "乙"]
    assert figure.axes[0].get_ylim() == (0, 1)
    bars = figures.bars({"大": 4.0, "小": 0.5}, "值")
    assert [bar.get_width() for bar in bars.axes[0].patches] == [4.0, 0.5]
    assert texts(bars) == ["4", "0.5"]
    marks = np.array([[True, False, True], [False, True, True]])
    cells = figures.cells(marks, "C3", "S2")
    assert cells.axes[0].collections[0].get_array().reshape(2, 3).tolist() == marks.tolist()
    for each in (figure, bars, cells):
        png(each)
