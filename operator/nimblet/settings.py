# SPDX-License-Identifier: Apache-2.0
"""The administrator's settings: frozen, parsed once from the chart's ConfigMap; every default has its reason."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic.alias_generators import to_camel

from nimblet.api.common import Quantity
from nimblet.api.hardware import PROFILE_PATTERN, Sharing
from nimblet.api.scheduling import Labels, Toleration
from nimblet.hardware import BUILT_IN, Device, HardwareProfile
from nimblet.quantity import bytes_of

ISSUED_SECONDS = 3600
"""Shortest life that cert-manager takes (MinimumCertificateDuration of its API)."""


class SettingsModel(BaseModel):
    """Base: frozen, camelCase in the file, an unknown key is an error at start."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class Images(SettingsModel):
    """Images of the data plane; they have versions of their own, so that a chart upgrade restarts no model."""

    loader: str = Field(default="ghcr.io/nimblet/loader:0.1.0", description="Resolver and loader.")
    llamacpp: str = Field(
        default="ghcr.io/ggml-org/llama.cpp:server-b11434",
        description="llama.cpp's upstream server image, pinned to the build whose flags plan/runtime knows.",
    )
    vllm: str = Field(
        default="docker.io/vllm/vllm-openai-cpu:v0.32.0-x86_64",
        description="vLLM's upstream server for CPUs, pinned to the version whose flags plan/runtime knows.",
    )
    tgi: str = Field(
        default="ghcr.io/huggingface/text-generation-inference:3.3.7-intel-cpu",
        description="Text Generation Inference for CPUs, pinned to the version whose flags plan/runtime knows.",
    )
    retriever: str = Field(
        default="ghcr.io/nimblet/retriever:0.1.0", description="Keeps and searches the generations of an index."
    )
    indexer: str = Field(
        default="ghcr.io/nimblet/indexer:0.1.0", description="Reads an index's sources and builds generations."
    )
    gateway: str = Field(
        default="ghcr.io/nimblet/gateway:0.1.0", description="Answers for an Assistant, with citations."
    )
    qdrant: str = Field(
        default="docker.io/qdrant/qdrant:v1.18.2-unprivileged",
        description="Server of dedicated stores: Qdrant's upstream image without root. 1.18 is the newest "
        "version whose features the retriever uses.",
    )
    pull_policy: str = Field(
        default="IfNotPresent", description="imagePullPolicy of the data plane; tags are never `latest`."
    )
    pull_secrets: tuple[str, ...] = Field(
        default=(), description="Secrets with registry credentials, each in every namespace that is served."
    )


class AllowEntry(SettingsModel):
    """One host that sources may name or redirect to."""

    host: str = Field(description="Exact host name or `*.suffix`.")
    cidr: str | None = Field(default=None, description="Addresses the host may have; public ones when absent.")
    allow_private: bool = Field(default=False, description="Private addresses are allowed for this host.")
    allow_http: bool = Field(
        default=False,
        alias="allowHTTP",
        description="Plain HTTP is allowed for this host: for in-cluster mirrors.",
    )
    ca: str | None = Field(default=None, description="PEM certificates that sign this host's.")


class Proxy(SettingsModel):
    """HTTP proxy of the loader."""

    http: str | None = Field(default=None, description="Proxy URL for http targets.")
    https: str | None = Field(default=None, description="Proxy URL for https targets.")
    no_proxy: tuple[str, ...] = Field(default=(), description="Hosts reached without it.")


class S3(SettingsModel):
    """The S3 service of s3:// sources."""

    endpoint: str | None = Field(
        default=None,
        description="URL of the service, addressed in path style; Amazon's of the region when absent.",
    )
    region: str = Field(default="us-east-1", description="Region that requests are signed for.")
    sts_endpoint: str | None = Field(
        default=None,
        description="URL of the token service for source.roleARN; Amazon's of the region when absent.",
    )
    audience: str = Field(
        default="sts.amazonaws.com", description="Audience of the ServiceAccount tokens that it is given."
    )


class OCI(SettingsModel):
    """The registries of oci:// sources."""

    plain_http: tuple[str, ...] = Field(
        default=(),
        alias="plainHTTP",
        description="Registries, as host or host:port, that are spoken to in plain HTTP; others in https.",
    )


class Fetch(SettingsModel):
    """What the loader may reach and how long it waits."""

    hf_endpoint: str = Field(default="https://huggingface.co", description="HF_ENDPOINT: the hub or a mirror.")
    s3: S3 = Field(default=S3(), description="The service that s3:// sources are read from.")
    oci: OCI = Field(default=OCI(), description="How the registries of oci:// sources are spoken to.")
    ollama_registry: str = Field(
        default="https://registry.ollama.ai", description="The registry that ollama:// sources are read from."
    )
    allow: tuple[AllowEntry, ...] = Field(
        default=(
            AllowEntry(host="huggingface.co"),
            AllowEntry(host="*.huggingface.co"),
            AllowEntry(host="*.hf.co"),
        ),
        description="Hosts that sources may name or redirect to: the hub and its storage by default.",
    )
    proxy: Proxy | None = Field(default=None, description="Proxy of all fetches.")
    ca_bundle: str | None = Field(default=None, description="PEM certificates added to the system's.")
    stall_timeout_seconds: int = Field(default=60, ge=5, description="Seconds without a byte until a try ends.")
    connect_timeout_seconds: int = Field(default=10, ge=1, description="Seconds for connect and TLS.")
    max_redirects: int = Field(default=5, ge=0, description="Redirects followed in one request.")
    max_file_bytes: int = Field(
        default=64 * 2**30, ge=1, description="Largest file: a bf16 model of 15B parameters has 30 GB."
    )


class Timing(SettingsModel):
    """Seconds, each with the reason of its default."""

    resync_seconds: int = Field(default=600, ge=5, description="Full re-read of every kind: finds lost events.")
    drain_seconds: int = Field(default=30, ge=0, description="preStop sleep: streams get this long to end.")
    retry_base_seconds: int = Field(default=15, ge=1, description="First wait after a failed resolve; doubles.")
    retry_cap_seconds: int = Field(default=300, ge=1, description="Longest wait between tries.")
    probe_timeout_seconds: int = Field(default=20, ge=1, description="A token must come in this time.")
    probe_retry_seconds: int = Field(default=5, ge=1, description="Wait before a silent pod is asked again.")
    stable_seconds: int = Field(
        default=20, ge=0, description="How long a container must run after a failure until Ready may be True."
    )


class Access(SettingsModel):
    """Who reaches the model pods besides their own namespace."""

    operator_namespace: str = Field(default="nimblet-system", description="Where the operator runs.")
    metrics_namespaces: tuple[str, ...] = Field(
        default=("monitoring",), description="Namespaces whose pods may scrape the servers' metrics."
    )


class Tracing(SettingsModel):
    """Where traces of requests go."""

    endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?/v1/traces$",
        description="OTLP over HTTP, with /v1/traces; nothing is traced when absent.",
    )
    namespaces: tuple[str, ...] = Field(
        default=("monitoring",), description="Namespaces of the collector's pods, which traced pods may reach."
    )

    @property
    def port(self) -> int:
        """Port of the endpoint."""
        url = urlsplit(self.endpoint or "")
        return url.port or (443 if url.scheme == "https" else 80)


class IssuerRef(SettingsModel):
    """Who signs in the mode CertManager."""

    name: str = Field(
        default="",
        max_length=253,
        description="An issuer of cert-manager. While one is named, Certificates of an earlier mode are removed.",
    )
    kind: Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9]{0,62}$")] = Field(
        default="Issuer", description="Issuer: one of that name in every served namespace. ClusterIssuer: one."
    )
    group: str = Field(
        default="cert-manager.io", min_length=1, max_length=253, description="API group of the issuer's kind."
    )


class TLS(SettingsModel):
    """Whether our pods speak TLS, and how long certificates live."""

    mode: Literal["Off", "OwnCA", "CertManager"] = Field(
        default="Off",
        description="Off: plain HTTP. OwnCA: certificates by an authority of this installation. CertManager: by "
        "`issuer`.",
    )
    issuer: IssuerRef = Field(default=IssuerRef(), description="Who signs in the mode CertManager.")
    certificate_seconds: int = Field(
        default=90 * 86400, ge=60, description="Life of a server's certificate, made anew at two thirds of it."
    )
    renew_before_seconds: int | None = Field(
        default=None,
        ge=300,
        description="How long before its end cert-manager makes a certificate anew; at two thirds when absent.",
    )
    authority_seconds: int = Field(
        default=5 * 365 * 86400,
        ge=240,
        description="Life of the authority, made anew at two thirds of it; at least four lives of a certificate.",
    )
    overlap_seconds: int = Field(
        default=3600,
        ge=1,
        description="How long a new authority is only trusted before it signs: mounted files follow in minutes.",
    )

    @model_validator(mode="after")
    def _lives_fit(self) -> Self:
        if self.authority_seconds < 4 * self.certificate_seconds:
            raise ValueError("tls.authoritySeconds must be at least four times tls.certificateSeconds")
        if self.overlap_seconds * 12 > self.authority_seconds:
            raise ValueError("tls.overlapSeconds must be at most a twelfth of tls.authoritySeconds")
        return self

    @model_validator(mode="after")
    def _issuer_can(self) -> Self:
        if self.mode != "CertManager":
            return self
        if not self.issuer.name:
            raise ValueError("tls.mode CertManager needs tls.issuer.name")
        if self.certificate_seconds < ISSUED_SECONDS:
            raise ValueError(f"tls.certificateSeconds must be at least {ISSUED_SECONDS} with tls.mode CertManager")
        if self.renew_before_seconds is not None and self.renew_before_seconds >= self.certificate_seconds:
            raise ValueError("tls.renewBeforeSeconds must be less than tls.certificateSeconds")
        return self


class DeviceValues(SettingsModel):
    """One way in which nodes offer a profile's devices."""

    resource: Annotated[str, StringConstraints(pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+[*]?$")] = Field(
        description="Extended resource; one that ends in * stands for all that begin so."
    )
    sharing: Sharing = Field(default="Whole", description="Whole devices, partitions, or shared ones.")
    memory_label: str = Field(
        default="",
        description="Label of nodes with the memory of one device, in MiB or with a unit; {resource} stands for "
        "the resource's name.",
    )


class ProfileValues(SettingsModel):
    """A hardware profile of the administrator's own, or a changed built-in one. What is absent is the base's."""

    base: str | None = Field(
        default=None,
        description="Built-in profile that it begins with: cpu, xeon, nvidia, gaudi, intel-gpu or amd. Needed for "
        "a name of one's own; a built-in name begins with itself.",
    )
    devices: tuple[DeviceValues, ...] | None = Field(
        default=None, description="Ways to have a device, best first."
    )
    labels: Labels | None = Field(default=None, description="Labels that a node must have.")
    preferred_labels: Labels | None = Field(default=None, description="Labels that make a node better.")
    tolerations: tuple[Toleration, ...] | None = Field(
        default=None, description="Taints that are tolerated beside those named like the device's resource."
    )
    images: Mapping[str, str] | None = Field(
        default=None, description="Runtime, such as LlamaCpp, to image; the others stay the base's."
    )
    device_memory: Quantity | None = Field(
        default=None, description="Memory of one device, where no label tells it."
    )
    supplemental_groups: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(
        default=None, description="Groups that own the device files, such as that of /dev/dri."
    )
    shm_size: Quantity | None = Field(
        default=None, description="Size of /dev/shm, in memory and on top of the container's."
    )
    hugepages: Mapping[Annotated[str, StringConstraints(pattern=r"^(2Mi|1Gi)$")], Quantity] | None = Field(
        default=None, description="Page size (2Mi or 1Gi) to the amount for each device."
    )
    host_ipc: bool | None = Field(
        default=None, alias="hostIPC", description="Share the node's IPC: only where Pod Security is privileged."
    )
    capabilities: tuple[Annotated[str, StringConstraints(pattern=r"^[A-Z_]+$")], ...] | None = Field(
        default=None, description="Linux capabilities, such as SYS_NICE: only where Pod Security is privileged."
    )
    runtime_class_name: str | None = Field(default=None, description="RuntimeClass of the model server.")
    whole_cores: bool | None = Field(
        default=None, description="Whole CPUs and limits equal to requests, for the static CPU manager."
    )
    on_demand: bool | None = Field(
        default=None, description="Nodes come when pods wait: that there is none yet refuses nothing."
    )
    by_auto: bool | None = Field(
        default=None, description="auto may choose it; a profile of one's own is chosen by its name alone."
    )

    def over(self, name: str, base: HardwareProfile) -> HardwareProfile:
        """Return the base with what stands here."""
        given = {key: value for key, value in self if value is not None and key in _AS_THEY_ARE}
        sizes = {"device_memory_bytes": self.device_memory, "shm_bytes": self.shm_size}
        given |= {key: bytes_of(text) for key, text in sizes.items() if text is not None}
        if self.devices is not None:
            given["devices"] = tuple(Device(**dict(item)) for item in self.devices)
        if self.hugepages is not None:
            given["hugepages"] = {size: bytes_of(amount) for size, amount in self.hugepages.items()}
        if self.runtime_class_name is not None:
            given["runtime_class"] = self.runtime_class_name
        by_auto = base.by_auto if name == base.name else False
        images = {**base.images, **(self.images or {})}
        return replace(base, **{"by_auto": by_auto, **given, "name": name, "images": images})


_AS_THEY_ARE = frozenset(
    {
        "labels",
        "preferred_labels",
        "tolerations",
        "supplemental_groups",
        "host_ipc",
        "capabilities",
        "whole_cores",
        "on_demand",
        "by_auto",
    }
)
"""Fields that a profile has by the same name and in the same form."""


class Hardware(SettingsModel):
    """The hardware profiles."""

    profiles: Mapping[Annotated[str, StringConstraints(pattern=PROFILE_PATTERN, max_length=40)], ProfileValues] = (
        Field(
            default={}, description="Profiles of the administrator's own, and changes of built-in ones, by name."
        )
    )

    @model_validator(mode="after")
    def _bases_are_known(self) -> Self:
        known = ", ".join(BUILT_IN)
        for name, values in self.profiles.items():
            if name == "auto":
                raise ValueError("profiles.auto: auto is a choice among profiles; give another name")
            base = values.base or (name if name in BUILT_IN else None)
            if base is None:
                raise ValueError(f"profiles.{name}: expected base, one of {known}; found none")
            if base not in BUILT_IN:
                raise ValueError(f"profiles.{name}.base: expected one of {known}; found {base}")
            if name in BUILT_IN and base != name:
                raise ValueError(f"profiles.{name}.base: a built-in name begins with itself; found {base}")
        return self

    @property
    def known(self) -> Mapping[str, HardwareProfile]:
        """All profiles by name: the built-in ones first, with the administrator's changes."""
        own = {name: values.over(name, BUILT_IN[values.base or name]) for name, values in self.profiles.items()}
        return {**BUILT_IN, **own}


class Settings(SettingsModel):
    """Everything the administrator decides."""

    images: Images = Images()
    fetch: Fetch = Fetch()
    timing: Timing = Timing()
    access: Access = Access()
    tracing: Tracing = Tracing()
    tls: TLS = TLS()
    hardware: Hardware = Hardware()
    oci_image_volumes: bool = Field(
        default=False,
        description="Mount the weights of an image (ModelCar) as an image volume where the API server is 1.35 or "
        "newer: the kubelet pulls them with the node's credentials, and the pod needs no egress.",
    )
    watch_namespaces: tuple[str, ...] = Field(default=(), description="Namespaces served; all when empty.")
    extra_architectures: tuple[str, ...] = Field(
        default=(),
        description="Model architectures (classes, of safetensors) that a newer image of `images` knows beyond "
        "those of the pinned version.",
    )
    prompt_cache_mebibytes: int = Field(
        default=64, ge=0, description="llama.cpp's --cache-ram; its own default of 8192 MiB kills pods."
    )
