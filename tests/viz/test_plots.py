"""viz/: figures contain their data, and Chinese text is drawn."""

import mxnet as mx
import numpy as np
import pytest
from fontTools.ttLib import TTFont
from matplotlib import rcParams
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from gluon_lenet import get_net
from gluon_lenet.nets.inspect import layer_outputs
from gluon_lenet.nets.table import layer_rows
from gluon_lenet.training.metrics import EpochResult
from gluon_lenet.viz import figures, fonts
from gluon_lenet.viz.intervals import interval
from tests.helpers.figures import png


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axis in figure.axes for text in axis.texts]


def test_the_font_has_the_commonest_characters_and_chinese_punctuation():
    level_1 = {bytes([a, b]).decode("gb2312", "ignore") for a in range(0xB0, 0xD8) for b in range(0xA1, 0xFF)} - {""}
    assert len(level_1) == 3755
    has = set(TTFont(fonts.FILE).getBestCmap())
    assert {character for character in (level_1 | set("，。：；（）、？！《》")) if ord(character) not in has} == set()


def test_chinese_is_drawn_with_the_shipped_font_only(monkeypatch):
    shipped = fonts.families()[:2]
    assert shipped == [fonts.FAMILY, "DejaVu Sans"]
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
    shapes = ["1@28×28", "6@24×24", "6@12×12", "16@8×8", "16@4×4", "256", "120", "84", "10"]  # 256: flattened
    assert [text for text in texts(figure) if text[:1].isdigit()] == shapes
    squares = [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]
    maps = [patch for patch in squares if patch.get_fill() and patch.get_width() > 3]
    assert [round(patch.get_width()) for patch in maps] == [28] + 6 * [24] + 6 * [12] + 6 * [8] + 6 * [4], "one scale"
    cells = [patch for patch in squares if patch.get_fill() and patch.get_width() < 3]
    assert len(cells) == 3 * 14 + 10, "the ends of the long vectors, all of the output"
    windows = [patch.get_width() for patch in squares if not patch.get_fill() and patch.get_linestyle() != "-"]
    assert sum(width == 5 for width in windows) == 2, "each convolution's 5 x 5 pixels"
    assert "flatten" in texts(figure)
    png(figure)
    labels = [f"层 {i}" for i in range(8)]
    assert {*labels, "展平"} <= set(texts(figures.architecture(rows, labels)))


def test_an_architecture_with_outputs_shows_the_image_and_its_maps():
    net = get_net("lenet5_1998")
    net.initialize()
    X = mx.nd.random.uniform(shape=(2, 1, 32, 32))
    rows, outputs = layer_rows(net, X.shape), layer_outputs(net, X)
    assert [row.window for row in rows[::2]] == [(5, 1, 0), (2, 2, 0), (5, 1, 0), (2, 2, 0), (5, 1, 0), None, None]
    figure = figures.architecture(rows[::2], outputs=[outputs[0], *outputs[1::2]])
    shown = [image.get_array() for image in figure.axes[0].images]
    assert [image.shape[0] for image in shown] == [32] + 6 * [28] + 6 * [14] + 6 * [10] + 6 * [5]
    np.testing.assert_array_equal(shown[0], X[0, 0].asnumpy())
    np.testing.assert_array_equal(shown[-1], outputs[7][1][0, 15].asnumpy())
    png(figure)


def test_an_image_grid_shows_each_image_on_its_own_scale_or_all_signed_on_one():
    images = [np.array([[0.0, 1.0]]), np.array([[-3.0, 2.0]])]
    dark, signed = figures.image_grid(images, ["一", "二"]), figures.image_grid(images, signed=True)
    assert [axis.get_title() for axis in dark.axes] == ["一", "二"]
    assert [axis.images[0].get_clim() for axis in dark.axes] == [(0, 1), (-3, 2)]
    assert [axis.images[0].get_clim() for axis in signed.axes[:2]] == [(-3, 3), (-3, 3)]
    assert len(signed.axes) == 3, "and the scale's bar"
    png(signed)
    png(dark)


def test_feature_maps_are_a_row_a_layer():
    maps, vector = np.arange(20 * 4 * 4.0).reshape(20, 4, 4), np.arange(7.0)
    figure = figures.feature_maps([("卷积层", maps), ("C5", maps[:5, :1, :1]), ("全连接层", vector)], "逐层", most=16)
    rows = [axis.images for axis in figure.axes]
    assert [[image.get_array().shape for image in row] for row in rows] == [16 * [(4, 4)], [(1, 5)], [(1, 7)]]
    shown = rows[0]
    places = np.array([image.get_extent() for image in shown])  # left, right, bottom, top
    assert (places[1:, 0] > places[:-1, 1]).all(), "side by side"
    np.testing.assert_allclose(places[:, 1] - places[:, 0], places[:, 3] - places[:, 2], err_msg="square")
    assert shown[3].get_array().tolist() == maps[3].tolist()
    assert {image.get_clim() for image in shown} == {(0, 319)}, "one scale per layer"
    assert any("16" in text.get_text() and "20" in text.get_text() for text in figure.findobj(Text)), (
        "says what is left out"
    )
    png(figure)
    named = figures.feature_maps([("输出", vector)], classes=[f"类 {i}" for i in range(7)])
    assert [bar.get_height() for bar in named.axes[0].patches] == vector.tolist()
    assert named.axes[0].patches[6].get_facecolor() != named.axes[0].patches[5].get_facecolor(), "the answer"
    png(named)


def test_curves_speak_two_languages_and_show_small_errors():
    history = [EpochResult(i, 1 / i, 0.9, 1 - 0.02 / i, 1.0, 0.1, 1 / i, 0.95) for i in (1, 2)]
    english, chinese = figures.curves(history, "t"), figures.curves(history, "题", "zh", errors=True)
    assert english.axes[1].get_ylabel() == "accuracy"
    assert english.axes[1].get_ylim() == (0, 1)
    axis = chinese.axes[1]
    assert (axis.get_yscale(), axis.get_xlabel()) == ("log", "迭代周期")
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["训练集", "验证集", "测试集"]
    np.testing.assert_allclose(axis.lines[2].get_ydata(), [0.02, 0.01])
    png(chinese)


def test_a_confusion_matrix_shades_the_errors_only():
    figure = figures.confusion_matrix(np.array([[90, 10], [0, 50]]), ["甲", "乙"], "题", "zh")
    image = figure.axes[0].images[0]
    assert (image.get_array().tolist(), image.get_clim()) == ([[0, 10], [0, 0]], (0, 10))
    assert texts(figure) == ["90", "10", "0", "50"]
    assert figure.axes[0].get_ylabel() == "实际的类别"
    png(figure)


def test_dots_show_every_run_and_the_interval_of_the_mean():
    runs = {"旋钮": {"甲": [0.1, 0.2, 0.3], "乙": [0.4, 0.4]}, "另一个": {"丙": [0.5, 0.7]}}
    figure = figures.dots(runs, "准确率", reference=0.2)
    axis = figure.axes[0]
    assert [tick.get_text() for tick in axis.get_yticklabels()] == ["旋钮：甲", "旋钮：乙", "另一个：丙"]
    assert axis.lines[0].get_xdata().tolist() == [0.1, 0.2, 0.3]
    (segment,) = axis.collections[0].get_segments()
    mean, half = interval([0.1, 0.2, 0.3])
    np.testing.assert_allclose(segment[:, 0], [mean - half, mean + half])
    assert half == pytest.approx(4.303 * 0.1 / 3**0.5)
    with pytest.raises(ValueError, match="two runs"):
        interval([0.5])
    png(figure)


def test_lines_bars_and_cells_hold_their_numbers():
    figure = figures.lines({"甲": ([1, 2], [0.1, 0.4]), "乙": ([1, 2], [0.2, 0.3])}, "迭代周期", "准确率", ylim=(0, 1))
    assert [line.get_ydata().tolist() for line in figure.axes[0].lines] == [[0.1, 0.4], [0.2, 0.3]]
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["甲", "乙"]
    assert figure.axes[0].get_ylim() == (0, 1)
    png(figures.lines({"甲": ([1, 2], [0.02, 0.09])}, "", "错误率", yscale="log"))
    wide = figures.lines({"甲": ([1, 2], [2e-6, 3e6])}, "", "", yscale="log")
    png(wide)
    written = wide.axes[0].yaxis.get_major_formatter()  # which ticks are chosen differs between versions of Matplotlib
    assert [written(value) for value in (1e-6, 0.1, 1e6)] == ["0.000001", "0.1", "1000000"]
    spread = figures.lines({"甲": ([1, 2], [[0.1, 0.4], [0.3, 0.6]])}, "", "")
    np.testing.assert_allclose(spread.axes[0].lines[0].get_ydata(), [0.2, 0.5])
    assert len(spread.axes[0].collections) == 1, "the range over the seeds"
    level = figures.lines({"甲": ([0, 1, 2], [3, 2, 1]), "界": ([0, 2], [2.3, 2.3])}, "", "").axes[0].lines[1]
    assert (level.get_linestyle(), level.get_marker()) == ("--", "None")
    bars = figures.bars({"大": 4.0, "小": 0.5}, "值")
    assert [bar.get_width() for bar in bars.axes[0].patches] == [4.0, 0.5]
    assert texts(bars) == ["4", "0.5"]
    marks = np.array([[True, False, True], [False, True, True]])
    cells = figures.cells(marks, "C3", "S2")
    assert cells.axes[0].collections[0].get_array().reshape(2, 3).tolist() == marks.tolist()
    for each in (figure, bars, cells):
        png(each)
