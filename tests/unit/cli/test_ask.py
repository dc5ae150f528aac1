# SPDX-License-Identifier: Apache-2.0
"""Asking a model over HTTP: what is sent, and what is said of every other answer. A real server on loopback."""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from nimblet.api.compactmodel import CompactModelStatus, ResolvedStatus
from nimblet.cli.ask import Question, Trust, ask, check_proxied, direct_endpoint, proxied_endpoint
from nimblet.cli.errors import CommandError
from nimblet.cli.live import Target
from nimblet.cluster.login import Login
from nimblet.cluster.pki import Authority
from tests.builders import a_model, base_facts, child, plan_of
from tests.loopback import served
from tls_testing.mounted import MountedSecret, new_authority

QUESTION = Question(text="Where?", max_tokens=5, timeout_seconds=60)
TARGET = Target(name="smollm2", namespace="team", kubeconfig=None)
SERVICE = "smollm2-model.team.svc"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", handler)
    async with served(app) as url:
        yield url


def login(server: str) -> Login:
    return Login(
        server=server, authority=None, certificate=None, private_key=None, insecure=False, token="of-the-cluster"
    )


@pytest.mark.asyncio
async def test_question_goes_to_the_url_with_the_key() -> None:
    seen: list[tuple[str, str, object]] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append((request.path, request.headers["Authorization"], await request.json()))
        return web.json_response({"choices": [{"message": {"content": "Here."}}]})

    async with serving(answer) as url:
        assert await ask(direct_endpoint(f"{url}/v1/", api_key="nk-1"), QUESTION) == "Here."
    [(path, authorization, body)] = seen
    assert (path, authorization) == ("/v1/chat/completions", "Bearer nk-1")
    assert body == {"messages": [{"role": "user", "content": "Where?"}], "max_tokens": 5, "stream": False}


@pytest.mark.asyncio
async def test_an_assistants_answer_is_shown_with_its_sources() -> None:
    cited = {
        "number": 1,
        "id": "handbook/hours.md/0@g000001",
        "title": "Hours",
        "location": "Office",
        "score": 0.9,
    }

    async def answer(_: web.Request) -> web.Response:
        choice = {"message": {"content": "At nine [1]."}}
        return web.json_response({"choices": [choice], "citations": [{**cited, "quote": "opens at nine"}]})

    async def refuse(_: web.Request) -> web.Response:
        return web.json_response({"choices": [{"message": {"content": None, "refusal": "I found nothing."}}]})

    async with serving(answer) as url:
        shown = await ask(direct_endpoint(url, api_key="nk-1"), QUESTION)
    assert shown == "At nine [1].\n[1] handbook/hours.md/0@g000001 (Hours, Office): opens at nine"
    async with serving(refuse) as url:
        assert await ask(direct_endpoint(url, api_key="nk-1"), QUESTION) == "I found nothing."


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8080", "ftp://127.0.0.1:8080", "http://", "http://host:99999", "http://host:port", "model"]
)
def test_what_is_no_url_is_told_before_anything_is_sent(url: str) -> None:
    with pytest.raises(CommandError, match=r"expected a URL such as http://127\.0\.0\.1:8080, found "):
        direct_endpoint(url, api_key="nk-1")


@pytest.mark.parametrize(("runtime", "title"), [("VLLM", "vLLM"), ("TGI", "TGI")])
def test_servers_that_read_no_key_behind_the_proxy_are_asked_by_an_address(runtime: str, title: str) -> None:
    # given a model on a server that looks for its key in Authorization alone, which the API server keeps
    status = CompactModelStatus(endpoint="http://smollm2-model.team", resolved=ResolvedStatus(runtime=runtime))
    # when it is to be asked through the API server, then the way that works is told, not a refusal of the server's
    with pytest.raises(CommandError, match=f"expected --url for a model on {title}") as told:
        check_proxied(TARGET, status)
    wanted = "kubectl port-forward -n team service/smollm2-model 8080:http` and give --url http://127.0.0.1:8080"
    assert wanted in str(told.value)
    # by a port that the Service has
    model = a_model()
    service = child(plan_of(model, base_facts(model)).children, "Service", "smollm2-model")
    assert [port["name"] for port in service["spec"]["ports"]] == ["http"]


def test_llamacpp_and_a_model_of_which_nothing_is_known_yet_are_asked_through_the_proxy() -> None:
    check_proxied(TARGET, CompactModelStatus(resolved=ResolvedStatus(runtime="LlamaCpp")))
    check_proxied(TARGET, CompactModelStatus())


@pytest.mark.asyncio
async def test_question_through_the_api_server_keeps_both_credentials_apart() -> None:
    seen: list[tuple[str, str, str]] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append((request.path, request.headers["Authorization"], request.headers["X-Api-Key"]))
        return web.json_response({"choices": [{"message": {"content": "Here."}}]})

    async with serving(answer) as url:
        await ask(proxied_endpoint(login(url), TARGET, api_key="nk-1"), QUESTION)
    path = "/api/v1/namespaces/team/services/http:smollm2-model:http/proxy/v1/chat/completions"
    assert seen == [(path, "Bearer of-the-cluster", "nk-1")]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("status", "text", "said"),
    [
        (401, "wrong key", "expected HTTP 200 from the model, found 401: wrong key"),
        (302, "elsewhere", "found 302"),
        (200, "<html>", "expected a chat completion, found: <html>"),
        (200, '{"choices":[]}', "expected a chat completion"),
    ],
)
async def test_other_answers_are_told(status: int, text: str, said: str) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status, text=text)

    async with serving(answer) as url:
        with pytest.raises(CommandError, match=said):
            await ask(direct_endpoint(url, api_key="nk-1"), QUESTION)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("question", "path", "sent", "answer", "shown"),
    [
        (
            replace(QUESTION, task="Embedding"),
            "/v1/embeddings",
            {"input": "Where?"},
            {"data": [{"embedding": [0.6, 0.8]}]},
            "2 numbers of length 1.0000: 0.6000, 0.8000, …",
        ),
        (
            replace(QUESTION, task="Rerank", documents=("a", "b")),
            "/v1/rerank",
            {"query": "Where?", "documents": ["a", "b"]},
            {"results": [{"index": 0, "relevance_score": 1}, {"index": 1, "relevance_score": 2}]},
            "2.0000  b\n1.0000  a",
        ),
        (
            replace(QUESTION, task="Classify", labels=("sport", "money")),
            "/v1/embeddings",
            {"input": "Where?"},
            {"data": [{"embedding": [-1, 3]}]},
            "3.0000  money\n-1.0000  sport",
        ),
    ],
)
async def test_other_tasks_have_their_own_question_and_answer(
    question: Question, path: str, sent: object, answer: object, shown: str
) -> None:
    seen: list[tuple[str, object]] = []

    async def respond(request: web.Request) -> web.Response:
        seen.append((request.path, await request.json()))
        return web.json_response(answer)

    async with serving(respond) as url:
        assert await ask(direct_endpoint(url, api_key="nk-1"), question) == shown
    assert seen == [(path, sent)]


@pytest.mark.asyncio
async def test_rerank_without_documents_is_told() -> None:
    with pytest.raises(CommandError, match="give --document once for each"):
        await ask(direct_endpoint("http://127.0.0.1:9", api_key="nk-1"), replace(QUESTION, task="Rerank"))


@pytest.mark.asyncio
async def test_absent_server_is_told() -> None:
    with pytest.raises(CommandError, match="is it Serving"):
        await ask(direct_endpoint("http://127.0.0.1:9", api_key="nk-1"), QUESTION)


def test_a_server_that_speaks_tls_is_asked_so_by_the_api_server() -> None:
    endpoint = proxied_endpoint(login("http://127.0.0.1:1"), TARGET, api_key="nk-1", https=True)
    assert endpoint.base_url.endswith("-model:https/proxy")
    assert "/services/https:" in endpoint.base_url


def test_certificates_of_the_cluster_are_loaded(tmp_path: Path) -> None:
    endpoint = proxied_endpoint(login("https://127.0.0.1:6443"), TARGET, api_key="nk-1")
    assert endpoint.tls is not None
    assert endpoint.tls.check_hostname


def trusted(folder: Path, authority: Authority, *, service: str = SERVICE) -> Trust:
    """Return trust in an authority, by a file of its own."""
    ca = folder / f"{authority.parsed.serial_number}.crt"
    ca.write_text(authority.certificate)
    return Trust(ca=ca, service=service)


@pytest.mark.asyncio
async def test_a_port_forward_to_a_server_that_speaks_tls_is_verified_by_the_services_name(tmp_path: Path) -> None:
    # given a server with a certificate of the installation's own, as the operator makes it
    authority, secret = new_authority(), MountedSecret(tmp_path / "tls", host=SERVICE)
    secret.mount(authority)
    served_by = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    served_by.load_cert_chain(tmp_path / "tls" / "tls.crt", tmp_path / "tls" / "tls.key")

    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"choices": [{"message": {"content": "Here."}}]})

    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    async with served(app, tls=served_by) as url:
        # when its authority is given, then it is asked, though its certificate does not name the address
        found = direct_endpoint(url, api_key="nk-1", trust=trusted(tmp_path, authority))
        assert await ask(found, QUESTION) == "Here."
        # and neither without one, nor by another one, nor by another Service's name
        for trust in (None, trusted(tmp_path, new_authority()), trusted(tmp_path, authority, service="other")):
            with pytest.raises(CommandError, match="give the authority by --ca FILE"):
                await ask(direct_endpoint(url, api_key="nk-1", trust=trust), QUESTION)


def test_an_authority_that_can_not_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("")
    for ca in (tmp_path / "empty", tmp_path / "none"):
        with pytest.raises(CommandError, match="expected certificates as PEM in "):
            direct_endpoint("https://127.0.0.1:1", api_key="k", trust=Trust(ca=ca, service=SERVICE))
    with pytest.raises(CommandError, match="expected --url with https for --ca"):
        direct_endpoint("http://127.0.0.1:1", api_key="k", trust=trusted(tmp_path, new_authority()))


def test_a_name_that_is_no_port_forwards_must_be_in_the_certificate_itself(tmp_path: Path) -> None:
    trust = trusted(tmp_path, new_authority())
    for host, name in (
        ("localhost", SERVICE),
        ("[::1]", SERVICE),
        ("127.0.0.9", SERVICE),
        ("models.example", None),
    ):
        assert direct_endpoint(f"https://{host}:8443", api_key="k", trust=trust).server_name == name
