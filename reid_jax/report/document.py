"""HTML that stands alone: templates, figures as inline SVG, crops as JPEG."""

from __future__ import annotations

import base64
import dataclasses
import io
import re
from typing import Any

import cv2
import jinja2
import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from reid_jax import visual
from reid_jax.visual import style

__all__ = ["Drawn", "crop", "drawn", "render"]

CROP_QUALITY = 78
_PAGES = jinja2.Environment(
    loader=jinja2.PackageLoader("reid_jax.report", "templates"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
)


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A figure as the templates take it.

    Attributes:
        name: unique on the page.
        title: first words of the caption.
        caption: the rest of it.
        svg: the figure.
        wide: it takes the whole width of a page.
    """

    name: str
    title: str
    caption: str
    svg: Markup
    wide: bool


def render(template: str, **values: Any) -> str:
    """A template with values; every text in them is escaped."""
    return _PAGES.get_template(template).render(**values)


def crop(image: np.ndarray) -> str:
    """[H, W, 3] uint8 RGB as the address of a JPEG in the page itself."""
    done, content = cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, CROP_QUALITY]
    )
    assert done
    return "data:image/jpeg;base64," + base64.b64encode(content.tobytes()).decode()


def drawn(
    figure: Figure, *, name: str, title: str, caption: str, alt: str, mark: str | None
) -> Drawn:
    """A figure as inline SVG with its caption.

    Text and axes take the page's text colour, so that the figure reads on a dark ground too.

    Args:
        figure: drawn with the colours of `reid_jax.visual.style`.
        name: unique on the page; goes before the ids within the SVG.
        title: first words of the caption.
        caption: the rest of it.
        alt: what the figure shows, for readers who do not see it.
        mark: words for data that is not the paper's, written into the figure, or None.
    """
    if mark:
        with matplotlib.rc_context(style.RC):
            visual.mark(figure, mark)
    # What was put together as a text is escaped here; the SVG is matplotlib's own.
    attributes = Markup('<svg role="img" aria-label="{}" style="max-width: {:.0f}px" ').format(
        alt, figure.get_figwidth() * 96
    )
    svg = Markup(_svg(figure, name).replace("<svg ", attributes, 1))
    return Drawn(name, title, caption, svg, wide=figure.get_figwidth() > 8)


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
