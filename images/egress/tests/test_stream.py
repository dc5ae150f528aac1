# SPDX-License-Identifier: Apache-2.0
"""Bodies read around the parser: the same bytes, whatever way the head and the body are cut into packets."""

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

import pytest

from nimblet_egress.client import Answer, Client
from nimblet_egress.credentials import Credentials
from nimblet_egress.errors import Reason, SourceError
from nimblet_egress.policy import AllowRule, EgressPolicy

BODY = bytes(range(256)) * 9000
RULE = AllowRule(host="127.0.0.1", cidr="127.0.0.0/8", allow_http=True)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY)


@contextmanager
def sending(*answers: Sequence[bytes]) -> Iterator[str]:
    """Answer requests of one connection with these packets, then close; yield the URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with connection:
                for packets in answers:
                    connection.recv(65536)
                    for packet in packets:
                        connection.sendall(packet)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        thread.join()


@pytest.fixture
def client() -> Iterator[Client]:
    with closing(Client(EgressPolicy(allow=(RULE,)), Credentials(None, ()))) as client:
        yield client


def drain(answer: Answer, received: bytearray) -> None:
    for chunk in answer.bulk():
        received += chunk


@pytest.mark.parametrize(
    "packets",
    [
        [OK + BODY],
        [OK, BODY],
        [OK[:20], OK[20:-2], OK[-2:] + BODY[:7], BODY[7:]],
        [OK[:-1], OK[-1:] + BODY],
        [b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK + BODY],
        [OK.replace(b"\r\n", b"\n") + BODY],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % len(BODY), BODY, b"\r\n0\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\n\r\n" + BODY],
    ],
)
def test_the_body_is_whole(packets: list[bytes], client: Client) -> None:
    with sending(packets) as url, client.get(url) as answer:
        assert b"".join(answer.bulk()) == BODY


def test_bytes_after_the_announced_length_are_not_the_body(client: Client) -> None:
    with sending([OK + BODY + b"more"]) as url, client.get(url) as answer:
        assert b"".join(answer.bulk()) == BODY


def test_what_came_before_the_end_is_kept(client: Client) -> None:
    received = bytearray()
    with sending([OK + BODY[:-1]]) as url, client.get(url) as answer, pytest.raises(SourceError) as caught:
        drain(answer, received)
    assert caught.value.reason is Reason.DownloadTruncated
    assert received == BODY[:-1]


def test_a_connection_serves_on_after_a_body_that_the_parser_read(client: Client) -> None:
    with sending([OK + BODY], [OK + BODY]) as url:
        with client.get(url) as answer:
            assert b"".join(answer.chunks()) == BODY
        with client.get(url) as answer:
            assert b"".join(answer.bulk()) == BODY
