# SPDX-License-Identifier: Apache-2.0
"""One repository of an OCI registry: documents and blobs, with the token flow that registries ask for.

Protocol: https://github.com/opencontainers/distribution-spec/blob/main/spec.md; tokens as in
https://distribution.github.io/distribution/spec/auth/token/. A login goes to no host that the Secret does not
name, and a token that it bought goes only to the registry that asked for it. It must not know what documents mean.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

from pydantic import BaseModel, ConfigDict, ValidationError

from nimblet_egress.client import Answer, Client
from nimblet_egress.errors import Reason, SourceError, quoted
from nimblet_egress.sigv4 import encoded
from nimblet_egress.status import status_error
from nimblet_egress.target import Target, parse_target
from nimblet_loader.connector import Body, Explain, Span, open_http, tag_error

MAX_DOCUMENT_BYTES = 4 * 2**20
"""What registries themselves allow for a manifest (distribution-spec, "Pushing Manifests")."""
_TOKEN_BYTES = 64 * 2**10
_TOKEN = re.compile(r"^[\x21-\x7e]{1,16384}$")
_PARAMETER = re.compile(r'([a-z]+)="([^"]*)"')
_OK, _UNAUTHORIZED, _FORBIDDEN = 200, 401, 403


class _TokenAnswer(BaseModel):
    """Either name is in use; other keys are passed over."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    token: str | None = None
    access_token: str | None = None


class Registry:
    """A repository at `base` (scheme and host); `shown` names the source in messages."""

    def __init__(self, client: Client, *, base: str, repository: str, shown: str) -> None:
        self._client = client
        self._root = f"{base}/v2/{repository}"
        self._repository = repository
        self._shown = shown
        self._place = parse_target(f"{base}/")
        self._authorization: str | None = None
        self._challenge: str | None = None
        self._logged_in = False

    def document(self, reference: str, accept: str) -> bytes:
        """Return the manifest or index that a tag or digest names."""
        url, headers = f"{self._root}/manifests/{reference}", {"Accept": accept}
        with self._opened(url, Span(), headers, self._document_error) as (answer, _):
            return answer.text(MAX_DOCUMENT_BYTES)

    @contextmanager
    def blob(self, digest: str, *, span: Span, what: str) -> Iterator[Body]:
        """Open a blob at a span; `what` names it in messages."""

        def explain(answer: Answer) -> SourceError:
            return self._error(answer, what)

        url = f"{self._root}/blobs/{digest}"
        with self._opened(url, Span(span.start, span.stop), {}, explain) as (_, body):
            yield body

    @contextmanager
    def _opened(
        self, url: str, span: Span, headers: Mapping[str, str], explain: Explain
    ) -> Iterator[tuple[Answer, Body]]:
        """Open a URL, with a new token where the registry asks for one: the first time, or when one ran out."""

        def noted(answer: Answer) -> SourceError:
            refused = answer.last.status == _UNAUTHORIZED and self._is_registry(answer.last.target)
            self._challenge = answer.last.headers.get("www-authenticate") if refused else None
            return explain(answer)

        with ExitStack() as stack:
            try:
                opened = stack.enter_context(self._once(url, span, headers, noted))
            except SourceError:
                if self._challenge is None or not self._authorize(self._challenge):
                    raise
                opened = stack.enter_context(self._once(url, span, headers, explain))
            yield opened

    @contextmanager
    def _once(
        self, url: str, span: Span, headers: Mapping[str, str], explain: Explain
    ) -> Iterator[tuple[Answer, Body]]:
        self._challenge = None
        with open_http(self._client, url, span=span, explain=explain, headers=headers, sign=self._sign) as opened:
            yield opened

    def _sign(self, target: Target) -> Mapping[str, str]:
        if self._authorization is None or not self._is_registry(target):
            return {}
        return {"Authorization": self._authorization}

    def _is_registry(self, target: Target) -> bool:
        return target.same_place(self._place)

    @property
    def _may_log_in(self) -> bool:
        return self._client.credentials.may_see(self._place)

    def _authorize(self, challenge: str) -> bool:
        """Get what the challenge asks for; False where nothing can be had that was not sent already."""
        scheme, _, rest = challenge.partition(" ")
        parameters = dict(_PARAMETER.findall(rest))
        if scheme.lower() == "basic":
            before = self._authorization
            self._authorization = self._login(self._place).get("Authorization")
            self._logged_in = self._authorization is not None
            return self._authorization not in (None, before)
        if scheme.lower() != "bearer" or not parameters.get("realm"):
            return False
        self._authorization = f"Bearer {self._token(parameters)}"
        return True

    def _login(self, target: Target) -> dict[str, str]:
        return self._client.credentials.login_for(target) if self._may_log_in else {}

    def _token(self, parameters: Mapping[str, str]) -> str:
        """Buy a token for pulling from this repository, and for nothing else, whatever the challenge says."""
        scope = {"service": parameters.get("service", ""), "scope": f"repository:{self._repository}:pull"}
        query = "&".join(f"{name}={encoded(value)}" for name, value in scope.items() if value)
        realm = parameters["realm"]
        url = f"{realm}{'&' if '?' in realm else '?'}{query}"
        self._logged_in = bool(self._login(parse_target(realm)))
        with self._client.get(url, sign=self._login) as answer:
            if answer.last.status != _OK:
                raise self._error(answer, f"a token for {self._shown}")
            raw = answer.text(_TOKEN_BYTES)
        try:
            told = _TokenAnswer.model_validate_json(raw)
        except ValidationError:
            told = _TokenAnswer()
        token = told.token or told.access_token or ""
        if not _TOKEN.match(token):
            raise SourceError(
                Reason.UnexpectedResponse,
                f"Expected a token from {parse_target(realm).shown}, where {self._shown} sends its clients; the "
                "answer holds none. Check the registry.",
            )
        return token

    def _document_error(self, answer: Answer) -> SourceError:
        return tag_error(self._error(answer, self._shown), answer, shown=self._shown)

    def _error(self, answer: Answer, what: str) -> SourceError:
        """Return the error of a status; a token bought without a login is no credential of the user."""
        status, shown = answer.last.status, answer.last.target.shown
        if status not in (_UNAUTHORIZED, _FORBIDDEN):
            return status_error(answer, what=what)
        if not self._logged_in:
            return SourceError(
                Reason.AccessDenied,
                f"Expected access to {what}; {shown} answered {status}. No login was sent: reference a "
                f"Secret with username and password, and name {quoted(self._place.authority)} and the host "
                "that gives its tokens in the Secret's annotation of hosts.",
            )
        reason = Reason.TokenInvalid if status == _UNAUTHORIZED else Reason.AccessDenied
        return SourceError(
            reason,
            f"Expected the login to be accepted for {what}; {shown} answered {status}. Put a valid username "
            "and password into the Secret, and give that user access.",
        )
