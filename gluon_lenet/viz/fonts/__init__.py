"""Text -> the font families matplotlib draws it with; they always include Chinese.

`DroidSansFallback.ttf` is a part of Google's Droid Sans Fallback (copyright 2006-2010 Google Corp., Apache License 2.0,
as this package): the 3,755 most common Chinese characters (GB 2312, level 1) and their punctuation. It is a
subset of the font in Debian's package fonts-droid-fallback, made by fontTools, glyphs unchanged:

    python -c "print(''.join(bytes([a, b]).decode('gb2312', 'ignore')
        for a in (0xA1, 0xA3, *range(0xB0, 0xD8)) for b in range(0xA1, 0xFF)))" > characters.txt
    pyftsubset DroidSansFallbackFull.ttf --text-file=characters.txt --no-hinting --layout-features= \\
        --drop-tables+=GSUB,GPOS,vhea,vmtx --output-file=DroidSansFallback.ttf
"""

from __future__ import annotations

import functools
from contextlib import contextmanager
from pathlib import Path

from matplotlib import font_manager, rc_context

FILE = Path(__file__).with_name("DroidSansFallback.ttf")

# Fonts with rarer characters, which a system may have.
_INSTALLED = (
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Source Han Sans SC",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Microsoft YaHei",
    "SimHei",
    "PingFang SC",
    "Arial Unicode MS",
)


@functools.cache
def families() -> list[str]:
    """The families to write with: matplotlib's own font first, then the one shipped here, then the system's."""
    font_manager.fontManager.addfont(FILE)
    installed = set(font_manager.get_font_names())
    return ["DejaVu Sans", "Droid Sans Fallback", *(name for name in _INSTALLED if name in installed)]


@functools.cache
def drawable() -> frozenset[int]:
    """The characters, as code points, that at least one of the families has."""
    charmaps = (font_manager.get_font(font_manager.findfont(family)).get_charmap() for family in families())
    return frozenset().union(*charmaps)


@contextmanager
def chinese():
    """A context manager and decorator: matplotlib can draw Chinese text inside."""
    with rc_context({"font.family": families()}):
        yield
