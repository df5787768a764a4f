"""The reports of an evaluation: a table in the terminal, report.md, report.html in one file with its plots, report.json."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from rich.console import Console
from rich.table import Table
from rich.text import Text

from trainer.pages import Sheet, html_page, html_sheet, markdown_sheet, text_of
from trainer.suites.results import ResultFolder
from trainer.suites.sheets import NOTE, sheets
from trainer.suites.summary import Summary


def write_reports(folder: ResultFolder, summary: Summary) -> None:
    """Write report.json, report.md and report.html into the folder, over what was there."""
    (folder.path / "report.json").write_text(summary.model_dump_json(indent=1) + "\n", "utf-8")
    (folder.path / "report.md").write_text(markdown(summary), "utf-8")
    (folder.path / "report.html").write_text(html(summary), "utf-8")


def show(tables: Sequence[Sheet], console: Console) -> None:
    """Print sheets as tables, a line between what belongs together."""
    for sheet in tables:
        table = Table(title=Text(sheet.title), show_header=True)
        for name in sheet.header:
            table.add_column(Text(name), overflow="fold")
        for row in sheet.rows:
            if row[0] and table.row_count:
                table.add_section()
            table.add_row(*(Text(text_of(cell)) for cell in row))
        console.print(table)


def markdown(summary: Summary) -> str:
    """The sheets in Markdown."""
    parts = [f"# {summary.suite}", *([summary.about] if summary.about else []), NOTE]
    return "\n\n".join([*parts, *(markdown_sheet(sheet) for sheet in sheets(summary))]) + "\n"


def html(summary: Summary) -> str:
    """The sheets and plots as one page that needs no other file."""
    # Imported here: the table in the terminal needs no plotting library.
    from trainer.suites.plots import cost_plot, score_plot

    parts = [f"<p>{escape(text)}</p>" for text in (summary.about, NOTE) if text]
    if summary.cells:
        parts += [score_plot(summary), cost_plot(summary)]
    parts += [html_sheet(sheet) for sheet in sheets(summary)]
    return html_page(summary.suite, parts)
