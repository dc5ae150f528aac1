# SPDX-License-Identifier: Apache-2.0
"""Facts of a cluster that holds what a facts file and the planned files say, and nothing else. Pure."""

from dataclasses import dataclass, replace

from nimblet.api.assistant import Assistant
from nimblet.api.common import ModelRef, SecretRef
from nimblet.api.compactmodel import CompactModel
from nimblet.api.retrievalindex import RetrievalIndex
from nimblet.api.teepolicy import TEEPolicy
from nimblet.cli.bundle import Bundle
from nimblet.cli.factsfile import FactsFile
from nimblet.cli.inputs import node_facts, offline_facts, secret_entry
from nimblet.cli.planning import Known, model_in, within
from nimblet.manifests.network import NAMESPACE_NAME
from nimblet.names import content_hash
from nimblet.plan.assistantfacts import AssistantFacts, IndexReference
from nimblet.plan.facts import ModelFacts, SecretFacts, StorageClassFacts
from nimblet.plan.indexfacts import IndexFacts, NamedFacts
from nimblet.plan.teefacts import RuntimeClassFacts, TEEFacts
from nimblet.quantity import bytes_of, millicores_of
from nimblet.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Offline:
    """A source of facts without a cluster."""

    given: FactsFile
    settings: Settings
    policies: tuple[TEEPolicy, ...] = ()
    """Of the files: they are the cluster's."""

    async def model(self, model: CompactModel) -> tuple[CompactModel, ModelFacts]:
        """Return the facts about a model."""
        facts = offline_facts(self.given, model, self.settings)
        return model, replace(facts, tee=self._tee(model.namespace))

    async def index(self, index: RetrievalIndex, known: Known) -> tuple[RetrievalIndex, IndexFacts]:
        """Return the facts about an index that nothing was made of yet."""
        given, namespace, bundle = self.given, index.namespace, known.bundle
        config_maps = {
            name: NamedFacts(name=name, usable=True, keys=keys, content_hash=content_hash(list(keys)))
            for name, keys in given.config_maps.items()
        }
        claims = {name: NamedFacts(name=name, usable=True) for name in given.claims}
        return index, IndexFacts(
            nodes=node_facts(given),
            tee=self._tee(namespace),
            embedding=model_in(known, namespace, index.spec.embedding.model_ref),
            reranker=model_in(known, namespace, index.spec.search.reranker_ref),
            secrets=self._secrets(bundle, namespace),
            config_maps={**config_maps, **within(bundle.config_maps, namespace)},
            claims={**claims, **within(bundle.claims, namespace)},
            storage_classes=self._storage_classes(),
        )

    async def assistant(self, assistant: Assistant, known: Known) -> tuple[Assistant, AssistantFacts]:
        """Return the facts about an Assistant that nothing was made of yet."""
        spec, namespace = assistant.spec, assistant.namespace
        guard = ModelRef(name=spec.guard_ref.name) if spec.guard_ref is not None else None
        own = spec.api_keys_secret_ref
        return assistant, AssistantFacts(
            nodes=node_facts(self.given),
            tee=self._tee(namespace),
            own_keys=self._secrets(known.bundle, namespace).get(own.name) if own is not None else None,
            model=model_in(known, namespace, spec.model_ref),
            fallback=model_in(known, namespace, spec.fallback.model_ref if spec.fallback is not None else None),
            guard=model_in(known, namespace, guard),
            indexes=tuple(
                known.indexes.get((namespace, ref.name), IndexReference(name=ref.name, found=False))
                for ref in spec.index_refs
            ),
        )

    def _tee(self, namespace: str) -> TEEFacts:
        """Return what the policies ask for; the texts that they name in ConfigMaps are not looked at."""
        own = self.given.namespace_labels.get(namespace, {})
        return TEEFacts(
            policies=self.policies,
            namespace_labels={NAMESPACE_NAME: namespace, **own},
            runtime_classes=tuple(
                RuntimeClassFacts(
                    name=entry.name,
                    memory_bytes=bytes_of(entry.memory),
                    cpu_millicores=millicores_of(entry.cpu),
                    node_labels=entry.node_labels,
                )
                for entry in sorted(self.given.runtime_classes, key=lambda entry: entry.name)
            ),
            operator_namespace=self.settings.access.operator_namespace,
        )

    def _secrets(self, bundle: Bundle, namespace: str) -> dict[str, SecretFacts]:
        given = {
            name: facts
            for name, entry in self.given.secrets.items()
            if (facts := secret_entry(entry, SecretRef(name=name))) is not None
        }
        return {**given, **within(bundle.secrets, namespace)}

    def _storage_classes(self) -> tuple[StorageClassFacts, ...] | None:
        found = self.given.storage_classes
        if found is None:
            return None
        return tuple(StorageClassFacts(name=name, is_default=not place) for place, name in enumerate(found))
