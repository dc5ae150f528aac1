# SPDX-License-Identifier: Apache-2.0
"""Errors as clients see them, in OpenAI's shape. Values only; no text of a question or an answer in them."""

from dataclasses import dataclass
from http import HTTPStatus

from pydantic import BaseModel, ConfigDict

RETRY_AFTER_SECONDS = 5


class ErrorBody(BaseModel):
    """OpenAI's error object."""

    model_config = ConfigDict(frozen=True)

    message: str
    type: str
    code: str | None
    param: str | None


class ErrorAnswer(BaseModel):
    """The body of an error, and of an error event in a stream."""

    model_config = ConfigDict(frozen=True)

    error: ErrorBody


@dataclass(eq=False)
class ApiError(Exception):
    """An error with its HTTP status."""

    status: HTTPStatus
    kind: str
    code: str
    message: str
    param: str | None = None
    retry_after: int | None = None

    def answer(self) -> ErrorAnswer:
        """Return the body."""
        return ErrorAnswer(error=ErrorBody(message=self.message, type=self.kind, code=self.code, param=self.param))


def invalid(message: str, *, code: str = "invalid_request", param: str | None = None) -> ApiError:
    """Return a 400: the client must change its request."""
    return ApiError(HTTPStatus.BAD_REQUEST, "invalid_request_error", code, message, param)


def too_long(message: str) -> ApiError:
    """Return the 400 that clients know to answer with a shorter conversation."""
    return invalid(message, code="context_length_exceeded", param="messages")


def limited(message: str, *, code: str, retry_after: int) -> ApiError:
    """Return a 429: this key asked too much."""
    return ApiError(
        HTTPStatus.TOO_MANY_REQUESTS, "rate_limit_error", code, message, retry_after=max(1, retry_after)
    )


def too_slow(seconds: float) -> ApiError:
    """Return the 408 of a request that did not come whole in time."""
    return ApiError(
        HTTPStatus.REQUEST_TIMEOUT,
        "invalid_request_error",
        "request_timeout",
        f"the request did not come whole within {seconds:g} s; send it at once",
    )


def no_model(name: str) -> ApiError:
    """Return the 404 of another model's name."""
    message = f"no model of this name here; ask for {name}"
    return ApiError(HTTPStatus.NOT_FOUND, "invalid_request_error", "model_not_found", message, "model")


def unknown(status: HTTPStatus) -> ApiError:
    """Return the 404 or 405 of an address, or a method, that is not served."""
    served = "POST /v1/chat/completions, POST /v1/retrieve, GET /v1/models"
    return ApiError(
        status, "invalid_request_error", "unknown_url", f"nothing is served here by this method; there is {served}"
    )


def unavailable(message: str, *, code: str, retry_after: int = RETRY_AFTER_SECONDS) -> ApiError:
    """Return a 503: the same request may do later."""
    return ApiError(HTTPStatus.SERVICE_UNAVAILABLE, "server_error", code, message, retry_after=retry_after)


def broken(message: str, *, code: str) -> ApiError:
    """Return a 502: something behind the gateway must be put right."""
    return ApiError(HTTPStatus.BAD_GATEWAY, "server_error", code, message)


def out_of_time(seconds: float) -> ApiError:
    """Return the 504 of a request that ran out of its time."""
    return ApiError(
        HTTPStatus.GATEWAY_TIMEOUT,
        "server_error",
        "timeout",
        f"no complete answer within {seconds:g} s; ask for a shorter one, or raise limits.requestSeconds",
        retry_after=RETRY_AFTER_SECONDS,
    )
