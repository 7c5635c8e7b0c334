"""Arrays of pixels (h, w) -> local extremes, connected components, rank filters."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter


def extreme(values: np.ndarray, size: int, ufunc: np.ufunc) -> np.ndarray:
    """The largest or least value, `np.maximum` or `np.minimum`, in the square of `size` pixels around each pixel."""
    wanted = size // 2 * 2 + 1
    values = np.pad(values, size // 2, mode="edge")
    for _ in range(2):  # along one axis, then the other
        width = 1
        while width < wanted:  # two windows of `width`, adjacent or overlapping, form one of up to twice that
            step = min(width, wanted - width)
            values = ufunc(values[:-step], values[step:])
            width += step
        values = values.T
    return values


def label(mask: np.ndarray) -> np.ndarray:
    """Connected components: bool (h, w) -> int (h, w), 0 outside, 1, 2, ... inside; diagonal neighbours are connected.

    Runs in each row are merged with those they touch in the row above (Rosenfeld and Pfaltz 1966).
    """
    height, width = mask.shape
    padded = np.zeros((height, width + 2), dtype=np.int8)
    padded[:, 1:-1] = mask
    steps = np.diff(padded, axis=1)
    rows, starts = np.nonzero(steps == 1)
    ends = np.nonzero(steps == -1)[1]  # run i covers [starts[i], ends[i]) of row rows[i]
    parents = list(range(len(rows)))

    def root(i):
        while parents[i] != i:
            parents[i] = parents[parents[i]]
            i = parents[i]
        return i

    firsts = np.searchsorted(rows, np.arange(height + 1)).tolist()  # row r has the runs firsts[r] to firsts[r + 1] - 1
    begin, end = starts.tolist(), ends.tolist()
    for row in range(1, height):
        above, below = firsts[row - 1], firsts[row]
        while above < firsts[row] and below < firsts[row + 1]:
            if begin[above] <= end[below] and begin[below] <= end[above]:
                parents[root(below)] = root(above)
            if end[above] < end[below]:
                above += 1
            else:
                below += 1
    _, of_run = np.unique([root(i) for i in range(len(rows))], return_inverse=True)
    labels = np.zeros(mask.shape, dtype=np.intp)
    labels[mask] = np.repeat(of_run + 1, ends - starts)
    return labels


def rank_filter(values: np.ndarray, kernel: ImageFilter.Filter) -> np.ndarray:
    """One of Pillow's rank filters on an array (h, w)."""
    return np.asarray(Image.fromarray(values.astype(np.float32)).filter(kernel))
