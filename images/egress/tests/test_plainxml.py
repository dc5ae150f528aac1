# SPDX-License-Identifier: Apache-2.0
"""XML of strangers: no encoding hides a document type, whose entities would multiply in memory."""

import pytest

from nimblet_egress.plainxml import PARSE_ERRORS, HasDocumentType, parse_plain

BOMB = (
    '<!DOCTYPE a [<!ENTITY b "0123456789"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]><a>&c;&c;&c;&c;</a>',
    "<!DOCTYPE a SYSTEM 'file:///etc/passwd'><a/>",
)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("text", BOMB)
def test_document_type_is_refused_in_every_encoding(text: str, encoding: str) -> None:
    with pytest.raises(HasDocumentType):
        parse_plain(text.encode(encoding))


def test_plain_documents_are_read_whatever_they_hold() -> None:
    # the words of a document type in a text are none
    root = parse_plain("<a><b>&lt;!DOCTYPE &amp; <![CDATA[<!ENTITY]]></b></a>".encode("utf-16"))
    assert root.findtext("b") == "<!DOCTYPE & <!ENTITY"


@pytest.mark.parametrize("raw", [b"", b"<a>", b"no", b'<?xml version="1.0" encoding="nonsense"?><a/>'])
def test_what_is_no_xml_is_told_by_the_named_errors(raw: bytes) -> None:
    with pytest.raises(PARSE_ERRORS):
        parse_plain(raw)
