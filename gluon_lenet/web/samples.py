"""A data set's name -> the test images that the page and the widget hold: the first one of each class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

FOLDER = Path(__file__).with_name("images")  # one PNG for each data set, its images below one another
SIDE = 28  # pixels
DATASETS = ("mnist", "fashion_mnist")


def sample_images(dataset: str) -> np.ndarray:
    """uint8 (10, 28, 28), in the order of the classes."""
    with Image.open(FOLDER / f"{dataset}.png") as image:
        return np.asarray(image.convert("L")).reshape(-1, SIDE, SIDE)
