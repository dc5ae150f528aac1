# SPDX-License-Identifier: Apache-2.0
"""Longer texts of the command line's help. Text only."""

from typing import Final

EXAMPLES: Final = (
    "nimblet plan -f samples/compactmodel-smollm2.yaml --facts samples/facts-smollm2.yaml",
    "nimblet plan -f model.yaml --kubeconfig ~/.kube/config -o yaml",
    "nimblet plan -f models.yaml -f samples/assistant-ferry.yaml --facts facts.yaml --assume-serving",
    "nimblet size -f samples/compactmodel-smollm2.yaml --facts samples/facts-smollm2.yaml --context 8192",
    "nimblet size --gguf-facts artifact.json --context 8192 --parallel 4 --kv-cache-type q8_0",
    "nimblet status smollm2 -n team",
    "nimblet status help -n team --assistant",
    "nimblet status handbook -n team --index",
    'nimblet ask smollm2 -n team "What is the capital of France?"',
    'nimblet ask help -n team --assistant --url https://127.0.0.1:8080 --ca ca.crt "When does the office open?"',
    "nimblet bench smollm2 -n team --url http://127.0.0.1:8080 --rate 2 --seconds 60 --plot smollm2.svg",
    "nimblet digest ./models/smollm2 -o configmap --name smollm2-digests -n team",
    "nimblet digest --model smollm2 -n team -o spec",
    "nimblet sign ./models/smollm2 --key builds.key",
    "nimblet sign ./models/smollm2 --key builds.key --certificate builds.pem -o configmap -n team",
    "nimblet encrypt ./models/tuned --model acme/tuned --revision 2026-11 --out ./sealed --new-identity tuned.key",
    "nimblet index purge -n team --uid 6ac1f1a2-… --url https://qdrant.example.com --key-secret qdrant",
)
FACTS_FORMAT: Final = """A facts file is YAML with any of these parts:
  nodes:                      # what the plan may place on, by totals
    - {name: node-1, memory: 24Gi, cpu: "2"}
    - {name: gpu-1, memory: 64Gi, cpu: "16", resources: {nvidia.com/gpu: "2"}, labels: {}}
  artifact: {version: 1, ...} # artifact.json of the ConfigMap <model>-artifact-...; without it the plan resolves
  artifacts: {smollm2: {version: 1, ...}}   # the same by the model's name, for several models
  secret: {usable: true, hosts: [huggingface.co], keys: [token]}   # where the spec names a Secret
  ownKeys: {keys: [api-keys]}      # where the spec names a Secret of own keys
  weightsKey: {keys: [identity], forWeights: true}   # where source.encryption names a Secret
  chatTemplate: "{{ messages }}"   # the text, where the spec names a ConfigMap
  secrets: {store: {hosts: [qdrant.example], keys: [api-key]}}   # what an index or an Assistant names, by name,
  configMaps: {handbook: [a.md]}   # with the keys, where it is not in the planned files itself
  claims: [documents]
  storageClasses: [standard]       # the default first; without it they are not looked at
  podSecurity: restricted          # what the namespace's label enforces, for profiles that need more
  trust: {digests/sha256sums: "…"} # texts that integrity names, by ConfigMap and key
"""
