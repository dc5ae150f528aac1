# SPDX-License-Identifier: Apache-2.0
"""The guest's key service, a real HTTP server on loopback: what it releases, refuses, stalls and floods."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from loader_testing.bench import MODEL, Bench
from loader_testing.pod import Pod
from loader_testing.sealing import SealedModel, publish
from loader_testing.server import LoopbackServer, Reply, Request, serving
from nimblet_egress.errors import Reason, SourceError
from nimblet_egress.retry import Pace
from nimblet_loader.cdh import HOST, PORT, Hub, released
from nimblet_loader.contract import Artifact, Encryption
from nimblet_loader.weightskey import weights_key

RESOURCE = "default/weights/tiny"
KEY_PATH = f"/cdh/resource/{RESOURCE}"
SECRET = b"the-secret"


def hub_of(server: LoopbackServer, naps: list[float] | None = None) -> Hub:
    """Return a hub that is asked three times and waits in no time."""
    pace = Pace(attempts=3, sleep=(naps if naps is not None else []).append, share=lambda: 0.0)
    return Hub(port=server.port, pace=pace)


def answered(*replies: Reply) -> Callable[[Request], Reply]:
    """Give one reply after another, the last for ever; only the one path is known."""
    waiting = list(replies)

    def answer(request: Request) -> Reply:
        if request.target != KEY_PATH:
            return Reply(404)
        return waiting.pop(0) if len(waiting) > 1 else waiting[0]

    return answer


def reason_of(action: Callable[[], object]) -> tuple[Reason, str]:
    with pytest.raises(SourceError) as caught:
        action()
    return caught.value.reason, caught.value.message


def test_it_is_asked_where_guests_have_it() -> None:
    """By the project's documentation of the resource API."""
    assert (HOST, PORT) == ("127.0.0.1", 8006)


def test_a_secret_is_released() -> None:
    with serving(answered(Reply(200, {"Content-Length": "10"}, (SECRET,)))) as server:
        assert released(hub_of(server), RESOURCE, limit=100) == SECRET
    assert server.paths() == [KEY_PATH]
    assert "authorization" not in server.requests[0].headers


def test_a_secret_without_a_length_is_read_to_its_end() -> None:
    with serving(answered(Reply(200, {}, (SECRET[:4], SECRET[4:])))) as server:
        assert released(hub_of(server), RESOURCE, limit=100) == SECRET


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_is_told_at_once(status: int) -> None:
    """What a revoked key or a policy against this guest looks like."""
    naps: list[float] = []
    with serving(answered(Reply(status, {"Content-Length": "10"}, (SECRET,)))) as server:
        reason, message = reason_of(lambda: released(hub_of(server, naps), RESOURCE, limit=100))
    assert reason is Reason.KeyNotReleased
    assert str(status) in message
    assert SECRET.decode() not in message
    assert (len(server.requests), naps) == (1, [])


def test_the_hubs_own_trouble_is_tried_again_and_then_told_as_not_released() -> None:
    """The hub answers 500 for whatever the broker said, also that it refuses."""
    with serving(answered(Reply(500))) as server:
        reason, _ = reason_of(lambda: released(hub_of(server), RESOURCE, limit=100))
    assert (reason, len(server.requests)) == (Reason.KeyNotReleased, 3)


def test_a_hub_that_recovers_is_good_enough() -> None:
    with serving(answered(Reply(500), Reply(200, {}, (SECRET,)))) as server:
        assert released(hub_of(server), RESOURCE, limit=100) == SECRET


@pytest.mark.parametrize("body", [(), (b"x" * 101,)])
def test_nothing_and_too_much_are_no_key(body: tuple[bytes, ...]) -> None:
    with serving(answered(Reply(200, {}, body))) as server:
        reason, _ = reason_of(lambda: released(hub_of(server), RESOURCE, limit=100))
    assert reason is Reason.KeyNotReleased


def test_an_endless_answer_is_cut_off() -> None:
    with serving(answered(Reply(200, {}, iter(lambda: b"x" * 1000, b"")))) as server:
        reason, _ = reason_of(lambda: released(hub_of(server), RESOURCE, limit=100))
    assert reason is Reason.KeyNotReleased


def test_silence_ends_by_the_clock() -> None:
    with serving(answered(Reply(200, {"Content-Length": "10"}, (SECRET[:4],), hold=True))) as server:
        ticks = count(0.0, 0.04)
        hub = replace(hub_of(server), seconds=0.1, now=lambda: next(ticks))
        reason, message = reason_of(lambda: released(hub, RESOURCE, limit=100))
    assert reason is Reason.KeyServiceUnavailable
    assert "TimeoutError" in message


def test_no_hub_at_all_is_told() -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        hub = Hub(port=taken.getsockname()[1], pace=Pace(attempts=2, sleep=lambda _: None))
        reason, message = reason_of(lambda: released(hub, RESOURCE, limit=100))
    assert reason is Reason.KeyServiceUnavailable
    assert "TEEPolicy" in message


def test_what_is_no_hub_is_told() -> None:
    with line_server(b"220 mail.example ESMTP\r\n") as port:
        hub = Hub(port=port, pace=Pace(attempts=1))
        reason, _ = reason_of(lambda: released(hub, RESOURCE, limit=100))
    assert reason is Reason.KeyServiceUnavailable


@contextmanager
def line_server(line: bytes) -> Iterator[int]:
    """Take one connection and say one line that is not HTTP."""
    with socket.create_server((HOST, 0)) as listening:

        def talk() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(line)

        thread = threading.Thread(target=talk)
        thread.start()
        yield listening.getsockname()[1]
        thread.join()


def test_bytes_that_are_no_text_are_no_key() -> None:
    encryption = Encryption(model="m", revision="1", resource=RESOURCE)
    with serving(answered(Reply(200, {}, (b"\xff\xfe",)))) as server:
        reason, _ = reason_of(lambda: weights_key(encryption, path=Path("/nowhere"), hub=hub_of(server)))
    assert reason is Reason.DecryptionKeyInvalid


def test_the_program_decrypts_with_a_key_of_the_guests_service(bench: Bench, tmp_path: Path) -> None:
    sealed = publish(bench, tmp_path)
    replies = [Reply(200, {}, (f"{sealed.key.secret}\n".encode(),)), Reply(403)]
    with serving(answered(*replies)) as server:
        pod = Pod(bench, tmp_path)
        code, log = brought(pod, sealed, server)
        assert code == 0, log
        assert sealed.key.secret not in log + pod.result.decode()
        assert json.loads(pod.result)["sha256"] == {MODEL: sealed.manifest.plaintext.files[0].sha256}

        (bench.root / MODEL).unlink()
        code, log = brought(pod, sealed, server)
    assert code == Reason.KeyNotReleased.exit_code, log
    assert pod.failure()[0] == "KeyNotReleased"
    assert not list(bench.root.iterdir())


def brought(pod: Pod, sealed: SealedModel, server: LoopbackServer) -> tuple[int, str]:
    """Resolve without a hub, then fetch with one."""
    source = sealed.source(resource=RESOURCE)
    pod.write()
    code, log = pod.run("resolve", **source)
    assert code == 0, log
    pod.write(artifact=Artifact.model_validate_json(pod.result))
    return pod.run("fetch", f"--cdh-port={server.port}", **source)
