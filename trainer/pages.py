"""Reports as pages: sheets of text in Markdown and HTML, and plots as SVG, in one file that needs no other."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from io import StringIO
from typing import Any, NamedTuple

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ font: 14px system-ui, sans-serif; margin: 2em auto; max-width: 1200px; color: #222; }}
table {{ border-collapse: collapse; margin: 1em 0; font-variant-numeric: tabular-nums; }}
th, td {{ padding: 0.25em 0.7em; border-bottom: 1px solid #ddd; text-align: left; vertical-align: top; }}
th {{ background: #f4f4f4; }}
svg {{ max-width: 100%; height: auto; }}
figure {{ margin: 1.5em 0; }}
</style>
<h1>{title}</h1>
{body}
</html>
"""
STYLE: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "recollect"}
"""Texts stay texts, and the same figures make the same file."""


class Shown(NamedTuple):
    """A figure as it is shown, and its dotted name in the report's JSON."""

    name: str
    text: str


Text = str | Shown


class Sheet(NamedTuple):
    """A table of texts. A row whose first text is empty goes on with the one above."""

    title: str
    header: tuple[str, ...]
    rows: list[tuple[Text, ...]]


def text_of(cell: Text) -> str:
    """What a cell says."""
    return cell.text if isinstance(cell, Shown) else cell


def markdown_sheet(sheet: Sheet) -> str:
    """One sheet in Markdown."""
    lines = [sheet.header, tuple("---" for _ in sheet.header), *sheet.rows]
    told = ("| " + " | ".join(text_of(cell).replace("|", "\\|").replace("\n", " ") for cell in line) + " |" for line in lines)
    return f"## {sheet.title}\n\n" + "\n".join(told)


def html_sheet(sheet: Sheet) -> str:
    """One sheet in HTML; a figure's cell carries its name as `data-figure`."""
    header = "<tr>" + "".join(f"<th>{escape(text)}</th>" for text in sheet.header) + "</tr>\n" if any(sheet.header) else ""
    rows = "\n".join("<tr>" + "".join(_cell(cell) for cell in row) + "</tr>" for row in sheet.rows)
    return f"<h2>{escape(sheet.title)}</h2>\n<table>\n{header}{rows}\n</table>"


def html_page(title: str, parts: Sequence[str]) -> str:
    """A whole page."""
    return PAGE.format(title=escape(title), body="\n".join(parts))


def svg(figure: Figure) -> str:
    """A figure as an SVG element."""
    FigureCanvasSVG(figure)
    text = StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]


def _cell(cell: Text) -> str:
    mark = f' data-figure="{escape(cell.name)}"' if isinstance(cell, Shown) else ""
    return f"<td{mark}>{escape(text_of(cell))}</td>"
