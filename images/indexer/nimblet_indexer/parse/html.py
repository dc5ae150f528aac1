# SPDX-License-Identifier: Apache-2.0
"""HTML to sections: what a reader sees of the page's main part, without navigation, scripts and hidden text."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Final

from lxml import html
from lxml.etree import ErrorLevels, LxmlError

from nimblet_indexer.document import FileRefused, Parsed, Refusal
from nimblet_indexer.parse.outline import CELLS, Outline, repeated, table
from nimblet_indexer.parse.text import document_of

_LEFT_OUT: Final = frozenset(
    [
        "script",
        "style",
        "noscript",
        "template",
        "nav",
        "footer",
        "button",
        "select",
        "textarea",
        "svg",
        "math",
        "iframe",
        "object",
        "embed",
        "canvas",
        "audio",
        "video",
        "dialog",
        "head",
    ]
)
_ROLES: Final = frozenset({"navigation", "banner", "contentinfo", "search", "complementary", "menu", "dialog"})
_HEADINGS: Final = {"h1": 1, "h2": 2, "h3": 3, "h4": 4, "h5": 5, "h6": 6}
_BLOCKS: Final = frozenset(
    [
        "p",
        "div",
        "section",
        "article",
        "aside",
        "form",
        "main",
        "header",
        "li",
        "ul",
        "ol",
        "dl",
        "dt",
        "dd",
        "blockquote",
        "pre",
        "figure",
        "figcaption",
        "address",
        "details",
        "summary",
        "hr",
        "body",
        "html",
        "fieldset",
        "legend",
        "center",
        "table",
        "caption",
        "tr",
        "td",
        "th",
    ]
)
_PERMALINKS: Final = frozenset({"¶", "#", "§", "🔗"})
"""What links of a heading to itself say."""
_MAX_ROWSPAN: Final = 65_534
_MAX_COLSPAN: Final = 1000
"""As HTML has them."""
_MOST_REPEATED: Final = 2**20
"""Characters of a page that such cells add: rows and columns in short tags would multiply to any length."""
_HIDDEN_STYLE: Final = re.compile(
    r"display\s*:\s*none|visibility\s*:\s*(hidden|collapse)|opacity\s*:\s*0(\.0+)?(?![.\d])"
    r"|font-size\s*:\s*0(\.0+)?(?![.\d])|(?<![-\w])color\s*:\s*transparent"
    r"|(text-indent|left|top|margin-left)\s*:\s*-\d{3,}",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class _Spanned:
    """A cell: over how many rows from here on, over how many columns, and what the next row tells of it."""

    rows: int
    width: int
    text: str


def parse_html(data: bytes) -> Parsed:
    """Return a page. The title is the main part's first h1, else the page's own."""
    # huge_tree allows 2,048 elements within each other in place of 256; the process has its own limits
    parser = html.HTMLParser(
        no_network=True, remove_comments=True, remove_pis=True, huge_tree=True, encoding=_encoding(data)
    )
    try:
        root = html.document_fromstring(data, parser=parser)
    except (LxmlError, ValueError) as error:
        raise FileRefused(
            Refusal.DAMAGED, f"it can't be read as HTML ({type(error).__name__}); save it again"
        ) from error
    fatal = [entry.message for entry in parser.error_log if entry.level == ErrorLevels.FATAL]
    if fatal:  # the parser stopped in silence: what it gave is a part of the page
        raise FileRefused(Refusal.DAMAGED, f"it can't be read whole as HTML: {fatal[0]}; save it again")
    named = root.findtext(".//title") or ""
    outline = Outline()
    _Walk(outline).through(_main(root))
    if not outline.sections():  # some frameworks put a page as a whole into a form
        outline = Outline()
        _Walk(outline, forms=True).through(_main(root))
    return document_of(outline.title or named, outline.sections())


def _encoding(data: bytes) -> str | None:
    """Return UTF-8 where the bytes are that, None to have the parser look for what the page names."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return "utf-8"


def _main(root: html.HtmlElement) -> html.HtmlElement:
    """Return the page's main part: `main`, the only `article`, else all of it."""
    found = [element for element in root.iter() if element.tag == "main" or element.get("role") == "main"]
    mains = [element for element in found if not _is_hidden(element)]
    if mains:
        return mains[0]
    articles = list(root.iter("article"))
    return articles[0] if len(articles) == 1 else root


class _Walk:
    """One pass over the elements; words gather until a block ends them. Iterative: pages may be deep.

    `forms`: what stands in forms is read, too.
    """

    def __init__(self, outline: Outline, *, forms: bool = False) -> None:
        self._outline = outline
        self._forms = forms
        self._room = _MOST_REPEATED
        self._words: list[str] = []
        self._marker = ""

    def through(self, top: html.HtmlElement) -> None:
        """Walk from `top` down."""
        stack: list[Iterator[html.HtmlElement]] = [iter([top])]
        open_: list[html.HtmlElement] = []
        while stack:
            element = next(stack[-1], None)
            if element is None:
                stack.pop()
                if open_:
                    self._leave(open_.pop())
                continue
            if self._enter(element):
                open_.append(element)
                stack.append(iter(element))
            elif element.tail:
                self._words.append(element.tail)
        self._end_block()

    def _enter(self, element: html.HtmlElement) -> bool:
        """Take an element's own text; False when its children are not to be walked."""
        tag = element.tag
        if not isinstance(tag, str) or tag in _LEFT_OUT or _is_hidden(element):
            return False
        if (tag == "aside" and not _is_remark(element)) or (tag == "form" and not self._reads(element)):
            return False
        if tag in _HEADINGS:
            self._end_block()
            self._outline.heading(_HEADINGS[tag], _visible(element))
            return False
        if tag == "table" and not _is_layout(element):
            self._end_block()
            for caption in element.iterchildren("caption"):
                self._outline.block(" ".join(_visible(caption).split()))
            rows, self._room = _rows(element, self._room)
            self._outline.block(table(rows))
            return False
        if tag == "pre":
            self._end_block()
            self._outline.block(_visible(element))  # its lines are its meaning
            return False
        if tag == "br":
            self._words.append("\n")
        if tag in _BLOCKS:
            self._end_block()
        if tag == "li":
            self._marker = "- "
        self._words.append(element.text or "")
        return True

    def _reads(self, form: html.HtmlElement) -> bool:
        """Tell a form that holds the page, or all there is to read; one that asks for a password holds none."""
        if next(form.iterfind(".//input[@type='password']"), None) is not None:
            return False
        return self._forms or next(form.iter("h1", "article"), None) is not None

    def _leave(self, element: html.HtmlElement) -> None:
        if element.tag in _BLOCKS:
            self._end_block()
        self._words.append(element.tail or "")

    def _end_block(self) -> None:
        words = " ".join("".join(self._words).split())
        self._words = []
        if words:
            self._outline.block(self._marker + words)
            self._marker = ""


def _is_hidden(element: html.HtmlElement) -> bool:
    return (
        element.get("hidden") is not None
        or element.get("aria-hidden") == "true"
        or element.get("role") in _ROLES
        or _HIDDEN_STYLE.search(element.get("style") or "") is not None
    )


def _is_remark(aside: html.HtmlElement) -> bool:
    """Tell a note or a warning within a text from what stands beside it, which is mostly links."""
    around = list(aside.iterancestors())
    if any(item.tag == "aside" for item in around):
        return True  # a part of one that is read
    if not any(item.tag in ("main", "article") or item.get("role") == "main" for item in around):
        return False
    linked = sum(len(link.text_content()) for link in aside.iter("a"))
    return 2 * linked < len(aside.text_content())


def _visible(element: html.HtmlElement) -> str:
    """Return the words of a heading, cell or listing, without what is left out or hidden inside it."""
    if _is_hidden(element):
        return ""
    words = [element.text or ""]
    for child in element:
        if isinstance(child.tag, str) and child.tag not in _LEFT_OUT and child.tag not in ("aside", "form"):
            parted = child.tag in _BLOCKS or child.tag in _HEADINGS
            if parted:
                _end_line(words)
            words.append("" if _is_permalink(child) else _visible(child))
            if parted or child.tag == "br":
                words.append("\n")
        words.append(child.tail or "")
    return "".join(words)


def _end_line(words: list[str]) -> None:
    before = next((word for word in reversed(words) if word), "\n")
    if not before.endswith("\n"):
        words.append("\n")


def _is_permalink(element: html.HtmlElement) -> bool:
    own = element.tag == "a" and (element.get("href") or "").startswith("#")
    return own and element.text_content().strip() in _PERMALINKS


def _rows(element: html.HtmlElement, room: int) -> tuple[list[list[str]], int]:
    """Return the words of a table's rows; a cell over several is told in each, so that columns stay.

    `room`: how many characters may be repeated so; what is left of them is returned, too.
    """
    rows: list[list[str]] = []
    above: dict[int, _Spanned] = {}
    for row in element.iter("tr"):
        if not _is_hidden_within(row, element):
            told, above = _row(row, above)
            rows.append(told)
            room -= sum(len(spanned.text) + len(CELLS) for spanned in above.values())
            if room < 0:
                above = {}
    return rows, room


def _is_layout(element: html.HtmlElement) -> bool:
    """Tell a table that only puts parts of a page side by side: its cells are read one after the other."""
    return element.get("role") in ("presentation", "none") or any(
        item is not element for item in element.iter("table", "h1", "h2")
    )


def _row(row: html.HtmlElement, above: dict[int, _Spanned]) -> tuple[list[str], dict[int, _Spanned]]:
    """Return a row's words and, by column, what reaches into the next; `above` is what reaches into this one."""
    told: list[str] = []
    below: dict[int, _Spanned] = {}
    column = 0
    own = iter([cell for cell in row if cell.tag in ("td", "th")])
    reaching = iter(sorted(above))
    while True:
        spanned = above.get(column)
        if spanned is None:
            cell = next(own, None)
            if cell is None:
                further = next((other for other in reaching if other > column), None)
                if further is None:
                    return told, below
                column = further
                continue
            text = _visible(cell)
            told.append(text)
            rows, width = _span(cell, "rowspan", _MAX_ROWSPAN), _span(cell, "colspan", _MAX_COLSPAN)
            spanned = _Spanned(rows=rows, width=width, text=repeated(text))
        else:
            told.append(spanned.text)
        if spanned.rows > 1:
            below[column] = replace(spanned, rows=spanned.rows - 1)
        column += spanned.width


def _span(cell: html.HtmlElement, name: str, most: int) -> int:
    told = (cell.get(name) or "").strip()
    number = int(told) if told.isascii() and told.isdigit() and len(told) < len(str(most)) + 1 else 1
    return most if name == "rowspan" and told == "0" else min(max(number, 1), most)


def _is_hidden_within(row: html.HtmlElement, table_: html.HtmlElement) -> bool:
    """Tell whether a row is hidden, or something around it inside the table."""
    around = takewhile(lambda item: item is not table_, row.iterancestors())
    return _is_hidden(row) or any(_is_hidden(item) for item in around)
