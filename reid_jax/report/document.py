"""HTML that stands alone: inline SVG figures and styles, no script, nothing loaded from outside."""

import io
import re
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from reid_jax.visual import style

_STYLES = """
:root { color-scheme: light dark; --ground: #ffffff; --panel: #f6f8fa; --ink: #24292f;
  --quiet: #59636e; --line: #d1d9e0; --accent: #0072b2; --mark: #7a4100; --mark-ground: #fff3d6;
  --mark-line: #e69f00; }
@media screen and (prefers-color-scheme: dark) { :root { --ground: #0f1318; --panel: #181e25;
  --ink: #e3e8ee; --quiet: #9aa6b2; --line: #313a44; --accent: #58b1e6; --mark: #ffd98a;
  --mark-ground: #33260a; --mark-line: #a87400; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main, header { max-width: 66rem; margin: 0 auto; padding: 0 1.5rem; }
header { padding-top: 2.2rem; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0; letter-spacing: -0.01em; }
h2 { font-size: 1.3rem; margin: 2.8rem 0 0.9rem; padding-bottom: 0.3rem;
  border-bottom: 1px solid var(--line); }
.lead { color: var(--quiet); margin: 0.4rem 0 0; font-size: 1.06rem; }
.banner { margin: 1.3rem 0 0; padding: 0.75rem 1rem; border-left: 5px solid var(--mark-line);
  background: var(--mark-ground); color: var(--mark); font-weight: 600; }
.mark { display: inline-block; margin-left: 0.5rem; padding: 0.05rem 0.5rem; font-size: 0.8rem;
  font-weight: 600; border: 1px solid var(--mark-line); border-radius: 0.7rem;
  background: var(--mark-ground); color: var(--mark); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr));
  gap: 0.8rem; margin: 1.4rem 0 0; }
.tiles div { background: var(--panel); border: 1px solid var(--line); border-radius: 8px;
  padding: 0.8rem 1rem; display: flex; flex-direction: column-reverse; justify-content: flex-end; }
.tiles dt { color: var(--quiet); font-size: 0.9rem; }
.tiles dd { margin: 0; font-size: 1.7rem; line-height: 1.25; font-weight: 650;
  font-variant-numeric: tabular-nums; white-space: nowrap; }
.tiles dd small { font-size: 0.88rem; font-weight: 500; color: var(--quiet); }
.under { margin: 0.6rem 0 0; }
.under .mark { margin-left: 0; }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums;
  font-size: 0.93rem; }
caption { text-align: left; font-weight: 600; padding-bottom: 0.5rem; }
th, td { padding: 0.36rem 0.6rem; text-align: right; white-space: nowrap; font-weight: 400; }
th[scope=row], .note { text-align: left; white-space: normal; }
thead th { font-weight: 600; } thead th[scope=colgroup] { text-align: center; }
thead th.paper, thead th.ours { font-weight: 400; color: var(--quiet); }
thead tr:last-child { border-bottom: 1.5px solid var(--ink); }
thead tr:first-child { border-top: 1.5px solid var(--ink); }
tbody tr:last-child { border-bottom: 1.5px solid var(--ink); }
tbody tr + tr { border-top: 1px solid var(--line); }
td small { display: block; font-size: 0.82rem; font-weight: 400; color: var(--quiet); }
td.ours { font-weight: 650; } td.paper { color: var(--quiet); }
tfoot td { text-align: left; white-space: normal; color: var(--quiet); font-size: 0.86rem; }
dl.facts { display: grid; grid-template-columns: minmax(9rem, max-content) 1fr; margin: 0;
  font-size: 0.95rem; }
dl.facts dt { color: var(--quiet); padding: 0.3rem 1.4rem 0.3rem 0;
  border-top: 1px solid var(--line); }
dl.facts dd { margin: 0; padding: 0.3rem 0; border-top: 1px solid var(--line);
  overflow-wrap: anywhere; }
dl.facts dt:first-of-type, dl.facts dd:first-of-type { border-top: 0; }
figure { margin: 1.4rem 0; break-inside: avoid; }
figure svg { display: block; width: 100%; height: auto; }
figcaption { color: var(--quiet); font-size: 0.92rem; margin-top: 0.5rem; }
figcaption b { color: var(--ink); }
figcaption .mark { display: table; margin: 0.3rem 0 0; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(25rem, 1fr)); gap: 0 2rem; }
pre { background: var(--panel); border: 1px solid var(--line); border-radius: 8px;
  padding: 0.8rem 1rem; overflow-x: auto; white-space: pre-wrap; overflow-wrap: anywhere; }
code, pre { font-family: ui-monospace, "SF Mono", Menlo, "DejaVu Sans Mono", monospace;
  font-size: 0.88rem; }
details { margin: 1rem 0; } summary { cursor: pointer; font-weight: 600; }
details dl.facts { margin-top: 0.8rem; font-size: 0.88rem; }
a { color: var(--accent); }
ul.plain { padding-left: 1.2rem; } ul.plain li { margin: 0.35rem 0; }
footer { max-width: 66rem; margin: 3rem auto 0; padding: 1rem 1.5rem 2.5rem; color: var(--quiet);
  font-size: 0.85rem; border-top: 1px solid var(--line); }
@page { margin: 14mm; }
@media print { body { font-size: 10pt; } main, header, footer { max-width: none; padding: 0; }
  header { padding: 0; } h2 { margin-top: 1.6rem; } .scroll { overflow: visible; }
  .tiles { grid-template-columns: repeat(5, 1fr); gap: 0.4rem; } .tiles div { padding: 0.5rem; }
  .tiles dd { font-size: 13pt; } .tiles dd small { font-size: 7pt; } .tiles dt { font-size: 8pt; }
  table { font-size: 7.5pt; } th, td { padding: 0.25rem 0.28rem; } dl.facts { font-size: 9pt; }
  dl.facts dt, dl.facts dd { padding-top: 0.12rem; padding-bottom: 0.12rem; }
  figure svg { max-height: 235mm; } p { break-inside: avoid; } .mark { font-size: 7pt; }
  tfoot td { font-size: 7.5pt; }
  .pair { grid-template-columns: 1fr 1fr; } .tiles div, pre, table { break-inside: avoid; }
  h2 { break-after: avoid; } .banner, .mark, .tiles div, pre { print-color-adjust: exact;
  -webkit-print-color-adjust: exact; } }
""".strip()


def mark_tag(mark: str | None) -> str:
    """The words beside a number that was not measured on the paper's data.

    Args:
        mark: the words, or None for official data.

    Returns:
        HTML of an inline element; empty for None.
    """
    return f'<span class="mark">{escape(mark)}</span>' if mark else ""


def document(
    title: str, lead: str, mark: str | None, top: str, sections: Mapping[str, str], footer: str
) -> str:
    """A whole page.

    Args:
        title: the heading, plain text.
        lead: the line below it, plain text.
        mark: words of the banner at the top, plain text, or None for no banner.
        top: HTML below the banner.
        sections: heading (plain text) to HTML; a section without HTML is left out.
        footer: the last line, plain text.

    Returns:
        HTML of the page.
    """
    banner = f'<p class="banner" role="note">{escape(_sentence(mark))}</p>' if mark else ""
    body = "\n".join(
        f"<section>\n<h2>{escape(heading)}</h2>\n{content}\n</section>"
        for heading, content in sections.items()
        if content
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>
{_STYLES}
</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
<p class="lead">{escape(lead)}</p>
{banner}
{top}
</header>
<main>
{body}
</main>
<footer>{escape(footer)}</footer>
</body>
</html>
"""


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def tiles(values: Mapping[str, str], mark: str | None) -> str:
    """Headline numbers.

    Args:
        values: name to number, plain text; what follows a '±' is printed smaller.
        mark: words that go with the numbers, or None.

    Returns:
        HTML of a list and the mark below it.
    """
    entries = []
    for name, value in values.items():
        main, sign, rest = escape(value).partition(" ±")
        number = f"{main} <small>{sign.strip()}{rest}</small>" if sign else main
        entries.append(f"<div><dt>{escape(name)}</dt><dd>{number}</dd></div>")
    under = f'<p class="under">{mark_tag(mark)}</p>' if mark else ""
    return f'<dl class="tiles">{"".join(entries)}</dl>{under}'


def facts(values: Mapping[str, str]) -> str:
    """Names and values, plain text, as a definition list in HTML."""
    entries = "\n".join(
        f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in values.items()
    )
    return f'<dl class="facts">\n{entries}\n</dl>'


def items(texts: Iterable[str]) -> str:
    """HTML of a bulleted list of plain texts; empty for no text."""
    entries = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f'<ul class="plain">{entries}</ul>' if entries else ""


def folded(summary: str, content: str) -> str:
    """HTML that a reader unfolds by its summary, plain text."""
    return f"<details><summary>{escape(summary)}</summary>\n{content}\n</details>"


def figure_tag(
    figure: Figure, *, name: str, title: str, caption: str, alt: str, mark: str | None
) -> str:
    """A figure as inline SVG with its caption.

    Text and axes take the page's text colour, so that the figure reads on a dark ground too.

    Args:
        figure: drawn with the colours of `reid_jax.visual.style`.
        name: unique on the page; goes before the ids within the SVG.
        title: first words of the caption, plain text.
        caption: the rest of it, plain text.
        alt: what the figure shows, for readers who do not see it, plain text.
        mark: words for data that is not the paper's, or None.

    Returns:
        HTML of a `<figure>` element.
    """
    svg = _svg(figure, name).replace(
        "<svg ",
        f'<svg role="img" aria-label="{escape(alt)}" '
        f'style="max-width: {figure.get_figwidth() * 96:.0f}px" ',
        1,
    )
    return (
        f'<figure id="{escape(name)}">\n{svg}\n<figcaption><b>{escape(title)}</b> '
        f"{escape(caption)}{mark_tag(mark)}</figcaption>\n</figure>"
    )


def _svg(figure: Figure, name: str) -> str:
    # A fixed salt and no date: the same run gives the same page, byte for byte.
    settings: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": name}
    target = io.StringIO()
    with matplotlib.rc_context(settings):
        figure.savefig(target, format="svg", transparent=True, metadata={"Date": None})
    svg = target.getvalue()
    svg = svg[svg.index("<svg ") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # Every figure has an 'axes_1': ids are made unique on the page.
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = svg.replace('href="#', f'href="#{name}-').replace("url(#", f"url(#{name}-")
    return svg.replace(style.INK, "currentColor").strip()
