"""Text -> the font families matplotlib draws it with; they always include Chinese.

`NotoSansSC-Subset.otf` is a part of Noto Sans CJK SC 2.004 (copyright 2014-2021 Adobe; SIL Open Font License 1.1, in
OFL.txt): ASCII, the 3,755 most common Chinese characters (GB 2312, level 1) and Chinese punctuation, glyphs unchanged.
It is made by fontTools from the font in Debian's package fonts-noto-cjk. Signs such as ×, as wide there as a Chinese
character, are left to matplotlib's own font.

    python -c "print(''.join(c for a in (0xA1, 0xA3, *range(0xB0, 0xD8)) for b in range(0xA1, 0xFF)
        if (c := bytes([a, b]).decode('gb2312', 'ignore')) >= '\\u3000' or (c and c in '“”‘’…—'))
        + '−°' + ''.join(map(chr, range(32, 127))))" > characters.txt
    pyftsubset NotoSansCJK-Regular.ttc --font-number=2 --text-file=characters.txt --no-hinting --desubroutinize \\
        --layout-features= --drop-tables+=GSUB,GPOS,vhea,vmtx,BASE,VORG --output-file=NotoSansSC-Subset.otf

Its family is then renamed from Noto Sans CJK SC to `FAMILY`, so that it is not mistaken for an installed one.
"""

from __future__ import annotations

import functools
from contextlib import contextmanager
from pathlib import Path

from matplotlib import font_manager, rc_context

FILE = Path(__file__).with_name("NotoSansSC-Subset.otf")
FAMILY = "Noto Sans SC Subset"

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
    """The families to write with: the font shipped here first, then matplotlib's own, then the system's."""
    font_manager.fontManager.addfont(FILE)
    installed = set(font_manager.get_font_names())
    return [FAMILY, "DejaVu Sans", *(name for name in _INSTALLED if name in installed)]


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
