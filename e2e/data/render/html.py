# SPDX-License-Identifier: Apache-2.0
"""HTML pages as sites serve them: the text in <main>, around it menus, notices and footers that hold no fact."""

import hashlib
from dataclasses import dataclass
from html import escape

from e2e.data.canonical import Block, Heading, Items, PageBreak, Paragraph, Table
from e2e.data.records import Document

_STYLE = "body { max-width: 46em; margin: auto; } nav a { margin-right: 1em; } aside { font-size: small; }"


@dataclass(frozen=True)
class _Skin:
    """The boilerplate of a site."""

    menu: tuple[str, ...]
    notice: str
    aside: str
    footer: str


_SKINS = (
    _Skin(
        menu=("Home", "All pages", "Search", "Sign in"),
        notice="This site uses small files to remember your choices. Accept or decline.",
        aside="Was this page of help to you? Yes. No.",
        footer="Imprint. Privacy. Back to the top.",
    ),
    _Skin(
        menu=("Start", "Topics", "Archive", "About us", "Contact"),
        notice="Your browser is set to block scripts. Some parts of the page may look plain.",
        aside="Share this page. Print this page. Larger letters.",
        footer="All rights reserved. Terms of use. Accessibility statement.",
    ),
    _Skin(
        menu=("Overview", "News", "Subscribe to our letter", "Language"),
        notice="Subscribe now and never miss a page. No thanks.",
        aside="You may also like: the pages that others have read.",
        footer="Made with care. Report an error on this page.",
    ),
)


def render_html(document: Document) -> bytes:
    skin = _SKINS[hashlib.sha256(document.id.encode()).digest()[0] % len(_SKINS)]
    title = escape(document.title)
    menu = "".join(f'<a href="#">{escape(entry)}</a>' for entry in skin.menu)
    lines = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        f'<head><meta charset="utf-8"><title>{title}</title>',
        f"<style>{_STYLE}</style>",
        '<script>document.documentElement.dataset.ready = "yes";</script></head>',
        f"<body><header><nav>{menu}</nav></header>",
        f'<div class="notice">{escape(skin.notice)}</div>',
        f"<main><article><h1>{title}</h1>",
        *(line for block in document.blocks for line in _lines_of(block)),
        "</article></main>",
        f"<aside>{escape(skin.aside)}</aside>",
        f"<footer>{escape(skin.footer)}</footer>",
        "</body></html>",
    ]
    return ("\n".join(lines) + "\n").encode()


def _lines_of(block: Block) -> list[str]:
    match block:
        case Heading():
            return [f"<h{block.level}>{escape(block.text)}</h{block.level}>"]
        case Paragraph():
            return [f"<p>{escape(block.text)}</p>"]
        case Items():
            tag = "ol" if block.ordered else "ul"
            return [f"<{tag}>", *(f"<li>{escape(text)}</li>" for text in block.texts), f"</{tag}>"]
        case Table():
            body = (_row(row, cell="td") for row in block.rows)
            return ["<table>", _row(block.header, cell="th"), *body, "</table>"]
        case PageBreak():
            return []


def _row(cells: tuple[str, ...], *, cell: str) -> str:
    return "<tr>" + "".join(f"<{cell}>{escape(text)}</{cell}>" for text in cells) + "</tr>"
