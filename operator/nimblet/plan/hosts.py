# SPDX-License-Identifier: Apache-2.0
"""Whether an address that a tenant gave may be reached: the administrator's allow-list decides. Pure."""

from urllib.parse import urlsplit

from nimblet.conditions import Reason
from nimblet.plan.facts import SecretFacts
from nimblet.plan.references import secret_flaw
from nimblet.plan.stage import Problem, problem
from nimblet.settings import AllowEntry, Fetch


def host_of(url: str) -> str:
    """Return the host of an address, in lower case."""
    return (urlsplit(url).hostname or "").lower()


def allowed(url: str, fetch: Fetch) -> AllowEntry | None:
    """Return the first entry of the allow-list that an address meets, None where none does."""
    host, plain = host_of(url), urlsplit(url).scheme == "http"
    met = (entry for entry in fetch.allow if _matches(entry.host, host) and (entry.allow_http or not plain))
    return next(met, None)


def _matches(pattern: str, host: str) -> bool:
    pattern = pattern.lower()
    return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern


def address_problem(url: str, fetch: Fetch, *, field: str) -> Problem | None:
    """Return why an address must not be reached."""
    if allowed(url, fetch) is not None:
        return None
    how = " in plain HTTP" if urlsplit(url).scheme == "http" else ""
    found = f"{field} names the host {host_of(url)}, which the administrator does not allow{how}."
    return problem(Reason.HOST_NOT_ALLOWED, found)


def credential_problem(
    name: str, secret: SecretFacts | None, *, namespace: str, required: tuple[str, ...], url: str
) -> Problem | None:
    """Return why a Secret can't be sent to an address; "" stands for one that the indexer itself checks."""
    flaw = secret_flaw(name, secret, namespace=namespace, required=required)
    if flaw is not None or secret is None:
        return flaw
    host = host_of(url)
    if not secret.hosts or (host and {host, urlsplit(url).netloc.lower()}.isdisjoint(secret.hosts)):
        where = f"the host {host}" if host else "any host"
        return problem(Reason.SECRET_NOT_USABLE, f"Secret {name} does not name {where} that it may be sent to.")
    return None
