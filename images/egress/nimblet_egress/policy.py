# SPDX-License-Identifier: Apache-2.0
"""The administrator's limits for what leaves a pod, as JSON. Parsing only.

Programs add what they alone need by a subclass. Unknown keys are refused.
"""

from ipaddress import ip_network
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic.alias_generators import to_camel


def _alias(name: str) -> str:
    return {"allow_http": "allowHTTP", "role_arn": "roleARN", "plain_http": "plainHTTP"}.get(name, to_camel(name))


class Contract(BaseModel):
    """Base: frozen, strict, camelCase."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, alias_generator=_alias, populate_by_name=True
    )


class AllowRule(Contract):
    """One admin's permission: a host (exact or `*.suffix`) and which addresses it may resolve to.

    Public addresses are always permitted; `cidr` narrows to that range and is the only way to reach
    loopback or link-local; `allowPrivate` adds the private ranges. `ca` is PEM trusted for that host too.
    """

    host: Annotated[str, StringConstraints(pattern=r"^(\*\.)?[A-Za-z0-9:]([A-Za-z0-9.:_-]{0,252})$")]
    cidr: str | None = None
    allow_private: bool = False
    allow_http: bool = False
    ca: str | None = None

    @model_validator(mode="after")
    def _network(self) -> Self:
        if self.cidr is not None:
            ip_network(self.cidr)  # its ValueError tells what is wrong
        return self


class Proxy(Contract):
    """The admin's forward proxies by the scheme of the target URL."""

    http: str | None = None
    https: str | None = None
    no_proxy: tuple[str, ...] = ()


class S3Policy(Contract):
    """The admin's S3 and STS services (Amazon's of the region if absent), and the region to sign for."""

    endpoint: str | None = None
    sts_endpoint: str | None = None
    region: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")] = "us-east-1"


class EgressPolicy(Contract):
    """What every program's traffic obeys. Times in seconds."""

    allow: tuple[AllowRule, ...] = ()
    credential_hosts: tuple[str, ...] = ()
    proxy: Proxy | None = None
    ca_bundle: str | None = None
    stall_timeout_seconds: Annotated[float, Field(gt=0, le=3600, strict=False)] = 60.0
    connect_timeout_seconds: Annotated[float, Field(gt=0, le=600, strict=False)] = 10.0
    max_redirects: Annotated[int, Field(ge=0, le=20)] = 5
    user_agent: Annotated[str, StringConstraints(pattern=r"^[\x20-\x7e]{1,200}$")] = "nimblet/1"

    def rules(self) -> tuple[AllowRule, ...]:
        """Return the rules that hosts must match; no rule allows none."""
        return self.allow
