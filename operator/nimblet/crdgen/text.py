# SPDX-License-Identifier: Apache-2.0
"""Writes manifests as stable YAML, for `crds/` and for the chart. Returns texts; writes no file."""

from typing import Final

import yaml
from pydantic.config import JsonDict

from nimblet.crdgen.node import SchemaError, as_object

HEADER: Final = (
    "# SPDX-License-Identifier: Apache-2.0\n"
    "# Generated from operator/nimblet/api by `make gen`: edit the models, not this file.\n"
)
LINE_WIDTH: Final = 115
KEEP: Final[JsonDict] = {
    "argocd.argoproj.io/sync-options": "Prune=false",
    "helm.sh/resource-policy": "keep",
}
"""Uninstalling the chart, or leaving its definitions out, must not delete every model of the cluster with them.
Argo CD looks at helm's annotation where an application is deleted, and not where it prunes."""


def crd_text(manifest: JsonDict) -> str:
    """Return the file of `crds/`."""
    return HEADER + "---\n" + _yaml(manifest)


def chart_crd_text(manifest: JsonDict) -> str:
    """Return the chart's template: the same definition, kept on uninstall and switched by crds.enabled."""
    metadata = as_object(manifest["metadata"])
    body = _yaml(manifest | {"metadata": metadata | {"annotations": KEEP}})
    if "{{" in body:
        raise SchemaError("expected no `{{` in descriptions and rules, found one: helm would take it for code")
    return f"{{{{- if .Values.crds.enabled }}}}\n{HEADER}{body}{{{{- end }}}}\n"


def _yaml(value: JsonDict) -> str:
    text: str = yaml.safe_dump(value, sort_keys=True, width=LINE_WIDTH, allow_unicode=True)
    return text
