"""Characters that the fonts of a report lack: another installed font has them, or they are written as codes."""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter

#: The font of figures, which comes with matplotlib.
FONT = "DejaVu Sans"


@dataclass(frozen=True)
class Fallback:
    """Installed fonts that have what the font of figures lacks: their names and files; ``absent``: what none has."""

    families: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    absent: str = ""

    @property
    def needed(self) -> bool:
        """Whether the font of figures lacks anything."""
        return bool(self.families or self.absent)

    def readable(self, text: str) -> str:
        """Return the text with the code of each character that no font has, such as [U+4E2D]."""
        return text.translate({ord(character): f"[U+{ord(character):04X}]" for character in self.absent})


def fallback(text: str) -> Fallback:
    """Return the installed fonts that this text needs besides the font of figures; those that have most come first."""
    missing = {character for character in text if unicodedata.category(character)[0] not in "CZ"}
    missing -= _characters(Path(font_manager.findfont(FONT)))
    files: list[Path] = []
    installed = [Path(file) for file in sorted(font_manager.findSystemFonts())] if missing else []
    while missing and installed:
        best = max(installed, key=lambda file: len(missing & _characters(file)))
        if not missing & _characters(best):
            break
        missing -= _characters(best)
        files.append(best)
    return Fallback(tuple(map(_family, files)), tuple(files), "".join(sorted(missing)))


def with_fallback(figure: Figure) -> Figure:
    """Return the figure with texts that can be drawn; one whose texts need no other font stays as it is."""
    every = [axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)]
    labels = {axis: [label.get_text() for label in axis.get_majorticklabels()] for axis in every}
    texts = figure.findobj(Text)
    other = fallback("".join(text.get_text() for text in texts))
    if not other.needed:
        return figure
    for axis, words in labels.items():
        if set(other.absent) & set("".join(words)):
            axis.set_major_formatter(FuncFormatter(_readable(axis.get_major_formatter(), other)))
    for text in texts:
        text.set_text(other.readable(text.get_text()))
        text.set_fontfamily([FONT, *other.families])
    return figure


def _readable(label: Callable[[float, int], str], other: Fallback) -> Callable[[float, int], str]:
    return lambda value, position: other.readable(label(value, position))


@functools.cache
def _characters(file: Path) -> frozenset[str]:
    """Return the characters that a font has; none where it cannot be read, and of fonts of coloured pictures."""
    with suppress(Exception):  # FreeType raises errors of several kinds
        font = FT2Font(str(file))
        if font.scalable:
            return frozenset(map(chr, font.get_charmap()))
    return frozenset()


@functools.cache
def _family(file: Path) -> str:
    font_manager.fontManager.addfont(str(file))
    return str(font_manager.fontManager.ttflist[-1].name)
