# SPDX-License-Identifier: Apache-2.0
"""A site as a source: what its robots.txt forbids, what belongs to it, and in which form its pages come."""

import gzip
import zlib
from collections.abc import Iterator
from itertools import repeat

import pytest

from indexer_testing.build import Bench
from indexer_testing.places import Places, page, places_of, sized
from loader_testing.server import Reply
from nimblet_egress.errors import Reason

EMPTY = {"Content-Length": "0"}


@pytest.fixture
def places() -> Iterator[Places]:
    """A site of two pages."""
    with places_of({}) as made:
        made.pages = {"/": page("Home."), "/pages/pump": page("It runs at 45 bar.")}
        yield made


def source(places: Places, *paths: str, **fields: object) -> dict[str, object]:
    """Return a source over some pages."""
    return {"type": "Web", "name": "site", "urls": [f"{places.url}{path}" for path in paths], **fields}


def sitemap(*urls: str, kind: str = "urlset") -> bytes:
    """Return a sitemap."""
    return f"<{kind}>{''.join(f'<url><loc>{url}</loc></url>' for url in urls)}</{kind}>".encode()


def test_pages_are_named_by_their_paths(bench: Bench, places: Places) -> None:
    places.pages["/pages/pump?page=2"] = page("More.")
    ending = bench.build(source(places, "/", "/pages/pump", "/pages/pump?page=2"))
    assert ending.failed is None
    assert bench.retriever.documents() == {"site/index", "site/pages/pump", "site/pages/pump?page=2"}


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_robots_txt_is_obeyed(bench: Bench, places: Places, mark: str) -> None:
    rules = f"{mark}User-agent: *\nDisallow: /pages/\nAllow: /pages/*.html$\n\nUser-agent: other\nDisallow: /"
    places.pages |= {"/robots.txt": sized(rules.encode()), "/pages/a.html": page("Allowed.")}
    ending = bench.build(source(places, "/", "/pages/pump", "/pages/a.html"))
    assert bench.retriever.documents() == {"site/index", "site/pages/a.html"}
    assert [(error.file, error.reason) for error in ending.report.errors] == [
        ("site/pages/pump", "RobotsDisallowed")
    ]


def test_pause_that_robots_txt_asks_for_is_kept(bench: Bench, places: Places) -> None:
    # what is left of it: the time between two requests counts, and on a busy machine there is some
    places.pages["/robots.txt"] = sized(b"User-agent: *\nCrawl-delay: 10")
    assert bench.build(source(places, "/", "/pages/pump")).report.documents == 2
    assert any(1.0 < nap <= 10.0 for nap in bench.naps)


def test_site_that_can_not_tell_its_rules_is_not_read(bench: Bench, places: Places) -> None:
    places.pages["/robots.txt"] = Reply(500, EMPTY)
    ending = bench.build(source(places, "/"))
    assert ending.failed is not None
    assert ending.failed.reason is Reason.SourceUnavailable
    assert places.server is not None
    assert set(places.server.paths()) == {"/robots.txt"}


def test_sitemaps_of_sitemaps_are_read_and_other_sites_left_out(bench: Bench, places: Places) -> None:
    places.pages |= {
        "/sitemap.xml": sized(sitemap(f"{places.url}/a.xml.gz", f"{places.url}/sitemap.xml", kind="sitemapindex")),
        "/a.xml.gz": sized(
            gzip.compress(sitemap(f"{places.url}/pages/pump", "http://other.test/x", "mailto:someone"))
        ),
    }
    ending = bench.build({"type": "Web", "name": "site", "sitemap": f"{places.url}/sitemap.xml"})
    assert bench.retriever.documents() == {"site/pages/pump"}
    assert {(error.file, error.reason) for error in ending.report.errors} == {
        ("site/x", "OtherSite"),
        ("site/mailto:someone", "UnsafeName"),
    }


def test_page_of_another_site_hides_none_of_the_same_path(bench: Bench, places: Places) -> None:
    # Given a list in which another site's pages, and one that nobody may read, come before ours
    places.pages["/robots.txt"] = sized(b"User-agent: *\nDisallow: /pages/pump/")
    urls = [
        "http://other.test/pages/pump",
        "http://other.test/pages/pump",
        f"{places.url}/pages/pump/",
        f"{places.url}/pages/pump",
    ]
    ending = bench.build({"type": "Web", "name": "site", "urls": [f"{places.url}/", *urls]})
    assert bench.retriever.documents() == {"site/index", "site/pages/pump"}
    # Then each is told once
    assert [(error.file, error.reason) for error in ending.report.errors] == [
        ("site/pages/pump", "OtherSite"),
        ("site/pages/pump", "RobotsDisallowed"),
    ]


def test_addresses_that_nobody_escaped_are_read(bench: Bench, places: Places) -> None:
    places.pages |= {
        "/ma%C3%9F?q=%C3%A4": page("One."),
        "/sitemap.xml": sized(sitemap(f"{places.url}/maß?q=ä", f"{places.url}/ma%C3%9F?q=%C3%A4")),
    }
    ending = bench.build({"type": "Web", "name": "site", "sitemap": f"{places.url}/sitemap.xml"})
    assert (bench.retriever.documents(), ending.report.errors) == ({"site/maß?q=ä"}, ())


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"<rss></rss>",
        b'<!DOCTYPE x [<!ENTITY a "aaaa">]><urlset>&a;</urlset>',
        '<!DOCTYPE x [<!ENTITY a "aaaa">]><urlset><url><loc>&a;</loc></url></urlset>'.encode("utf-16"),
        b"\x1f\x8bbroken",
        gzip.compress(bytes(60 * 2**20)),
    ],
)
def test_what_is_no_sitemap_is_told(bench: Bench, places: Places, body: bytes) -> None:
    places.pages["/sitemap.xml"] = sized(body)
    ending = bench.build({"type": "Web", "name": "site", "sitemap": f"{places.url}/sitemap.xml"})
    assert ending.failed is not None
    assert ending.failed.reason is Reason.UnexpectedResponse


def test_page_that_redirects_to_another_site_is_left_out(bench: Bench, places: Places) -> None:
    # Given two sites that the administrator allows, one of which redirects to the other
    with places_of({}) as other:
        other.pages["/x"] = page("Foreign.")
        places.pages["/pages/pump"] = Reply(302, {"Location": f"{other.url}/x", **EMPTY})
        ending = bench.build(source(places, "/", "/pages/pump"))
    assert bench.retriever.documents() == {"site/index"}
    assert ending.report.errors[0].reason == "OtherSite"


def test_page_that_redirects_to_where_robots_txt_forbids_is_left_out(bench: Bench, places: Places) -> None:
    places.pages |= {
        "/robots.txt": sized(b"User-agent: *\nDisallow: /private"),
        "/private": page("Secret."),
        "/pages/pump": Reply(302, {"Location": "/private", **EMPTY}),
    }
    assert bench.build(source(places, "/", "/pages/pump")).report.errors[0].reason == "RobotsDisallowed"


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (sized("Maß".encode("latin-1"), Content_Type="text/plain; charset=ISO-8859-1"), "Maß"),
        (sized(b"# T\n\n**Bold**", Content_Type="text/markdown"), "Bold"),
        (sized("<p>Maß".encode("cp1252"), Content_Type='text/html; charset="windows-1252"'), "Maß"),
        (sized(b"Plain", Content_Type="text/plain; charset=nonsense"), "Plain"),
        (sized(b"PNG", Content_Type="image/png"), None),
        (sized(b"untyped"), None),
        (sized(b"packed", Content_Type="text/plain", Content_Encoding="gzip"), None),
    ],
)
def test_content_type_tells_the_format(bench: Bench, places: Places, reply: Reply, text: str | None) -> None:
    places.pages["/x"] = reply
    ending = bench.build(source(places, "/", "/x"))
    assert ending.report.served
    found = [item["text"] for (document, _), item in bench.retriever.passages.items() if document == "site/x"]
    assert found == ([] if text is None else [text])
    assert ending.report.refused == (1 if text is None else 0)


@pytest.mark.parametrize(
    ("charset", "data"),
    [
        ("zlib", zlib.compress(b"Plain" * 1000)),
        ("hex", b"506c61696e"),
        ("base64", b"Plain"),
        ("rot13", b"Plain"),
        ("utf-7", b"+2AA-"),
        ("unicode_escape", rb"\ud800"),
        ("punycode", b"Plain-" + b"a" * 1000),
    ],
)
def test_page_of_a_charset_that_is_none_ends_no_build(
    bench: Bench, places: Places, charset: str, data: bytes
) -> None:
    places.pages["/odd"] = sized(data, Content_Type=f"text/html; charset={charset}")
    ending = bench.build(source(places, "/", "/odd"))
    # Then nothing was unpacked, and the other page is there
    assert (ending.failed, ending.report.served) == (None, True)
    assert bench.retriever.documents() >= {"site/index"}
    assert not [item for item in bench.retriever.passages.values() if "PlainPlain" in str(item["text"])]


def test_pages_beyond_the_limit_are_told(bench: Bench, places: Places) -> None:
    ending = bench.build(source(places, "/", "/pages/pump", maxPages=1))
    assert (ending.report.documents, ending.report.errors[0].reason) == (1, "TooMany")


def test_etags_tell_whether_a_site_changed(bench: Bench, places: Places) -> None:
    places.pages["/pages/pump"] = page("One.", ETag='"1"')
    first = bench.build(source(places, "/pages/pump")).report.sources[0]
    places.pages["/pages/pump"] = page("Two.", ETag='"2"')
    second = bench.build(source(places, "/pages/pump"), generation="g000003").report.sources[0]
    assert first.revision.startswith("etags:")
    assert (first.revision, first.hash) != (second.revision, second.hash)


def test_site_that_goes_away_ends_the_build(bench: Bench, places: Places) -> None:
    # Given a site that answers no page any more
    paths = [f"/{number}" for number in range(8)]
    places.pages |= dict.fromkeys(paths, Reply(503, EMPTY))
    ending = bench.build(source(places, "/", *paths))
    # Then it is the site that is told, and nothing is swapped
    assert ending.failed is not None
    assert (ending.failed.reason, bench.retriever.sealed) == (Reason.SourceUnavailable, [])


def test_page_that_trickles_is_given_up(bench: Bench, places: Places) -> None:
    places.pages["/x"] = Reply(200, {"Content-Type": "text/plain"}, repeat(b"x"))
    ending = bench.build(source(places, "/", "/x"), limits={"fetchSeconds": 2, "fileBytes": 2**30})
    assert ending.report.served
    assert ending.report.errors[0].reason == "Unreachable"
