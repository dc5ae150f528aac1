# SPDX-License-Identifier: Apache-2.0
"""All certificates, keys and kubeconfigs of one cluster, in one folder."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.kubeconfig import kubeconfig_manifest, write_kubeconfig
from e2e.cluster.pki import (
    Authority,
    PairFiles,
    Subject,
    issue_files,
    server_names,
    signing_key,
    write_secret,
)

ADMIN = "admin"
CONTROLLER_MANAGER_USER = "controller-manager"
SCHEDULER_USER = "scheduler"

CONTROL_PLANE_USERS: Mapping[str, Subject] = {
    CONTROLLER_MANAGER_USER: Subject("system:kube-controller-manager"),
    SCHEDULER_USER: Subject("system:kube-scheduler"),
}
"""File name to user; the apiserver's built-in roles are bound to these names."""


@dataclass(frozen=True)
class Credentials:
    """What was written below `directory`; `server_url` is the apiserver's https URL."""

    directory: Path
    server_url: str
    authority: Authority
    authority_file: Path
    service_account_key: Path
    server: PairFiles
    admin: PairFiles

    def kubeconfig(self, user: str) -> Path:
        """Return the kubeconfig's path of one of the users."""
        return self.directory / f"{user}.kubeconfig"

    def add_user(self, name: str, subject: Subject) -> Path:
        """Sign a certificate for `subject` and write its kubeconfig under the file name `name`."""
        manifest = kubeconfig_manifest(
            server=self.server_url,
            authority=self.authority.certificate,
            client=self.authority.issue(subject),
        )
        path = self.kubeconfig(name)
        write_kubeconfig(path, manifest)
        return path

    def issue(self, name: str, subject: Subject) -> PairFiles:
        """Sign a certificate for `subject` and write the pair under the file name `name`."""
        return issue_files(self.authority, subject, directory=self.directory, name=name)


def write_credentials(
    *, directory: Path, server_url: str, addresses: Sequence[str], users: Mapping[str, Subject]
) -> Credentials:
    """Write everything anew; `addresses` are those by which the apiserver is reached."""
    authority = Authority(now=dt.datetime.now(tz=dt.UTC))
    directory.mkdir(parents=True, exist_ok=True)
    authority_file = directory / "ca.crt"
    authority_file.write_bytes(authority.certificate)
    service_account_key = directory / "service-account.key"
    write_secret(service_account_key, signing_key())
    server = Subject("kube-apiserver", names=server_names(), addresses=tuple(addresses))
    admin = Subject("nimblet-admin", organizations=("system:masters",))
    credentials = Credentials(
        directory=directory,
        server_url=server_url,
        authority=authority,
        authority_file=authority_file,
        service_account_key=service_account_key,
        server=issue_files(authority, server, directory=directory, name="server"),
        admin=issue_files(authority, admin, directory=directory, name=ADMIN),
    )
    for name, subject in {ADMIN: admin, **users}.items():
        credentials.add_user(name, subject)
    return credentials
