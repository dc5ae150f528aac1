# SPDX-License-Identifier: Apache-2.0
"""The commands: reads flags, environment and mounted files, writes the termination message.

Every failure ends as one JSON message without secrets and one exit code; no traceback is the user's only hint.
"""

import argparse
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from pydantic import BaseModel

from nimblet_egress.bucket import s3_endpoint
from nimblet_egress.client import Client
from nimblet_egress.credentials import Credentials, read_credentials, read_value
from nimblet_egress.errors import TERMINATED_EXIT_CODE, Reason, SourceError, Terminated, redact
from nimblet_egress.retry import Pace
from nimblet_egress.target import parse_target
from nimblet_loader.age import Identities
from nimblet_loader.cache import Cache, Check, fill, verify
from nimblet_loader.cdh import PORT, Hub
from nimblet_loader.connector import Connector
from nimblet_loader.connectors import CLAIM_DIR, connect
from nimblet_loader.contract import (
    MAX_MESSAGE_BYTES,
    VERSION,
    Artifact,
    Failure,
    FailureReport,
    FetchPolicy,
    Source,
    encode,
    parse_artifact,
    parse_policy,
    parse_source,
)
from nimblet_loader.fetch import Fetch, fetch
from nimblet_loader.message import to_message
from nimblet_loader.mounted import check
from nimblet_loader.progress import Progress, served
from nimblet_loader.resolve import resolve
from nimblet_loader.sealed import check_sealed, resolve_sealed
from nimblet_loader.trust import Trusted, check_artifact, trusted
from nimblet_loader.webidentity import IDENTITY_PATH, assumed_key
from nimblet_loader.weightskey import KEY_PATH, weights_key

_MESSAGE_CHARACTERS = 1500
_INPUT_BYTES = 4 * 2**20
_STALE_STALLS = 2
_AGAIN_SECONDS = 1.0
_log = logging.getLogger("nimblet_loader")


@dataclass(frozen=True)
class Paths:
    """Where the pod's mounts are."""

    policy: Path
    credentials: Path
    result: Path
    claim: Path = CLAIM_DIR
    identity: Path = IDENTITY_PATH


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    arguments = _parser().parse_args(argv)
    paths = Paths(arguments.policy, arguments.credentials, arguments.result, arguments.claim, arguments.identity)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _terminate)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpcore").setLevel(logging.WARNING)  # it logs headers and URLs when asked for more
    actions: Mapping[str, Callable[[], BaseModel]] = {
        "resolve": lambda: _resolve(paths, os.environ),
        "fetch": lambda: _fetch(paths, arguments, os.environ, fetch),
        "fill": lambda: _fill(paths, arguments, os.environ),
        "verify": lambda: _verify(arguments, os.environ),
        "check": lambda: _check(arguments, os.environ),
        "attest": lambda: _attest(arguments, os.environ),
    }
    return run(actions[arguments.command], paths)


def run(action: Callable[[], BaseModel], paths: Paths) -> int:
    """Run a command's action and write its result or failure; return the exit code."""
    try:
        report = action()
        _write(paths.result, to_message(report))
    except Terminated:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        _log.warning("asked to stop; partial files stay for the next try")
        return TERMINATED_EXIT_CODE
    except SourceError as error:
        return _fail(error, paths)
    except Exception as error:  # noqa: BLE001 - the last line: the user must see a reason, whatever broke
        _log.error("%s", redact(_trace(error), _secrets(paths)))
        text = f"The loader met a defect of its own: {type(error).__name__}. Report it with the pod's log."
        return _fail(SourceError(Reason.Internal, text), paths)
    _log.info("done")
    return 0


def _resolve(paths: Paths, environment: Mapping[str, str]) -> BaseModel:
    believed = _trusted(environment)
    source = believed.source
    policy = parse_policy(_read(paths.policy, "the fetch policy"))
    credentials = _credentials(paths, policy, source, required=source.secret)
    with closing(Client(policy, credentials)) as client:
        connector = connect(client, policy, uri=source.uri, revision=source.revision, claim=paths.claim)
        resolving = resolve if source.encryption is None else resolve_sealed
        return resolving(believed, connector, policy, Pace(attempts=3))


def _trusted(environment: Mapping[str, str]) -> Trusted:
    """Return the source with what its signature tells: each run verifies it for itself."""
    return trusted(parse_source(environment.get("NIMBLET_SOURCE", "")), datetime.now(UTC))


def _fetch(
    paths: Paths,
    arguments: argparse.Namespace,
    environment: Mapping[str, str],
    bring: Callable[[Fetch], BaseModel],
) -> BaseModel:
    policy = parse_policy(_read(paths.policy, "the fetch policy"))
    artifact = parse_artifact(_read(arguments.artifact, "the artifact"))
    source = _trusted(environment).source
    check_artifact(source, artifact)
    credentials = _credentials(paths, policy, source, required=False)
    progress = Progress()
    with served(progress, arguments.progress_port), closing(Client(policy, credentials)) as client:
        connector = connect(client, policy, uri=artifact.uri, revision=artifact.commit, claim=paths.claim)
        return bring(
            Fetch(
                artifact=artifact,
                connector=connector,
                identities=_identities(source, artifact, connector, arguments),
                policy=policy,
                root=arguments.dest,
                uid=environment.get("POD_UID", ""),
                pace=Pace(),
                progress=progress,
                now=time.monotonic,
            )
        )


def _identities(
    source: Source, artifact: Artifact, connector: Connector, arguments: argparse.Namespace
) -> Identities | None:
    """Return the keys of an encrypted source once its manifest is what the spec demands; None for a plain one."""
    if source.encryption is None:
        return None
    check_sealed(source, artifact, connector, Pace(attempts=3))
    return weights_key(source.encryption, path=arguments.weights_key, hub=Hub(port=arguments.cdh_port))


def _uncached(source: Source) -> Source:
    """Return the source, or raise: what is decrypted goes to the volume of its own pod and nowhere else."""
    if source.encryption is not None:
        raise SourceError(
            Reason.ConfigInvalid,
            "Expected weights that are not encrypted for a cache or an image volume; source.encryption says that "
            "these are. Leave spec.cache out.",
        )
    return source


def _fill(paths: Paths, arguments: argparse.Namespace, environment: Mapping[str, str]) -> BaseModel:
    _uncached(_trusted(environment).source)
    keep = frozenset(arguments.keep) if arguments.keep is not None else None

    def bring(run: Fetch) -> BaseModel:
        # A live filler gives up a try after one silent stall timeout.
        stale = _STALE_STALLS * run.policy.stall_timeout_seconds
        return fill(run, Cache(folder=arguments.folder, keep=keep, stale_seconds=stale))

    return _fetch(paths, arguments, environment, bring)


def _verify(arguments: argparse.Namespace, environment: Mapping[str, str]) -> BaseModel:
    artifact = parse_artifact(_read(arguments.artifact, "the artifact"))
    check_artifact(_uncached(_trusted(environment).source), artifact)
    return verify(
        Check(
            artifact=artifact,
            root=arguments.dest,
            folder=arguments.folder,
            patience=arguments.patience,
            now=time.monotonic,
            sleep=time.sleep,
        )
    )


def _check(arguments: argparse.Namespace, environment: Mapping[str, str]) -> BaseModel:
    artifact = parse_artifact(_read(arguments.artifact, "the artifact"))
    source = _uncached(_trusted(environment).source)
    check_artifact(source, artifact)
    return check(artifact, source, arguments.dest, now=time.monotonic)


def _attest(arguments: argparse.Namespace, environment: Mapping[str, str]) -> BaseModel:
    """Prove the guest, then answer challenges until the pod ends. It returns never."""
    from nimblet_loader import attestation, gate  # noqa: PLC0415 - no other command needs what they import

    holder = gate.Holder(
        gate=gate.gate_of(environment),
        pod_uid=environment.get("POD_UID", ""),
        obtain=lambda: attestation.obtain(holder.gate, agent=arguments.agent),
        now=lambda: datetime.now(UTC),
    )
    proven = holder.renew()
    with gate.answering(holder, arguments.port) as port:
        _log.info("answering at port %d", port)
        gate.keep(holder, proven, wait=threading.Event().wait)


def _credentials(paths: Paths, policy: FetchPolicy, source: Source, *, required: bool) -> Credentials:
    if source.role_arn is None:
        return read_credentials(
            paths.credentials, hosts=policy.credential_hosts, required=required, scheme=source.scheme
        )
    with closing(Client(policy, Credentials(None, ()))) as client:
        key = assumed_key(client, policy.s3, role=source.role_arn, identity=paths.identity)
    host = parse_target(s3_endpoint(policy.s3)).authority
    return Credentials(None, (host,), key)


def _read(path: Path, what: str) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_INPUT_BYTES).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(
            Reason.ConfigInvalid,
            f"Expected {what} at {path}; it can't be read ({type(error).__name__}). Check the pod's mounts.",
        ) from error


def _fail(error: SourceError, paths: Paths) -> int:
    message = redact(error.message, _secrets(paths))[:_MESSAGE_CHARACTERS]
    _log.error("%s: %s", error.reason.name, message)
    failure = FailureReport(version=VERSION, error=Failure(reason=error.reason.name, message=message))
    try:
        _write(paths.result, encode(failure))
    except SourceError as unwritten:
        _log.error("%s", unwritten.message)
    return error.reason.exit_code


def _secrets(paths: Paths) -> tuple[str, ...]:
    """Read once more what must not be shown; nothing to hide if there is nothing to read."""
    try:
        known = read_credentials(paths.credentials, hosts=(), required=False).secrets
        identity = read_value(paths.identity.parent, paths.identity.name)
    except SourceError:
        return ()
    return known if identity is None else (*known, identity)


def _trace(error: BaseException) -> str:
    """Return types and places of an unexpected error's chain, without its text or values."""
    parts: list[str] = []
    seen: BaseException | None = error
    while seen is not None:
        place, step = "", seen.__traceback__
        while step is not None:
            code = step.tb_frame.f_code
            place, step = f"{Path(code.co_filename).name}:{step.tb_lineno} in {code.co_name}", step.tb_next
        parts.append(f"{type(seen).__name__} at {place}")
        seen = seen.__cause__ or seen.__context__
    return "unexpected: " + "; caused by ".join(parts)


def _write(path: Path, message: bytes) -> None:
    """Write the termination message in place: the kubelet mounted that very file."""
    try:
        with path.open("wb") as file:
            file.write(message[:MAX_MESSAGE_BYTES])
    except OSError as error:
        raise SourceError(
            Reason.ConfigInvalid, f"Expected to write the result to {path}; it failed ({error.strerror})."
        ) from error


def _terminate(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - a signal handler's signature
    """End the run where it is; again each second, since Python drops what is raised in a finalizer."""
    signal.signal(signal.SIGALRM, _terminate)
    signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS, _AGAIN_SECONDS)
    raise Terminated


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="nimblet-loader", description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--policy", type=Path, default=Path("/etc/nimblet/policy/policy.json"))
    shared.add_argument("--credentials", type=Path, default=Path("/etc/nimblet/credentials"))
    shared.add_argument("--claim", type=Path, default=CLAIM_DIR, help="where a pvc:// source's claim is mounted")
    shared.add_argument("--identity", type=Path, default=IDENTITY_PATH, help="the pod's ServiceAccount token")
    shared.add_argument("--result", type=Path, default=Path("/dev/termination-log"))
    commands.add_parser("resolve", parents=[shared], help="pin a source and tell its facts")
    local = argparse.ArgumentParser(add_help=False)
    local.add_argument("--artifact", type=Path, default=Path("/etc/nimblet/artifact/artifact.json"))
    local.add_argument("--dest", type=Path, default=Path("/models"))
    progress = argparse.ArgumentParser(add_help=False)
    progress.add_argument("--progress-port", type=int, default=0, help="serve /progress there; 0 = not at all")
    key = argparse.ArgumentParser(add_help=False)
    key.add_argument("--weights-key", type=Path, default=KEY_PATH, help="a mounted key of encrypted weights")
    key.add_argument("--cdh-port", type=int, default=PORT, help="the guest's key service on loopback")
    commands.add_parser(
        "fetch", parents=[shared, local, progress, key], help="download and verify an artifact's files"
    )
    filling = commands.add_parser("fill", parents=[shared, local, progress, key], help="fill a folder of a cache")
    filling.add_argument("--folder", required=True)
    filling.add_argument("--keep", action="append", help="a folder in use; with it, all others are removed")
    commands.add_parser("check", parents=[shared, local], help="check files that an image volume holds")
    verifying = commands.add_parser("verify", parents=[shared, local], help="check a folder of a cache")
    verifying.add_argument("--folder", required=True)
    verifying.add_argument("--patience", type=float, default=30.0, help="seconds to wait for a filler")
    attesting = commands.add_parser("attest", parents=[shared], help="prove the guest, and answer the operator")
    attesting.add_argument("--port", type=int, default=8082, help="where challenges are answered")
    attesting.add_argument("--agent", default="http://127.0.0.1:8006", help="the guest's REST API")
    return parser
