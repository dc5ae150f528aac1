# SPDX-License-Identifier: Apache-2.0
"""The wall against request forgery, redirects, credentials, TLS and proxies, on real sockets."""

import socket
from base64 import b64encode
from pathlib import Path

import pytest

from loader_testing.bench import Bench
from loader_testing.server import Reply, Request, serving
from loader_testing.tls import issue
from nimblet_egress.client import Client
from nimblet_egress.credentials import Credentials
from nimblet_egress.errors import Reason, SourceError
from nimblet_egress.policy import AllowRule, Proxy
from nimblet_egress.target import parse_target
from nimblet_loader.contract import FetchPolicy

NOBODY = Credentials(None, ())
LOOPBACK = "127.0.0.0/8"


def to_loopback(host: str, port: int) -> list[str]:
    return ["127.0.0.1"]


def got(client: Client, url: str) -> bytes:
    try:
        with client.get(url) as answer:
            return answer.text(1000)
    finally:
        client.close()


def refusal(client: Client, url: str) -> SourceError:
    with pytest.raises(SourceError) as caught:
        got(client, url)
    return caught.value


def hello(_request: Request) -> Reply:
    return Reply(200, {"Content-Length": "5"}, (b"hello",))


def redirect(location: str) -> Reply:
    return Reply(302, {"Location": location, "Content-Length": "0"})


@pytest.mark.parametrize(
    ("host", "addresses"),
    [
        ("inside.test", ["10.1.2.3"]),
        ("metadata.test", ["169.254.169.254"]),
        ("hub.test", ["::ffff:10.0.0.1"]),
        ("hub.test", ["10.0.0.1", "fd00::1"]),
    ],
)
def test_a_listed_name_at_a_forbidden_address_is_refused(bench: Bench, host: str, addresses: list[str]) -> None:
    bench.addresses[host] = addresses
    assert refusal(bench.client(), bench.base(host)).reason is Reason.HostNotAllowed


@pytest.mark.parametrize("host", ["unlisted.test", "127.0.0.1", "[::1]", "2130706433", "hub.test.evil.test"])
def test_an_unlisted_host_is_refused_without_resolving(bench: Bench, host: str) -> None:
    bench.addresses.clear()
    assert refusal(bench.client(), bench.base(host)).reason is Reason.HostNotAllowed


def test_plain_http_needs_permission(bench: Bench) -> None:
    bench.rules = (AllowRule(host="hub.test", cidr=LOOPBACK),)
    assert refusal(bench.client(), bench.base()).reason is Reason.HostNotAllowed


def test_of_two_rules_only_the_one_that_permits_http_judges_the_address(bench: Bench) -> None:
    bench.rules = (AllowRule(host="hub.test", allow_http=True), AllowRule(host="hub.test", cidr=LOOPBACK))
    assert refusal(bench.client(), bench.base()).reason is Reason.HostNotAllowed


def test_a_name_that_changes_its_mind_gains_nothing(bench: Bench) -> None:
    answers = [["127.0.0.1"], ["10.0.0.1"]]
    client = Client(bench.policy(), NOBODY, resolve=lambda _host, _port: answers.pop(0))
    with client.get(f"{bench.base()}/api/models/acme/tiny/revision/main") as answer:
        answer.text(10_000)
    assert len(answers) == 1
    assert refusal(client, bench.base()).reason is Reason.HostNotAllowed


def test_a_name_without_addresses(bench: Bench) -> None:
    bench.addresses.clear()
    error = refusal(bench.client(), bench.base())
    assert error.reason is Reason.SourceUnavailable
    assert "resolved" in error.message


def test_a_closed_port(bench: Bench) -> None:
    # one that is held and never listened: a server that has just closed its own may still take a connection
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        url = f"http://hub.test:{held.getsockname()[1]}/x"
        assert refusal(bench.client(), url).reason is Reason.SourceUnavailable


@pytest.mark.parametrize(
    "location",
    [
        "http://inside.test/",
        "http://metadata.test/latest/meta-data",
        "http://elsewhere.test/",
        "http://127.0.0.1/",
        "file:///etc/passwd",
        "http://user:pw@hub.test/",
        "//unlisted.test/x",
    ],
)
def test_redirects_to_refused_places(location: str, bench: Bench) -> None:
    with serving(lambda _: redirect(location)) as server:
        error = refusal(bench.client(), f"http://hub.test:{server.port}/x")
    assert error.reason is Reason.RedirectRefused
    assert len(server.requests) == 1


def test_endless_redirects_are_capped(bench: Bench) -> None:
    with serving(lambda request: redirect(request.target + "x")) as server:
        error = refusal(bench.client(), f"http://hub.test:{server.port}/x")
    assert error.reason is Reason.RedirectRefused
    assert len(server.requests) == 6


def test_a_redirect_without_location(bench: Bench) -> None:
    with serving(lambda _: Reply(302, {"Content-Length": "0"})) as server:
        error = refusal(bench.client(), f"http://hub.test:{server.port}/x")
    assert error.reason is Reason.UnexpectedResponse


def test_a_token_stays_at_its_host_even_if_the_next_is_named_too(bench: Bench) -> None:
    def answer(request: Request) -> Reply:
        steps = {"/1": "/2", "/2": f"http://cdn.test:{server.port}/3", "/3": f"http://hub.test:{server.port}/4"}
        return redirect(steps[request.target]) if request.target in steps else hello(request)

    with serving(answer) as server:
        credentials = Credentials("canary", ("hub.test", "cdn.test"))
        client = Client(bench.policy(), credentials, resolve=to_loopback)
        assert got(client, f"http://hub.test:{server.port}/1") == b"hello"
    assert ["authorization" in request.headers for request in server.requests] == [True, True, False, False]


def test_a_token_is_not_sent_to_a_host_that_is_not_named(bench: Bench) -> None:
    client = Client(bench.policy(), Credentials("canary", ("other.test",)), resolve=to_loopback)
    with serving(hello) as server:
        got(client, f"http://hub.test:{server.port}/")
    assert "authorization" not in server.requests[0].headers


def test_a_named_port_must_match() -> None:
    credentials = Credentials("canary", ("hub.test:8443",))
    assert not credentials.may_see(parse_target("https://hub.test/"))
    assert credentials.may_see(parse_target("https://hub.test:8443/"))


def test_tls_is_checked_against_the_rules_own_authority(tmp_path: Path) -> None:
    issued = issue("hub.test", tmp_path)
    with serving(hello, tls=issued.context) as server:
        for host, ca, works in (
            ("hub.test", issued.ca, True),
            ("hub.test", None, False),
            ("cdn.test", issued.ca, False),
        ):
            rule = AllowRule(host=host, cidr=LOOPBACK, ca=ca)
            client = Client(FetchPolicy(version=1, allow=(rule,)), NOBODY, resolve=to_loopback)
            url = f"https://{host}:{server.port}/"
            if works:
                assert got(client, url) == b"hello"
            else:
                assert refusal(client, url).reason is Reason.SourceUnavailable


def test_an_unreadable_authority_is_the_admins_mistake() -> None:
    policy = FetchPolicy(version=1, allow=(AllowRule(host="hub.test"),), ca_bundle="not pem")
    client = Client(policy, NOBODY, resolve=to_loopback)
    assert refusal(client, "https://hub.test/").reason is Reason.ConfigInvalid


def test_https_never_falls_back_to_http(tmp_path: Path) -> None:
    issued = issue("hub.test", tmp_path)
    with serving(lambda _: redirect("http://hub.test/"), tls=issued.context) as server:
        rule = AllowRule(host="hub.test", cidr=LOOPBACK, ca=issued.ca, allow_http=True)
        client = Client(FetchPolicy(version=1, allow=(rule,)), NOBODY, resolve=to_loopback)
        assert refusal(client, f"https://hub.test:{server.port}/").reason is Reason.RedirectRefused


def test_a_proxy_is_used_for_listed_hosts_only() -> None:
    with serving(hello) as server:
        proxy = Proxy(http=f"http://user:pw@127.0.0.1:{server.port}", no_proxy=("direct.test",))
        rules = tuple(AllowRule(host=name, allow_http=True) for name in ("hub.test", "direct.test"))
        policy = FetchPolicy(version=1, allow=rules, proxy=proxy)
        assert got(Client(policy, NOBODY, resolve=to_loopback), "http://hub.test/x") == b"hello"
        for host in ("direct.test", "unlisted.test"):
            error = refusal(Client(policy, NOBODY, resolve=to_loopback), f"http://{host}/x")
            assert error.reason is Reason.HostNotAllowed
    (request,) = server.requests
    assert request.target == "http://hub.test/x"
    assert request.headers["proxy-authorization"] == f"Basic {b64encode(b'user:pw').decode()}"


def test_https_goes_through_the_proxy_as_a_tunnel() -> None:
    with serving(lambda _: Reply(403, {"Content-Length": "0"})) as server:
        policy = FetchPolicy(
            version=1, allow=(AllowRule(host="hub.test"),), proxy=Proxy(https=f"http://127.0.0.1:{server.port}")
        )
        error = refusal(Client(policy, NOBODY, resolve=to_loopback), "https://hub.test/x")
    assert error.reason is Reason.SourceUnavailable
    assert server.requests[0].target == "hub.test:443"


def test_an_empty_allow_list_means_the_hub_alone() -> None:
    own = FetchPolicy(version=1, hf_endpoint="https://mirror.test/hub")
    assert [rule.host for rule in own.rules()] == ["mirror.test"]
    public = FetchPolicy(version=1).rules()
    assert [rule.host for rule in public] == ["huggingface.co", "*.huggingface.co", "*.hf.co"]
    assert not any(rule.allow_private or rule.allow_http or rule.cidr for rule in public)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a/",
        "https://",
        "https://a b/",
        "https://a/\n",
        "https://a:99999/",
        "https://u@a/",
        "//a/",
        "https://[::1/",
    ],
)
def test_unusable_urls_are_named(url: str) -> None:
    with pytest.raises(SourceError) as caught:
        parse_target(url)
    assert caught.value.reason is Reason.ConfigInvalid


def test_urls_are_normalised() -> None:
    target = parse_target("https://HUB.Test.:8443/a?b=c#d")
    assert (target.url, target.shown) == ("https://hub.test:8443/a?b=c", "https://hub.test:8443/a")
    assert parse_target("https://[::1]/").authority == "[::1]"
