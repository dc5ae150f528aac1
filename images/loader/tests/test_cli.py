# SPDX-License-Identifier: Apache-2.0
"""The program as the pod runs it: flags, mounted files, termination message, exit code, signals."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from loader_testing.bench import MODEL, Bench
from loader_testing.hub import REPO, stall, status
from loader_testing.pod import START_SECONDS, Pod
from loader_testing.signing import a_key, public_pem, sign_with_key
from nimblet_egress.errors import TERMINATED_EXIT_CODE, Reason
from nimblet_loader.cli import Paths, run
from nimblet_loader.contract import Artifact, FetchReport

CANARY = "hf_canary_0123456789"
PROMPT_SECONDS = 20
"""Of a source that is silent for longer."""


@pytest.fixture
def pod(bench: Bench, tmp_path: Path) -> Pod:
    return Pod(bench, tmp_path)


def test_resolve_then_fetch(pod: Pod) -> None:
    pod.write()
    code, log = pod.run("resolve")
    assert code == 0, log
    artifact = Artifact.model_validate_json(pod.result)
    pod.write(artifact=artifact)
    code, log = pod.run("fetch")
    assert code == 0, log
    assert FetchReport.model_validate_json(pod.result).bytes == len(pod.bench.content)
    assert (pod.bench.root / MODEL).read_bytes() == pod.bench.content
    assert "100 %" in log


def test_a_failure_is_told_by_code_and_message(pod: Pod) -> None:
    pod.write()
    code, _ = pod.run("resolve", uri="hf://acme/nothing")
    reason, message = pod.failure()
    assert (code, reason) == (Reason.RepositoryNotFound.exit_code, "RepositoryNotFound")
    assert "acme/nothing" in message


def test_no_secret_leaves_in_log_or_message(pod: Pod) -> None:
    pod.write(token=CANARY)
    pod.bench.hub.fail("api", status(401, X_Error_Message=f"Invalid credentials {CANARY}"))
    code, log = pod.run("resolve", secret=True)
    assert code == Reason.TokenInvalid.exit_code
    assert pod.bench.server.requests[0].headers["authorization"] == f"Bearer {CANARY}"
    assert CANARY not in log + pod.result.decode()


@pytest.mark.parametrize(("token", "reason"), [(None, Reason.ConfigInvalid), ("two words", Reason.TokenInvalid)])
def test_a_secret_that_is_no_token(pod: Pod, token: str | None, reason: Reason) -> None:
    pod.write(token=token)
    assert pod.run("resolve", secret=True)[0] == reason.exit_code


def test_missing_mounts_are_named(pod: Pod) -> None:
    code, _ = pod.run("fetch")
    assert code == Reason.ConfigInvalid.exit_code
    assert "policy" in pod.failure()[1]


def test_a_secret_that_cannot_be_read(pod: Pod) -> None:
    pod.write(artifact=pod.bench.artifact())
    (pod.folder / "credentials" / "token").mkdir(parents=True)
    assert pod.run("fetch")[0] == Reason.ConfigInvalid.exit_code


def test_a_defect_of_our_own_is_reported_without_values(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> FetchReport:
        raise ValueError(CANARY)

    paths = Paths(policy=tmp_path, credentials=tmp_path, result=tmp_path / "result")
    assert run(broken, paths) == Reason.Internal.exit_code
    assert "ValueError at test_cli.py" in caplog.text
    assert CANARY not in caplog.text + paths.result.read_text()


def test_a_full_volume_is_told(pod: Pod) -> None:
    pod.write(artifact=pod.bench.artifact())
    process = pod.start("fetch", within=("prlimit", "--fsize=100000"))
    process.communicate(timeout=START_SECONDS)
    assert process.returncode == Reason.DiskFull.exit_code


def test_sigterm_ends_promptly_and_the_next_run_resumes(pod: Pod) -> None:
    pod.write(artifact=pod.bench.artifact())
    pod.bench.hub.fail("file", stall(100_000))
    process = pod.start("fetch")
    deadline = time.monotonic() + START_SECONDS
    while not (pod.bench.partial.exists() and pod.bench.partial.stat().st_size == 100_000):
        assert time.monotonic() < deadline
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PROMPT_SECONDS)
    assert process.returncode == TERMINATED_EXIT_CODE
    assert pod.run("fetch")[0] == 0
    assert pod.bench.server.requests[-1].headers["range"] == "bytes=100000-"


@pytest.mark.parametrize(("signed", "mebibytes"), [(False, 80), (True, 112)])
def test_memory_stays_bounded_over_a_real_model(
    pod: Pod, real_model: Callable[[str], Path], tmp_path: Path, signed: bool, mebibytes: int
) -> None:
    """The interpreter with its modules is about 33 MiB of it, model-signing 30; the container may have 192."""
    pod.bench.hub.files = {MODEL: real_model("smollm2").read_bytes()}
    source: dict[str, object] = {}
    if signed:
        key = a_key()
        bundle = sign_with_key({MODEL: pod.bench.digest}, key, tmp_path)
        source["signature"] = {"method": "Key", "bundle": bundle, "trust": public_pem(key)}
    pod.write(artifact=pod.bench.resolve(**source))
    flags = [f"--{name}={pod.folder / path}" for name, path in pod.paths("fetch").items()]
    program = (
        "import sys; from nimblet_loader.cli import main; code = main(sys.argv[1:])\n"
        "print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')).split()[1])\n"
        "sys.exit(code)"
    )
    spec = json.dumps({"version": 1, "uri": f"hf://{REPO}", **source})
    path = os.pathsep.join(sys.path)
    environment = {**os.environ, "NIMBLET_SOURCE": spec, "POD_UID": "uid-1", "PYTHONPATH": path}
    argv = [sys.executable, "-W", "ignore", "-c", program, "fetch", *flags]
    done = subprocess.run(argv, env=environment, capture_output=True, timeout=START_SECONDS, check=True)
    assert int(done.stdout) < mebibytes * 1024
