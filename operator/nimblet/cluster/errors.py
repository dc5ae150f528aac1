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


class ApiError(Exception):
    """The API server refused or failed a request. `status` is the HTTP status, 0 when there was no answer."""

    def __init__(
        self, message: str, *, status: int = 0, reason: str = "", causes: tuple[Cause, ...] = ()
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.reason = reason
        self.causes = causes


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
    """429, 401, 5xx, time-outs, resets: worth trying again after `retry_after` seconds (None: no wish told)."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        reason: str = "",
        causes: tuple[Cause, ...] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, status=status, reason=reason, causes=causes)
        self.retry_after = retry_after


class LeadershipLost(Exception):  # noqa: N818
    """The lease is not ours any more, or ends before a write would: nothing may be written, the process ends."""


_BY_STATUS: Final[Mapping[int, type[ApiError]]] = {
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
    message = f"{request}: {text or HTTPStatus(status).phrase}"
    reason = str(parsed.get("reason") or "")
    details = parsed.get("details")
    causes = _causes_of(details)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR and SCHEMA_FAILURE.search(text):
        return Invalid(message, status=status, reason=reason, causes=causes)
    if status in _BY_STATUS:
        return _BY_STATUS[status](message, status=status, reason=reason, causes=causes)
    # a 401 is a token about to be re-read: the file is looked at once a minute
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS) or status >= 500:  # noqa: PLR2004
        wait = _seconds(retry_after, details)
        return Transient(message, status=status, reason=reason, causes=causes, retry_after=wait)
    return ApiError(message, status=status, reason=reason, causes=causes)


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
