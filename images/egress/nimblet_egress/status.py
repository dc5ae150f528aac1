# SPDX-License-Identifier: Apache-2.0
"""What an HTTP status means for a source: its reason and the next step. Pure."""

from nimblet_egress.client import Answer
from nimblet_egress.errors import Reason, SourceError


def status_error(answer: Answer, *, what: str) -> SourceError:
    """Return the error that a status means for any HTTP source; `what` names the thing asked for."""
    status, shown = answer.last.status, answer.last.target.shown
    place = f"{shown} answered {status}"
    if status == 401 and any(hop.authorized for hop in answer.hops):  # noqa: PLR2004
        return SourceError(
            Reason.TokenInvalid,
            f"Expected the token to be accepted for {what}; {place}. Put a valid token into the Secret.",
        )
    if status in (401, 403):
        return SourceError(Reason.AccessDenied, f"Expected access to {what}; {place}. {_access_hint(answer)}")
    if status in (404, 410):
        return SourceError(Reason.FileNotFound, f"Expected {what}; {place}. Correct the source.")
    if status == 429:  # noqa: PLR2004
        return SourceError(
            Reason.RateLimited,
            f"Expected {what}; {place}: too many requests. It is tried again; a token raises most limits.",
            retry_after=answer.retry_after(),
        )
    if status >= 500 or status in (408, 425):  # noqa: PLR2004
        return SourceError(
            Reason.SourceUnavailable,
            f"Expected {what}; {place}. It is tried again; if it goes on, see the source's status.",
            retry_after=answer.retry_after(),
        )
    return SourceError(
        Reason.UnexpectedResponse, f"Expected {what}; {place}. Check the source, or a proxy before it."
    )


def _access_hint(answer: Answer) -> str:
    if any(hop.authorized for hop in answer.hops):
        return "Give the token's owner access."
    return (
        "No credential was sent: reference a Secret with a token, and name "
        f'"{answer.hops[0].target.authority}" in the Secret\'s annotation of hosts.'
    )
