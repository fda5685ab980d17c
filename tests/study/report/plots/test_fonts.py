"""Titles and labels in scripts that the fonts of a report lack."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.text import Text

from harness.cli.report import _say_which_characters
from harness.study.report import report
from harness.study.report.plots.fonts import FONT, fallback, with_fallback
from harness.study.report.plots.style import styled, svg
from tests.support.synthetic import Synthetic, robust

TITLE = "对比学习 DCL の結果"


def font(path: Path, characters: str) -> Path:
    """Write a font that has these characters, each a triangle."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    pen.lineTo((500, 900))
    pen.lineTo((900, 0))
    pen.closePath()
    names = {ord(character): f"uni{ord(character):04X}" for character in characters}
    order = [".notdef", *names.values()]
    builder = FontBuilder(1000)
    builder.setupGlyphOrder(order)
    builder.setupCharacterMap(names)
    triangle = pen.glyph()
    builder.setupGlyf(dict.fromkeys(order, triangle))
    builder.setupHorizontalMetrics(dict.fromkeys(order, (1000, 0)))
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": path.stem, "styleName": "Regular"})
    builder.setupOS2(sTypoAscender=900, usWeightClass=400)
    builder.setupPost()
    builder.save(path)
    return path


def installed(monkeypatch: pytest.MonkeyPatch, *files: Path) -> None:
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [*map(str, files)])


def titled(title: str) -> Figure:
    figure = Figure()
    axes = figure.subplots()
    axes.set_title(title)
    axes.set_yticks([0, 1], ["InfoNCE", title])
    return figure


def drawn_without_boxes(figure: Figure) -> list[str]:
    """Draw the figure, and return its texts; matplotlib warns of each character that it draws as a box."""
    with styled(), warnings.catch_warnings():
        warnings.simplefilter("error")
        svg(figure)
    return [text.get_text() for text in figure.findobj(Text)]


def test_an_installed_font_draws_what_the_font_of_figures_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(monkeypatch, font(tmp_path / "Han.ttf", "对比学习结果結"), font(tmp_path / "Kana.ttf", "の"))
    with styled():
        figure = titled(TITLE)
    assert drawn_without_boxes(figure).count(TITLE) >= 2
    assert fallback(TITLE).families == ("Han", "Kana")
    assert fallback(TITLE).absent == ""


@pytest.mark.parametrize("title", [TITLE, "대조 학습", "सीखना", "การเรียนรู้"])
def test_what_no_font_has_is_written_as_codes(title: str, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch)
    with styled():
        figure = titled(title)
    codes = fallback(title).readable(title)
    assert drawn_without_boxes(figure).count(codes) >= 2
    assert f"[U+{ord(title[0]):04X}]" in codes


def test_a_file_that_is_no_font_and_one_without_the_characters_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    installed(monkeypatch, tmp_path / "broken.ttf", font(tmp_path / "Latin.ttf", "abc"))
    assert fallback("中a\n").absent == "中"


def test_texts_that_the_font_of_figures_has_look_for_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: pytest.fail("no font is looked for"))
    figure = titled("τ ≤ 0.5, Обучение, naïve")
    assert with_fallback(figure).axes[0].title.get_fontfamily() == [FONT] or not fallback("τ").needed


@pytest.mark.e2e
def test_a_report_says_which_characters_no_font_has_and_its_pdf_has_their_codes(
    synthetic: Synthetic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[str] = []
    compile_ = report.write_pdf.__globals__["typst"].compile

    def compiled(*arguments: object, **options: object) -> bytes:
        given.append(str(options["sys_inputs"]))
        return bytes(compile_(*arguments, **options))

    monkeypatch.setattr(report.write_pdf.__globals__["typst"], "compile", compiled)
    manifest, results = synthetic(robust)
    manifest = dataclasses.replace(manifest, title=TITLE)
    installed(monkeypatch)
    absent = report.write_report(manifest, results, tmp_path).absent
    assert set(absent) == set(TITLE) - set(" DCL")
    assert "[U+5BF9][U+6BD4]" in given[0]
    assert "对" not in given[0]
    _say_which_characters(absent)
    said = capsys.readouterr().out
    assert absent in said
    assert "fonts-noto-cjk" in said
    installed(monkeypatch, font(tmp_path / "Han.ttf", absent))
    assert report.write_report(manifest, results, tmp_path).absent == ""
    assert TITLE in given[1]
