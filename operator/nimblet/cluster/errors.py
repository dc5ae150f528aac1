# SPDX-License-Identifier: Apache-2.0
"""What can go wrong between us and the API server, in our own words. No client's exception passes this border."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

SCHEMA_FAILURE: Final = re.compile(r"failed to create typed|field not declared in schema|strict decoding error")
"""Server-side apply reports a manifest that doesn't fit the schema as a 500; trying again can't help."""


@dataclass(frozen=True, kw_only=True)
class Cause:
    """One item of Status.details.causes."""

    reason: str
    message: str
    field: str


class NotConfigured(Exception):  # noqa: N818
    """No cluster to talk to: the text says what was expected, found and what to do."""


class ApiError(Exception):
    """The API server refused or failed a request.

    The text names the request; `detail` is the server's own words alone. `status` is 0 without an answer.
    `retry_after`: seconds the server wishes us to wait, where it told some.
    """

    def __init__(
        self,
        message: str,
        *,
        detail: str = "",
        status: int = 0,
        reason: str = "",
        causes: tuple[Cause, ...] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.detail = detail or message
        self.status = status
        self.reason = reason
        self.causes = causes
        self.retry_after = retry_after


class NotFound(ApiError):  # noqa: N818 - the HTTP status's own name says it is an error
    """404: no such object, namespace or kind."""


class Conflict(ApiError):  # noqa: N818
    """409: the name is taken, the object changed, its uid differs, or another manager owns a field."""


class Invalid(ApiError):  # noqa: N818
    """400, 413, 422: the object is not acceptable; `causes` name the fields."""


class Forbidden(ApiError):  # noqa: N818
    """403: RBAC, quota, Pod Security or another admission refused it."""


class Gone(ApiError):  # noqa: N818
    """410: the resourceVersion or continue token is too old."""


class Transient(ApiError):  # noqa: N818
    """429, 401, 5xx, time-outs, resets: worth trying again, after `retry_after` seconds where that is told."""


class Changed(Transient):
    """What may only be deleted as it was seen has changed since: worth judging again."""


class LeadershipLost(Exception):  # noqa: N818
    """The lease is not ours any more, or ends before a write would: nothing may be written, the process ends."""


_BY_STATUS: Final[Mapping[int, type[ApiError]]] = {
    HTTPStatus.UNAUTHORIZED: Transient,  # a token about to be renewed: its file is read again once a minute
    HTTPStatus.TOO_MANY_REQUESTS: Transient,
    HTTPStatus.BAD_REQUEST: Invalid,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: Invalid,
    HTTPStatus.UNPROCESSABLE_ENTITY: Invalid,
    HTTPStatus.FORBIDDEN: Forbidden,
    HTTPStatus.NOT_FOUND: NotFound,
    HTTPStatus.CONFLICT: Conflict,
    HTTPStatus.GONE: Gone,
}


def error_of(*, status: int, body: bytes, retry_after: str | None, request: str) -> ApiError:
    """Return the error that an answer of 400 or more means. `request` is "VERB path" for messages."""
    parsed = _status_of(body)
    told = parsed.get("message")
    text = told if isinstance(told, str) and told else body[:500].decode(errors="replace").strip()
    details = parsed.get("details")
    kind = _kind_of(status, text)
    return kind(
        f"{request}: {text or status}",
        detail=text,
        status=status,
        reason=str(parsed.get("reason") or ""),
        causes=_causes_of(details),
        retry_after=_seconds(retry_after, details),
    )


def _kind_of(status: int, text: str) -> type[ApiError]:
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Invalid if SCHEMA_FAILURE.search(text) else Transient
    return _BY_STATUS.get(status, ApiError)


def is_object_missing(error: NotFound) -> bool:
    """Tell whether the object is missing, and not its kind: an unserved path answers in plain text."""
    return error.reason == "NotFound"


def _status_of(body: bytes) -> Mapping[str, object]:
    try:
        parsed: object = json.loads(body)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) and parsed.get("kind") == "Status" else {}


def _causes_of(details: object) -> tuple[Cause, ...]:
    listed = details.get("causes") if isinstance(details, dict) else None
    return tuple(
        Cause(
            reason=str(item.get("reason") or ""),
            message=str(item.get("message") or ""),
            field=str(item.get("field") or ""),
        )
        for item in (listed if isinstance(listed, list) else ())
        if isinstance(item, dict)
    )


def _seconds(header: str | None, details: object) -> float | None:
    """Return the wait the server wishes: the Retry-After header (seconds only), else Status's own field."""
    if header is not None and header.strip().isdigit():
        return float(header)
    told = details.get("retryAfterSeconds") if isinstance(details, dict) else None
    return float(told) if isinstance(told, int) and told > 0 else None
