"""The ten digits as a hand writes them: strokes of points (x, y), 0 to 1, y downwards."""

from __future__ import annotations

import math
from itertools import pairwise


def _arc(x, y, width, height, start, end, steps=24):
    """Part of an ellipse around (x, y), from one angle to another; 0 is to the right, 90 downwards."""
    angles = [math.radians(start + (end - start) * i / steps) for i in range(steps + 1)]
    return [(x + width * math.cos(a), y + height * math.sin(a)) for a in angles]


def _line(*corners, steps=8):
    points = [corners[0]]
    for (x0, y0), (x1, y1) in pairwise(corners):
        points += [(x0 + (x1 - x0) * i / steps, y0 + (y1 - y0) * i / steps) for i in range(1, steps + 1)]
    return points


DIGITS = {
    0: [_arc(0.5, 0.5, 0.2, 0.32, -90, 270)],
    1: [_line((0.46, 0.27), (0.55, 0.18), (0.5, 0.82))],
    2: [_arc(0.5, 0.34, 0.18, 0.16, -170, 40) + _line((0.62, 0.46), (0.32, 0.8), (0.7, 0.79))],
    3: [_arc(0.47, 0.33, 0.17, 0.15, -150, 90) + _arc(0.47, 0.65, 0.2, 0.17, -90, 150)],
    4: [_line((0.4, 0.18), (0.32, 0.55), (0.7, 0.53)), _line((0.62, 0.22), (0.58, 0.84))],
    5: [_line((0.66, 0.2), (0.4, 0.2), (0.37, 0.46)) + _arc(0.48, 0.62, 0.2, 0.19, -110, 140)],
    6: [_line((0.58, 0.17), (0.42, 0.36)) + _arc(0.5, 0.64, 0.17, 0.18, -170, 230, 30)],
    7: [_line((0.32, 0.22), (0.68, 0.22), (0.46, 0.82))],
    8: [
        _arc(0.5, 0.33, 0.15, 0.15, -60, -300, 20)
        + _arc(0.5, 0.66, 0.18, 0.18, -90, 270, 24)
        + [(0.58, 0.46), (0.6, 0.4)]
    ],
    9: [_arc(0.5, 0.36, 0.16, 0.17, -20, -350, 24) + _line((0.66, 0.32), (0.6, 0.84))],
}
