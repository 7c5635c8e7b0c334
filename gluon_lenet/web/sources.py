"""The files of client/ and texts/ -> one script, one style sheet, the texts of every language."""

from __future__ import annotations

import json
import re
from pathlib import Path

CLIENT, TEXTS = Path(__file__).with_name("client"), Path(__file__).with_name("texts")

_IMPORT = re.compile(r'^import (\{[^}]+\}) from "\./(\w+)\.js";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export ((?:async )?(?:function\*?|class|const) (\w+))", re.MULTILINE)


def script(entry: str) -> str:
    """The module `entry` and all that it imports as one script: each module a function, called in their order.

    The modules are standard JavaScript: a browser can load them one by one from a server. A file opened by double click
    cannot load others, so they are joined here. What `entry` exports is left in variables of the script.
    """
    parts, done = [], set()

    def add(name: str) -> None:
        if name in done:
            return
        done.add(name)
        text = (CLIENT / f"{name}.js").read_text(encoding="utf-8")
        for _, other in _IMPORT.findall(text):
            add(other)
        exports = [name for _, name in _EXPORT.findall(text)]
        body = _EXPORT.sub(r"\1", _IMPORT.sub(r"const \1 = \2_js;\n", text))
        parts.append(f"const {name}_js = (() => {{\n{body}\nreturn {{ {', '.join(exports)} }};\n}})();\n")

    add(entry)
    return "".join(parts)


def style() -> str:
    """The style sheet."""
    return (CLIENT / "page.css").read_text(encoding="utf-8")


def texts() -> dict[str, dict[str, str]]:
    """The page's texts, by language, by key."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(TEXTS.glob("*.json"))}
