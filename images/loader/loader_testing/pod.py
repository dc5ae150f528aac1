# SPDX-License-Identifier: Apache-2.0
"""The loader's program in a pod's folders: mounts, termination message, and runs as real processes."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from loader_testing.bench import Bench
from loader_testing.hub import REPO
from nimblet_loader.contract import Artifact, FailureReport, encode

START_SECONDS = 100
"""For a run from its start to its end, on a busy machine."""


@dataclass
class Pod:
    """The folders of a pod, and how to run the program in it."""

    bench: Bench
    folder: Path

    def write(self, *, artifact: Artifact | None = None, token: str | None = None) -> None:
        """Write the pod's mounts."""
        rule = {"host": "localhost", "cidr": "127.0.0.0/8", "allowHTTP": True}
        base = f"http://localhost:{self.bench.server.port}"
        policy = {"version": 1, "hfEndpoint": base, "allow": [rule], "credentialHosts": ["localhost"]}
        (self.folder / "policy.json").write_text(json.dumps(policy))
        if artifact is not None:
            (self.folder / "artifact.json").write_bytes(encode(artifact))
        if token is not None:
            (self.folder / "credentials").mkdir()
            (self.folder / "credentials" / "token").write_text(token + "\n")

    def start(
        self, command: str, *options: str, uid: str = "uid-1", within: Sequence[str] = (), **source: object
    ) -> "subprocess.Popen[bytes]":
        """Start a command, inside another program if given; `source` adds to the spec."""
        flags = [f"--{name}={self.folder / path}" for name, path in self.paths(command).items()]
        spec = json.dumps({"version": 1, "uri": f"hf://{REPO}", **source})
        environment = {
            **os.environ,
            "NIMBLET_SOURCE": spec,
            "POD_UID": uid,
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        argv = [*within, sys.executable, "-m", "nimblet_loader", command, *flags, *options]
        return subprocess.Popen(argv, env=environment, stderr=subprocess.PIPE)

    def paths(self, command: str) -> dict[str, str]:
        """Return a command's path flags and where they lead in the pod's folder."""
        shared = {"policy": "policy.json", "credentials": "credentials", "result": "result"}
        return shared if command == "resolve" else {**shared, "artifact": "artifact.json", "dest": "models"}

    def run(self, command: str, *options: str, uid: str = "uid-1", **source: object) -> tuple[int, str]:
        """Run a command to its end; return exit code and log."""
        process = self.start(command, *options, uid=uid, within=(), **source)
        log = process.communicate(timeout=START_SECONDS)[1].decode()
        return process.returncode, log

    @property
    def result(self) -> bytes:
        """Return the termination message."""
        return (self.folder / "result").read_bytes()

    def failure(self) -> tuple[str, str]:
        """Return reason and message of a failed run."""
        error = FailureReport.model_validate_json(self.result).error
        return error.reason, error.message
