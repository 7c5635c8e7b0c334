"""A net in a notebook's kernel -> a pad to draw on in the notebook, with the net's answer and every layer's maps."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TypeVar

import numpy as np
from matplotlib.figure import Figure
from mxnet import nd
from mxnet.gluon import nn

from gluon_lenet.data.catalogue import get_entry
from gluon_lenet.data.transforms import Transform
from gluon_lenet.errors import InputError
from gluon_lenet.nets.inspect import layer_outputs
from gluon_lenet.viz.files import as_bytes
from gluon_lenet.viz.fonts import chinese
from gluon_lenet.web import sources
from gluon_lenet.web.samples import sample_images

try:
    import anywidget
    import traitlets
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"DrawingPad needs {error.name}: pip install 'gluon_lenet[notebook]', or pip install anywidget"
    ) from None

Item = TypeVar("Item")
_EXAMPLE = 8  # the class of the image shown at the start
_CHINESE = {  # for the names of layers
    **{"input": "输入", "Conv2D": "卷积", "MaxPool2D": "最大池化", "AvgPool2D": "平均池化", "Flatten": "展平"},
    **{"Dense": "全连接", "stride": "步幅", "padding": "填充"},
}


class DrawingPad(anywidget.AnyWidget):
    """Draw in a notebook and see the net of this kernel compute: its answer, and the maps of all its layers.

    Drawings are centred as in the data set by the page's own script; the net that answers is the one given here, as it
    is now. Where no widget can be shown (GitHub, nbconvert), a picture of the same stands in its place.

    Args:
        net: an initialized sequential net of 28x28 images, on any device.
        dataset: `mnist` or `fashion_mnist`: the classes, and the form into which drawings are brought.
        transform: the preprocessing of the net's training; by default 0 to 1.
        image: uint8 (28, 28), shown until something is drawn; by default a test image.
        language: of the layers' names in the picture, en or zh; the widget follows the browser.

    Raises:
        InputError: an unknown data set, or the net's outputs are not its classes.
    """

    _esm = sources.script("widget") + "\nexport default { render: widget_js.render };\n"

    # The drawing in the data set's form, uint8 28x28; the browser's bytes arrive as a memoryview.
    image = traitlets.Bytes().tag(sync=True, from_json=lambda value, widget: bytes(value))
    asked = traitlets.Int().tag(sync=True)  # how often the browser has sent a drawing
    values = traitlets.Bytes().tag(sync=True)  # float32, of the input and of each layer in turn
    number = traitlets.Int().tag(sync=True)  # how often they were computed
    layers = traitlets.List().tag(sync=True)  # name and shape of each of these
    classes = traitlets.List().tag(sync=True)
    form = traitlets.Unicode().tag(sync=True)
    texts = traitlets.Dict().tag(sync=True)
    css = traitlets.Unicode().tag(sync=True)  # a trait called style is a widget to ipywidgets

    def __init__(
        self,
        net: nn.Sequential | nn.HybridSequential,
        dataset: str = "mnist",
        transform: Transform = Transform(),
        image: np.ndarray | None = None,
        language: str = "en",
    ):
        entry = get_entry(dataset)
        if image is None:
            image = sample_images(dataset)[_EXAMPLE]
        if image.shape != (28, 28) or image.dtype != np.uint8:
            raise InputError(f"an image of shape {image.shape} and type {image.dtype}; it must be uint8 (28, 28)")
        self._net, self._transform, self._language = net, transform, language
        super().__init__(
            classes=list(entry.classes),
            form=entry.form,
            texts=sources.texts(),
            css=sources.style().replace(":root", ":host"),
            image=image.tobytes(),
        )
        self.refresh()
        if self._outputs[-1][1].shape != (len(entry.classes), 1, 1):
            shape = self._outputs[-1][1].shape
            raise InputError(f"the net has {shape[0]} outputs, and {dataset} has {len(entry.classes)} classes")
        self.observe(lambda change: self.refresh(), names="asked")

    def refresh(self) -> None:
        """Ask the net again, with its weights as they are now, and show what it computes."""
        image = np.frombuffer(self.image, np.uint8).reshape(1, 28, 28)
        ctx = next(iter(self._net.collect_params().values())).list_ctx()[0]
        outputs = layer_outputs(self._net, self._transform(image, ctx))
        self._outputs = [(name, X.asnumpy()[0].reshape((*X.shape[1:], 1, 1)[:3])) for name, X in outputs]
        with self.hold_sync():
            self.layers = [{"name": name, "shape": list(X.shape)} for name, X in self._outputs]
            self.values = b"".join(X.astype("<f4").tobytes() for _, X in self._outputs)
            self.number += 1

    def watch(self, epochs: Iterable[Item]) -> Iterator[Item]:
        """The items of a training's loop, with a `refresh` after each: `for epoch in pad.watch(range(5)): ...`.

        It also wraps `Loop.epochs`, which yields a result after each epoch.
        """
        for item in epochs:
            if not isinstance(item, int):  # the result of an epoch that has ended
                self.refresh()
            yield item
            if isinstance(item, int):  # the number of an epoch whose training the caller has now done
                self.refresh()

    @property
    def probabilities(self) -> np.ndarray:
        """The softmax of the net's outputs for the drawing: float32 (classes,)."""
        return nd.softmax(nd.array(self._outputs[-1][1].reshape(1, -1))).asnumpy()[0]

    def picture(self) -> bytes:
        """What the widget shows now, as a PNG file."""
        outputs = self._outputs
        if self._language == "zh":
            outputs = [(_in_chinese(name), X) for name, X in outputs]
        return _picture(outputs, self.probabilities, self.classes)

    def _repr_mimebundle_(self, **kwargs):
        """The widget, and its picture for viewers without widgets."""
        data, metadata = super()._repr_mimebundle_(**kwargs)
        return {**data, "image/png": self.picture(), "text/plain": "DrawingPad"}, metadata


def _in_chinese(name: str) -> str:
    """A layer's name: Conv2D 5x5, tanh -> 卷积 5×5, tanh."""
    words = re.sub(r"[A-Za-z]\w*", lambda word: _CHINESE.get(word[0], word[0]), name)
    return re.sub(r"(\d)x(\d)", r"\1×\2", words)


@chinese()
def _picture(outputs: list[tuple[str, np.ndarray]], probabilities: np.ndarray, classes: list[str]) -> bytes:
    """The layers' maps in two rows, the probabilities as bars beside them -> a PNG file."""
    columns = -(-len(outputs) // 2)
    figure = Figure(figsize=(1.5 * columns + 2.4, 4.2), layout="constrained")  # inches
    grid = figure.add_gridspec(2, columns + 1, width_ratios=[*columns * [1], 1.4])
    axes = [figure.add_subplot(grid[divmod(i, columns)]) for i in range(len(outputs))]
    axes.append(figure.add_subplot(grid[:, -1]))
    for axis, (name, X) in zip(axes, outputs, strict=False):
        most = float(np.abs(X).max()) or 1.0
        is_input = X is outputs[0][1]
        axis.imshow(_tiled(X), cmap="gray_r" if is_input else "PuOr_r", vmin=None if is_input else -most, vmax=most)
        axis.set_title(name.replace(", ", "\n"), fontsize=9)
        axis.axis("off")
    best = int(probabilities.argmax())
    colors = ["#b8125c" if i == best else "#c9c5bc" for i in range(len(classes))]
    axes[-1].barh(range(len(classes)), probabilities, color=colors)
    axes[-1].set_yticks(range(len(classes)), classes, fontsize=9)
    axes[-1].invert_yaxis()
    axes[-1].set(xlim=(0, 1), title=f"{classes[best]}  {probabilities[best]:.1%}")
    axes[-1].tick_params("x", labelsize=8)
    return as_bytes(figure)


def _tiled(X: np.ndarray) -> np.ndarray:
    """Maps (c, h, w) -> one picture, nearly square, with lines of NaN between maps of more than one cell."""
    maps, height, width = X.shape
    columns = int(np.ceil(np.sqrt(maps)))
    gap = int(height * width > 1)
    rows = -(-maps // columns)
    tiles = np.full((rows * columns, height + gap, width + gap), np.nan, np.float32)
    tiles[:maps, :height, :width] = X
    tiled = tiles.reshape(rows, columns, height + gap, width + gap).swapaxes(1, 2)
    return tiled.reshape(rows * (height + gap), columns * (width + gap))
