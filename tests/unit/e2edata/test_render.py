# SPDX-License-Identifier: Apache-2.0
"""The rendered files: equal bytes for equal input, and every quote readable where its location says."""

from collections.abc import Iterator
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import docx
import pytest
from docx.table import Table as WordTable
from pypdf import PdfReader

from e2e.data import corpus
from e2e.data.canonical import normalise
from e2e.data.corpus import Document, Format, Question
from e2e.data.render import render_document


class MainText(HTMLParser):
    """Collects the text inside <main>, cells and paragraphs apart."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = False
        self.pieces: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002  the base's
        self.inside = self.inside or tag == "main"

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag != "main"

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.pieces.append(data)


def read_back(kind: Format, content: bytes) -> list[str]:
    """Return the pages' texts; formats without pages have one."""
    match kind:
        case Format.TEXT | Format.MARKDOWN:
            return [content.decode()]
        case Format.HTML:
            parser = MainText()
            parser.feed(content.decode())
            return ["\n".join(parser.pieces)]
        case Format.PDF:
            return [page.extract_text() for page in PdfReader(BytesIO(content)).pages]
        case Format.DOCX:
            return ["\n".join(word_lines(content))]


def word_lines(content: bytes) -> Iterator[str]:
    for block in docx.Document(BytesIO(content)).iter_inner_content():
        if isinstance(block, WordTable):
            yield from (" ".join(cell.text for cell in row.cells) for row in block.rows)
        else:
            yield block.text


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus")
    corpus.render(path)
    return path


def test_each_document_is_written_in_its_format(folder: Path, documents: dict[str, Document]) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted(d.file_name for d in documents.values())


def test_bytes_are_equal_for_equal_input(folder: Path, documents: dict[str, Document]) -> None:
    differing = [d.id for d in documents.values() if render_document(d) != (folder / d.file_name).read_bytes()]
    assert differing == []


def test_each_quote_is_found_in_the_rendered_file_on_its_page(
    folder: Path, documents: dict[str, Document], questions: tuple[Question, ...]
) -> None:
    pages = {d.id: read_back(d.format, (folder / d.file_name).read_bytes()) for d in documents.values()}
    missing = []
    for question in questions:
        page = documents[question.document].locate(question.quote).page or 1
        if normalise(question.quote) not in normalise(pages[question.document][page - 1]):
            missing.append(f"{question.id}: {question.quote}")
    assert missing == []


def test_whole_text_survives_in_order(folder: Path, documents: dict[str, Document]) -> None:
    """Nothing is lost but list marks; text and Markdown carry their own marks and rules, PDF its furniture."""
    for document in documents.values():
        if document.format in {Format.HTML, Format.DOCX}:
            read = read_back(document.format, (folder / document.file_name).read_bytes())
            assert normalise("\n".join(read)) == document.text, document.id


def test_pdfs_have_several_pages_as_the_source_breaks_them(folder: Path, documents: dict[str, Document]) -> None:
    for document in documents.values():
        if document.format is Format.PDF:
            pages = read_back(Format.PDF, (folder / document.file_name).read_bytes())
            assert len(pages) == document.body.count("<!-- page -->") + 1 >= 2, document.id


def test_headings_and_tables_are_real_ones_in_word(folder: Path) -> None:
    word = docx.Document(str(folder / "tessaly-hp9-service.docx"))
    headings = [p.text for p in word.paragraphs if p.style is not None and p.style.name == "Heading 3"]
    assert headings == ["E17", "E23", "E41"]
    assert word.tables[0].rows[5].cells[1].text == "118 kg"


def test_only_the_given_documents_are_written(tmp_path: Path, documents: dict[str, Document]) -> None:
    wanted = [documents["orvane-k40-manual"], documents["skerrig-plum-bread"]]
    paths = corpus.render(tmp_path / "new" / "folder", only=wanted)
    assert [path.name for path in paths] == ["orvane-k40-manual.pdf", "skerrig-plum-bread.md"]
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == [path.name for path in paths]


def test_html_wraps_the_text_in_boilerplate(folder: Path) -> None:
    page = (folder / "brolin-duo-manual.html").read_text(encoding="utf-8")
    assert all(tag in page for tag in ("<nav>", '<div class="notice">', "<aside>", "<footer>", "<script>"))
