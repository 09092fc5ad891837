"""The frame of every report: one self-contained HTML page with the verdict first, then charts, then numbers.

A page loads nothing, neither scripts nor fonts nor anything from another host, and its content policy forbids the rest.
So it looks the same as a file and as an artifact in the Kubeflow UI's sandboxed frame. It follows the reader's light or
dark theme and prints.

    page("Evaluation", Banner("HOLD", "no better", tone="warn"), [Section("Curves", figures=[line_chart(…)])])
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from typing import Literal

from recommender.report.axes import Html, metric, number

Tone = Literal["good", "warn", "bad", "neutral"]
"""A colour with a meaning."""

LONGEST_CAPTION = 100
"""Characters of a table's caption. Longer words stand above the table, where they do not scroll away with it."""
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""Content security policy: the browser loads nothing but the style sheet inside the page."""


@dataclass(frozen=True)
class Banner:
    """The result of the page: one word (`verdict`), one sentence (`headline`) and optional `reasons`."""

    verdict: str
    headline: str
    tone: Tone = "neutral"
    reasons: Sequence[str] = ()


@dataclass(frozen=True)
class Section:
    """One chapter, shown as `lead`, `facts`, `figures` and `blocks` (tables, lists, folds), in this order."""

    title: str
    lead: str = ""
    figures: Sequence[Html] = ()
    blocks: Sequence[Html] = ()
    facts: Mapping[str, object] = field(default_factory=dict)
    """A few key numbers, shown large: name -> value."""


def page(title: str, banner: Banner, sections: Sequence[Section], *, subtitle: str = "", footer: str = "") -> str:
    """Return the whole page as HTML. Everything that is not `Html` is escaped."""
    style = files("recommender.report").joinpath("style.css").read_text(encoding="utf-8")
    links = "".join(f'<a href="#s{k}">{escape(section.title)}</a>' for k, section in enumerate(sections))
    body = "".join(_section(section, k) for k, section in enumerate(sections))
    subtitle_line = f'<p class="subtitle">{escape(subtitle)}</p>' if subtitle else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><title>{escape(title)}</title><style>{style}</style></head>'
        f"<body><header><h1>{escape(title)}</h1>{subtitle_line}</header><main>{_banner(banner)}"
        f'<nav aria-label="Sections">{links}</nav>{body}</main><footer>{escape(footer)}</footer></body></html>\n'
    )


def _banner(banner: Banner) -> str:
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in banner.reasons)
    listed = f"<ul>{reasons}</ul>" if reasons else ""
    return (
        f'<div class="banner {banner.tone}" role="status"><strong>{escape(banner.verdict)}</strong>'
        f"<div><p>{escape(banner.headline)}</p>{listed}</div></div>"
    )


def _section(section: Section, place: int) -> str:
    lead = f"<p>{escape(section.lead)}</p>" if section.lead else ""
    tiles = "".join(
        f"<div><dd>{escape(number(value))}</dd><dt>{escape(name)}</dt></div>" for name, value in section.facts.items()
    )
    facts = f'<dl class="facts">{tiles}</dl>' if tiles else ""
    figures = f'<div class="figures">{"".join(section.figures)}</div>' if section.figures else ""
    content = f"{lead}{facts}{figures}{''.join(section.blocks)}"
    return f'<section id="s{place}"><h2>{escape(section.title)}</h2>{content}</section>'


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    caption: str = "",
    tones: Sequence[Tone | None] | None = None,
    empty: str = "nothing to show",
) -> Html:
    """Build a table, with numbers aligned right and written for people.

    Args:
        columns: headings.
        rows: their cells. `Html`, such as a `badge`, is kept; any other value is escaped. None and NaN become a dash.
        caption: heading of the table.
        tones: colour of each row's left edge.
        empty: text instead of a table without rows.
    """
    if not rows:
        return paragraph(f"{caption + ': ' if caption else ''}{empty}.")
    numeric = [all(_is_number(row[k]) for row in rows) for k in range(len(columns))]
    head = "".join(
        f'<th scope="col"{" class=n" if right else ""}>{escape(name)}</th>'
        for name, right in zip(columns, numeric, strict=True)
    )
    lines = []
    forms = [_form([row[k] for row in rows]) for k in range(len(columns))]
    for place, row in enumerate(rows):
        tone = tones[place] if tones else None
        cells = "".join(
            f"<td{' class=n' if right else ''}>{value if isinstance(value, Html) else escape(form(value))}</td>"
            for value, right, form in zip(row, numeric, forms, strict=True)
        )
        lines.append(f'<tr class="{tone}">{cells}</tr>' if tone else f"<tr>{cells}</tr>")
    long = len(caption) > LONGEST_CAPTION
    above = f"<caption>{escape(caption)}</caption>" if caption and not long else ""
    note = f'<p class="note">{escape(caption)}</p>' if long else ""
    return Html(
        f'{note}<div class="scroll" tabindex="0" role="group" aria-label="{escape(caption or "table")}"><table>{above}'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _form(values: Sequence[object]) -> Callable[[object], str]:
    """Choose how a whole column is written: with three decimals if its numbers are fractions that these can show."""
    numbers = [abs(value) for value in values if isinstance(value, float) and math.isfinite(value)]
    fractions = any(not value.is_integer() for value in numbers) and all(0.0005 <= v < 10 or v == 0 for v in numbers)
    return metric if fractions and all(_is_number(value) for value in values) else number


def badge(words: str, tone: Tone = "neutral") -> Html:
    """Build a small coloured word for a table, such as passed, failed or critical."""
    return Html(f'<span class="badge {tone}">{escape(words)}</span>')


def paragraph(words: str) -> Html:
    """Build a paragraph."""
    return Html(f"<p>{escape(words)}</p>")


def bullets(lines: Sequence[str]) -> Html:
    """Build a bullet list."""
    return Html(f"<ul>{''.join(f'<li>{escape(words)}</li>' for words in lines)}</ul>")


def fold(summary: str, *blocks: Html, opened: bool = False) -> Html:
    """Hide blocks that the reader may unfold: long tables, failing rows, configurations."""
    return Html(f"<details{' open' if opened else ''}><summary>{escape(summary)}</summary>{''.join(blocks)}</details>")


def code(words: str) -> Html:
    """Show text as it is, such as a configuration, a message or a query."""
    return Html(f"<pre>{escape(words)}</pre>")
