# SPDX-License-Identifier: Apache-2.0
"""How a certificate stands that cert-manager is asked for. Pure.

Whatever is wrong with it is told and touches nothing: pods go on with the certificate that their Secret holds.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from nimblet.conditions import Reason
from nimblet.plan.stage import Problem, Progress, problem
from nimblet.plan.transportfacts import RequestFacts, SecretFacts, TransportFacts

PATIENCE_SECONDS: Final = 60.0
"""How long issuing may take until somebody is asked to look: an issuer of the cluster's own takes seconds, and
cert-manager tells of one that it does not find in its requests alone."""
LONGEST_WORDS: Final = 400
"""Of cert-manager's words; the next step is to stay readable."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What there is to say, and when to look again without an event."""

    state: Problem | Progress | None = None
    requeue_after: float | None = None


def standing(name: str, facts: TransportFacts, now: datetime) -> Standing:
    """Return how the Certificate and the Secret of this name stand."""
    request, secret = facts.request, facts.secret
    if request is None:
        return Standing()  # offline
    flaw = _flaw(name, request, secret)
    if flaw is not None:
        return Standing(state=flaw)
    if request.current and secret is not None and secret.filled and facts.live is not None:
        return Standing()
    return _awaited(name, request, now)


def _flaw(name: str, request: RequestFacts, secret: SecretFacts | None) -> Problem | None:
    """Return what waiting does not mend."""
    if not request.served:
        found = f"Certificate {name} can't be made: the cluster knows no Certificates of cert-manager.io/v1."
        return problem(Reason.CERT_MANAGER_MISSING, found)
    if secret is None:
        return None
    if not secret.ours:
        found = f"Secret {name} is there already and was not made for this resource; it is left as it is."
        return problem(Reason.CONFLICT, found)
    if request.current and secret.filled and not secret.authorities:
        found = f"Secret {name} has no ca.crt: its issuer does not tell who is to be trusted."
        return problem(Reason.AUTHORITY_MISSING, found)
    return None


def _awaited(name: str, request: RequestFacts, now: datetime) -> Standing:
    """Return that it is being issued, or that this failed or takes too long."""
    words = request.message.rstrip(".")[:LONGEST_WORDS] or "cert-manager has not looked at it yet"
    left = PATIENCE_SECONDS
    if request.since is not None:
        left -= (now - request.since).total_seconds()
    if request.failed or left <= 0:
        return Standing(state=problem(Reason.CERTIFICATE_NOT_READY, f"Certificate {name} is not ready: {words}."))
    told = Progress(reason=Reason.ISSUING, message=f"Certificate {name} is being issued: {words}.")
    return Standing(state=told, requeue_after=left)
