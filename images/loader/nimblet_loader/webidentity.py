# SPDX-License-Identifier: Apache-2.0
"""Exchanges the pod's ServiceAccount token for a temporary access key of S3: AssumeRoleWithWebIdentity.

Source: the action of that name in the AWS Security Token Service API reference; other S3 services offer the
same one. The token goes to the administrator's STS endpoint only, in a body and never in a URL, and no redirect is
followed.
"""

from pathlib import Path

from nimblet_egress.client import Answer, Client
from nimblet_egress.credentials import read_value
from nimblet_egress.errors import Reason, SourceError, quoted
from nimblet_egress.plainxml import PARSE_ERRORS, HasDocumentType, parse_plain
from nimblet_egress.policy import S3Policy
from nimblet_egress.sigv4 import AccessKey
from nimblet_egress.status import status_error

IDENTITY_PATH = Path("/etc/nimblet/identity/token")
"""Where the pod's manifest mounts the token; only the loader's container has it."""
_VERSION = "2011-06-15"
_SESSION = "nimblet-loader"
_ANSWER_BYTES = 64 * 2**10
_OK = 200
_REFUSALS = frozenset({400, 401, 403})


def sts_endpoint(policy: S3Policy) -> str:
    """Return the administrator's STS endpoint, Amazon's of the region if none is set."""
    return (policy.sts_endpoint or f"https://sts.{policy.region}.amazonaws.com").rstrip("/")


def assumed_key(client: Client, policy: S3Policy, *, role: str, identity: Path) -> AccessKey:
    """Return a temporary key of the role, or raise SourceError."""
    token = read_value(identity.parent, identity.name)
    if token is None:
        raise SourceError(
            Reason.ConfigInvalid,
            f"Expected a ServiceAccount token at {identity} for role {quoted(role)}; there is none. "
            "Check the pod's mounts.",
        )
    form = {
        "Action": "AssumeRoleWithWebIdentity",
        "Version": _VERSION,
        "RoleArn": role,
        "RoleSessionName": _SESSION,
        "WebIdentityToken": token,
    }
    with client.post(f"{sts_endpoint(policy)}/", form) as answer:
        if answer.last.status != _OK:
            raise _refusal(answer, role)
        raw = answer.text(_ANSWER_BYTES)
    try:
        found = parse_plain(raw).find(".//{*}Credentials")
    except (HasDocumentType, *PARSE_ERRORS):
        found = None
    names = ("AccessKeyId", "SecretAccessKey", "SessionToken")
    values = [found.findtext(f"{{*}}{name}") if found is not None else None for name in names]
    key_id, secret, session = ((value or "").strip() for value in values)
    if not key_id or not secret or not session:
        raise SourceError(
            Reason.UnexpectedResponse,
            f"Expected a temporary key from {answer.last.target.shown}; the answer holds none. "
            "Check the administrator's STS endpoint.",
        )
    return AccessKey(key_id, secret, session)


def _refusal(answer: Answer, role: str) -> SourceError:
    if answer.last.status in _REFUSALS:
        return SourceError(
            Reason.AccessDenied,
            f"Expected {answer.last.target.shown} to give a key of role {quoted(role)}; it answered "
            f"{answer.last.status}. Let the role trust this model's ServiceAccounts, and check source.roleARN.",
        )
    return status_error(answer, what=f"a key of role {quoted(role)}")
