# SPDX-License-Identifier: Apache-2.0
"""What the server's pods mount of the user's: looked at before any pod is made. Pure."""

from typing import Final

from nimblet import labels
from nimblet.api.compactmodel import CompactModel
from nimblet.conditions import Reason
from nimblet.manifests.loader import WEIGHTS_KEY_ENTRY
from nimblet.plan.facts import ModelFacts, SecretFacts
from nimblet.plan.stage import Problem, problem

OWN_KEYS_ENTRY: Final = "api-keys"
"""Entry of the user's Secret with keys, one a line."""


def reference_problem(model: CompactModel, facts: ModelFacts) -> Problem | None:
    """Return what is wrong with the Secret of keys or the chat template; None when pods can mount them."""
    keys = model.spec.access.api_keys_secret_ref
    if keys is not None:
        flaw = secret_flaw(keys.name, facts.own_keys, namespace=model.namespace, required=(OWN_KEYS_ENTRY,))
        if flaw is not None:
            return flaw
    return _template_problem(model, facts)


def secret_flaw(
    name: str, secret: SecretFacts | None, *, namespace: str, required: tuple[str, ...]
) -> Problem | None:
    """Return why a Secret that the spec names can't be used: absent, without the label, or without a key."""
    if secret is None:
        return problem(Reason.SECRET_MISSING, f"Secret {name} is not in namespace {namespace}.")
    if not secret.usable:
        return problem(Reason.SECRET_NOT_USABLE, f"Secret {name} is not labelled for use by Nimblet.")
    missing = [key for key in required if key not in secret.keys]
    if missing:
        return problem(Reason.SECRET_NOT_USABLE, f"Secret {name} has no key `{missing[0]}`.")
    return None


def weights_key_problem(model: CompactModel, facts: ModelFacts) -> Problem | None:
    """Return what is wrong with the Secret that decrypts the weights; None where none is named."""
    encryption = model.spec.source.encryption
    if encryption is None or encryption.key_secret_ref is None:
        return None
    name, found = encryption.key_secret_ref.name, facts.weights_key
    flaw = secret_flaw(name, found, namespace=model.namespace, required=(WEIGHTS_KEY_ENTRY,))
    if flaw is not None or found is None or found.for_weights:
        return flaw
    wanted = f'{labels.WEIGHTS_KEY}: "{labels.WEIGHTS_KEY_VALUE}"'
    return problem(
        Reason.SECRET_NOT_USABLE, f"Secret {name} has no annotation {wanted}, so it decrypts no weights."
    )


def _template_problem(model: CompactModel, facts: ModelFacts) -> Problem | None:
    wanted, found = model.spec.runtime.chat_template, facts.chat_template
    if wanted is None:
        return None
    if found is None:
        return problem(
            Reason.CONFIG_MAP_MISSING, f"ConfigMap {wanted.name} is not in namespace {model.namespace}."
        )
    if wanted.key not in found.keys:
        return problem(Reason.CONFIG_MAP_MISSING, f"ConfigMap {wanted.name} has no key `{wanted.key}`.")
    if not found.content_hash:
        return problem(
            Reason.CONFIG_MAP_MISSING, f"The key `{wanted.key}` of ConfigMap {wanted.name} holds no text."
        )
    return None
