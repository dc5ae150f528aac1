# SPDX-License-Identifier: Apache-2.0
"""Markdown to sections: headings, paragraphs, lists, code and tables; markup, images and raw HTML are left out."""

import re
from collections.abc import Sequence
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token

from nimblet_indexer.document import Parsed
from nimblet_indexer.parse.outline import Outline, table
from nimblet_indexer.parse.text import decode, document_of

MAX_NESTING: Final = 100
"""Lists and quotes within each other; what lies deeper is dropped, and the library's own 20 is soon reached."""
_FRONT_MATTER: Final = re.compile(r"\A---\n(.*?\n)?(---|\.\.\.)\s*\n", re.DOTALL)
_KEY: Final = re.compile(r"[\"']?[\w.@/$-]+[\"']?\s*:(?:\s|$)")
_YAML: Final = re.compile(rf"\s|#|-\s|-$|[}}\]]|$|{_KEY.pattern}")
"""How a line of front matter may begin."""
_BREAK: Final = re.compile(r"<br\s*/?>", re.IGNORECASE)
"""The one tag that parts words; it is how a table's cell has lines."""
_TITLE: Final = re.compile(r"^title:\s*[\"']?(.+?)[\"']?\s*$", re.MULTILINE)


def parse_markdown(data: bytes) -> Parsed:
    """Return a Markdown file. The title is the front matter's, else the first heading of level 1."""
    text = decode(data).replace("\r\n", "\n")
    front = _front_matter(text)
    named = _TITLE.search(front.group(1) or "") if front is not None else None
    body = text[front.end() :] if front is not None else text
    outline = Outline()
    reader = MarkdownIt("commonmark", {"maxNesting": MAX_NESTING}).enable("table")
    _collect(reader.parse(body), outline)
    return document_of(named.group(1) if named is not None else outline.title, outline.sections())


def _front_matter(text: str) -> re.Match[str] | None:
    """Return the lines of settings before a text; none where a rule is the text's own beginning."""
    found = _FRONT_MATTER.match(text)
    lines = (found.group(1) or "").split("\n") if found is not None else []
    settings = all(_YAML.match(line) for line in lines) and any(_KEY.match(line) for line in lines)
    return found if settings or not "".join(lines).strip() else None


def _collect(tokens: Sequence[Token], outline: Outline) -> None:
    rows: list[list[str]] = []
    heading = 0
    marker = ""
    for token in tokens:
        match token.type:
            case "heading_open":
                heading = int(token.tag[1])
            case "list_item_open":
                marker = f"{token.info}. " if token.info else "- "
            case "tr_open":
                rows.append([])
            case "table_close":
                outline.block(table(rows))
                rows = []
            case "fence" | "code_block":
                outline.block(token.content.rstrip())
            case "inline" if heading:
                outline.heading(heading, " ".join(_words(token).split()))
                heading = 0
            case "inline" if rows:
                rows[-1].append(_words(token))
            case "inline":
                outline.block(marker + _words(token))
                marker = ""


def _words(token: Token) -> str:
    """Return what a reader sees of a paragraph: text and code, not addresses, images or tags.

    A line that the author broke stays broken, as lists of hours and addresses are written; others are joined.
    """
    words = []
    for child in token.children or ():
        if child.type in ("text", "code_inline"):
            words.append(child.content)
        elif child.type == "hardbreak" or (child.type == "html_inline" and _BREAK.fullmatch(child.content)):
            words.append("\n")
        elif child.type == "softbreak":
            words.append(" ")
    return "".join(words)
