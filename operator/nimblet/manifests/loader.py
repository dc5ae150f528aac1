# SPDX-License-Identifier: Apache-2.0
"""The loader's forms: Jobs of it, the resolver among them, and the init container of a model pod. Pure."""

from dataclasses import dataclass, field
from typing import Final

from nimblet import labels, names
from nimblet.api.scheduling import Scheduling
from nimblet.manifests.common import CONTAINER_SECURITY, Manifest, Part
from nimblet.manifests.job import Job, job_manifest
from nimblet.manifests.network import PROGRESS_PORT

ARTIFACT_DIR: Final = "/etc/nimblet/artifact"
POLICY_DIR: Final = "/etc/nimblet/policy"
CREDENTIALS_DIR: Final = "/etc/nimblet/credentials"
IDENTITY_DIR: Final = "/etc/nimblet/identity"
CLAIM_DIR: Final = "/source"
WEIGHTS_KEY_DIR: Final = "/etc/nimblet/weights-key"
WEIGHTS_KEY_ENTRY: Final = "identity"
"""Entry of the user's Secret with the key of encrypted weights."""
MODELS_DIR: Final = "/models"
DRAFT_DIR: Final = "/draft"
"""Where the server has the model that drafts for its own."""
ADAPTERS_DIR: Final = "/adapters"
"""Where the server has its adapters, each in a folder of its name."""
POLICY_FILE: Final = "policy.json"
SOURCE_ENV: Final = "NIMBLET_SOURCE"

RESOLVE_DEADLINE_SECONDS: Final = 300
"""A resolver reads a listing and a header; five minutes cover retries and a slow hub."""
DRAFT_LOADER: Final = "drafter"
"""The container that fetches the drafting model."""
DRAFT_POLICY: Final = "draft.json"
ADAPTER_LOADER: Final = "loader-"
"""Before an adapter's name: the container that fetches it."""
IDENTITY_SECONDS: Final = 3600
"""Life of the token that a role is assumed with; the kubelet renews it."""
RESOURCES: Final[Manifest] = {
    "requests": {"cpu": "50m", "memory": "128Mi"},
    "limits": {"memory": "192Mi"},
}
"""The interpreter and TLS need about 50 MiB, the stream at most 64 MiB more (a test of the loader)."""


def policy_key(adapter: str) -> str:
    """Return the entry of the fetch policies' ConfigMap that is an adapter's."""
    return f"adapter-{adapter}.json"


@dataclass(frozen=True, kw_only=True)
class LoaderPod:
    """What both forms of the loader need to know."""

    owner: str
    namespace: str
    image: str
    pull_policy: str
    source_json: str
    source_hash: str
    secret_name: str | None = None
    secret_keys: tuple[str, ...] = ()
    """Keys of the Secret that are mounted; the loader reads a file of each key's name."""
    optional_secret_keys: tuple[str, ...] = ()
    """Keys mounted where the Secret has them: what it holds must not change the pod's template."""
    claim: str | None = None
    """The claim that holds the source, for pvc:// only."""
    identity_audience: str | None = None
    """For whom a ServiceAccount token is made, where the source is read with a role."""
    resolve_seconds: int = RESOLVE_DEADLINE_SECONDS
    weights_key: str | None = None
    """The user's Secret that decrypts the weights; the container that fetches them mounts it, and no other."""
    scheduling: Scheduling = field(default_factory=Scheduling)
    adapter: str = ""
    """Name of the adapter that the source holds; empty for the model itself."""
    draft: bool = False
    """The source holds the drafting model."""

    @property
    def policy_key(self) -> str:
        """Entry of the fetch policies' ConfigMap that says where this source's credentials may go."""
        if self.draft:
            return DRAFT_POLICY
        return policy_key(self.adapter) if self.adapter else POLICY_FILE

    def volume(self, name: str) -> str:
        """Return a volume's name: those of an adapter and a drafting model are in one pod with the model's."""
        if self.draft:
            return f"draft-{name}"
        return f"{name}-{self.adapter}" if self.adapter else name

    @property
    def container_name(self) -> str:
        """Name of the container that fetches the source."""
        if self.draft:
            return DRAFT_LOADER
        return f"{ADAPTER_LOADER}{self.adapter}" if self.adapter else "loader"

    @property
    def server_path(self) -> str:
        """Where the server has the files, of all but the model itself."""
        return DRAFT_DIR if self.draft else f"{ADAPTERS_DIR}/{self.adapter}"


def loader_mounts(pod: LoaderPod) -> list[Manifest]:
    """Return where `loader_volumes` are mounted."""
    mounts: list[Manifest] = [{"name": pod.volume("policy"), "mountPath": POLICY_DIR, "readOnly": True}]
    if pod.secret_name is not None:
        mounts.append({"name": pod.volume("credentials"), "mountPath": CREDENTIALS_DIR, "readOnly": True})
    if pod.identity_audience is not None:
        mounts.append({"name": pod.volume("identity"), "mountPath": IDENTITY_DIR, "readOnly": True})
    if pod.claim is not None:
        mounts.append({"name": pod.volume("source"), "mountPath": CLAIM_DIR, "readOnly": True})
    return mounts


def loader_volumes(pod: LoaderPod) -> list[Manifest]:
    """Return the volumes that `loader_mounts` names: the policy and, by reference only, the user's Secret."""
    policy: Manifest = {"name": names.fetch_policy(pod.owner)}
    if pod.policy_key != POLICY_FILE:
        policy["items"] = [{"key": pod.policy_key, "path": POLICY_FILE}]
    volumes: list[Manifest] = [{"name": pod.volume("policy"), "configMap": policy}]
    if pod.secret_name is not None:
        volumes.append({"name": pod.volume("credentials"), **_credentials(pod, pod.secret_name)})
    if pod.identity_audience is not None:
        volumes.append({"name": pod.volume("identity"), **_identity(pod.identity_audience)})
    if pod.claim is not None:
        claim = {"claimName": pod.claim, "readOnly": True}
        volumes.append({"name": pod.volume("source"), "persistentVolumeClaim": claim})
    return volumes


def _identity(audience: str) -> Manifest:
    """Return the volume's source; no container mounts it but the loader's."""
    token = {"audience": audience, "expirationSeconds": IDENTITY_SECONDS, "path": "token"}
    return {"projected": {"defaultMode": 0o440, "sources": [{"serviceAccountToken": token}]}}


def _credentials(pod: LoaderPod, secret: str) -> Manifest:
    """Return the volume's source; optional keys come as a projection that may be empty."""
    required = [{"key": key, "path": key} for key in pod.secret_keys]
    if not pod.optional_secret_keys:
        return {"secret": {"secretName": secret, "items": required, "defaultMode": 0o440}}
    optional = [{"key": key, "path": key} for key in pod.optional_secret_keys]
    sources: list[Manifest] = [
        {"secret": {"name": secret, "items": required}},
        {"secret": {"name": secret, "items": optional, "optional": True}},
    ]
    return {"projected": {"defaultMode": 0o440, "sources": sources}}


def container(pod: LoaderPod, name: str, *, args: list[str], mounts: list[Manifest], uid: bool = True) -> Manifest:
    """Return a container of the loader's image; `uid`: it is told its pod's, for the names of its files."""
    env: list[Manifest] = [{"name": SOURCE_ENV, "value": pod.source_json}]
    if uid:
        env.append({"name": "POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}})
    return {
        "name": name,
        "image": pod.image,
        "imagePullPolicy": pod.pull_policy,
        "args": args,
        "env": env,
        "resources": RESOURCES,
        "securityContext": CONTAINER_SECURITY,
        "terminationMessagePolicy": "File",
        "volumeMounts": mounts,
    }


def loader_job_manifest(pod: LoaderPod, component: str, job: Job) -> Manifest:
    """Return a Job of the loader's image for a component of its model."""
    part = Part(owner=pod.owner, namespace=pod.namespace, component=component)
    return job_manifest(part, job, scheduling=pod.scheduling)


def resolver_job_manifest(pod: LoaderPod, *, attempt: int, credentials_hash: str) -> Manifest:
    """Return the Job that turns the source into facts."""
    args = ["resolve", "--policy", f"{POLICY_DIR}/{POLICY_FILE}", "--credentials", CREDENTIALS_DIR]
    job = Job(
        name=names.resolver_job(pod.owner, source_hash=pod.source_hash, attempt=attempt),
        service_account=names.resolver(pod.owner),
        container=container(pod, "resolver", args=args, mounts=loader_mounts(pod), uid=False),
        volumes=loader_volumes(pod),
        labels={labels.SOURCE_HASH: pod.source_hash},
        annotations={labels.ATTEMPT: str(attempt), labels.CREDENTIALS_HASH: credentials_hash},
        spec={"activeDeadlineSeconds": pod.resolve_seconds},
    )
    return loader_job_manifest(pod, "resolver", job)


def fetch_args(command: str) -> list[str]:
    """Return the arguments of the commands that write files: where their inputs are and where the files go."""
    return [
        command,
        "--artifact",
        f"{ARTIFACT_DIR}/artifact.json",
        "--policy",
        f"{POLICY_DIR}/{POLICY_FILE}",
        "--credentials",
        CREDENTIALS_DIR,
        "--dest",
        MODELS_DIR,
        "--progress-port",
        str(PROGRESS_PORT),
    ]


def artifact_volume(pod: LoaderPod) -> Manifest:
    """Return the volume with what the resolver found."""
    return {
        "name": pod.volume("artifact"),
        "configMap": {"name": names.artifact(pod.owner, source_hash=pod.source_hash)},
    }


def artifact_mount(pod: LoaderPod) -> Manifest:
    """Return where `artifact_volume` is mounted."""
    return {"name": pod.volume("artifact"), "mountPath": ARTIFACT_DIR, "readOnly": True}


IMAGE_FOLDER: Final = "models"
"""Where a ModelCar image has its files; mounted whole, since not every runtime knows subPath."""
MODELS_MOUNT: Final[Manifest] = {"name": "models", "mountPath": MODELS_DIR}


def image_volume(reference: str) -> Manifest:
    """Return the volume of an image's files, pulled by the kubelet; named by digest, so that it is pulled once."""
    return {"name": "models", "image": {"reference": reference, "pullPolicy": "IfNotPresent"}}


def check_container(pod: LoaderPod) -> Manifest:
    """Return the init container that checks the files of a mounted image."""
    return reading_container(pod, "check", "--dest", f"{MODELS_DIR}/{IMAGE_FOLDER}")


def reading_container(pod: LoaderPod, command: str, *args: str) -> Manifest:
    """Return an init container that checks files which are there. It has no policy, credentials or network."""
    mounts = [artifact_mount(pod), {**MODELS_MOUNT, "readOnly": True}]
    argv = [command, "--artifact", f"{ARTIFACT_DIR}/artifact.json", *args]
    return container(pod, pod.container_name, args=argv, mounts=mounts, uid=False)


def key_volumes(pod: LoaderPod) -> list[Manifest]:
    """Return the volume with the key of encrypted weights, where a Secret holds it."""
    if pod.weights_key is None:
        return []
    items = [{"key": WEIGHTS_KEY_ENTRY, "path": WEIGHTS_KEY_ENTRY}]
    source = {"secretName": pod.weights_key, "items": items, "defaultMode": 0o440}
    return [{"name": pod.volume("weights-key"), "secret": source}]


def loader_container(pod: LoaderPod) -> Manifest:
    """Return the init container that fills the model volume with verified files."""
    mounts = [*loader_mounts(pod), artifact_mount(pod), {**MODELS_MOUNT, "name": pod.volume("models")}]
    if pod.weights_key is not None:
        mounts.append({"name": pod.volume("weights-key"), "mountPath": WEIGHTS_KEY_DIR, "readOnly": True})
    return container(pod, pod.container_name, args=fetch_args("fetch"), mounts=mounts)
