# SPDX-License-Identifier: Apache-2.0
"""The pure parts behind the scenarios of grounded answers: objects, answers read, searches counted."""

import base64
import json

import httpx
import pytest
import yaml
from openai.types.chat import ChatCompletion

from e2e.data import corpus
from e2e.data.corpus import Split
from e2e.demo import GROUNDED_SAMPLE
from e2e.support.answers import answer_of
from e2e.support.grounded import (
    SITE_HOST,
    SITE_PORT,
    assistant_manifest,
    config_map_source,
    copying_pod_manifest,
    documents_manifest,
    golden_manifest,
    index_manifest,
    site_manifests,
)
from e2e.support.searches import Met
from nimblet.api.assistant import AssistantSpec
from nimblet.api.retrievalindex import RetrievalIndexSpec

DOCUMENTS = [item for item in corpus.documents() if item.id in {"gannock-cheese-guide", "ildren-wm7-manual"}]
SITE, NAMESPACE = SITE_HOST.split(".")[:2]


def test_documents_stand_in_a_config_map_as_their_formats_have_them() -> None:
    made = documents_manifest("docs", "team", DOCUMENTS)
    data = made["binaryData"]
    assert isinstance(data, dict)
    assert set(data) == {"gannock-cheese-guide.md", "ildren-wm7-manual.pdf"}
    assert base64.b64decode(data["ildren-wm7-manual.pdf"]).startswith(b"%PDF")
    assert len(json.dumps(made)) < 2**20


def test_golden_questions_name_files_and_quotes() -> None:
    asked = [item for item in corpus.questions(Split.DEV) if item.document == "gannock-cheese-guide"]
    data = golden_manifest("golden", "team", asked, documents=DOCUMENTS)["data"]
    assert isinstance(data, dict)
    lines = [json.loads(line) for line in data["golden.jsonl"].splitlines()]
    assert [line["id"] for line in lines] == [item.id for item in asked]
    assert {line["document"] for line in lines} == {"gannock-cheese-guide.md"}


def test_a_site_lists_all_its_pages_under_its_own_address() -> None:
    config, deployment, service = site_manifests(SITE, NAMESPACE, DOCUMENTS, image="m:1")
    data = config["binaryData"]
    assert isinstance(data, dict)
    sitemap = base64.b64decode(data["sitemap.xml"]).decode()
    for document in DOCUMENTS:
        assert f"<loc>http://{SITE_HOST}:{SITE_PORT}/{document.file_name}</loc>" in sitemap
    for pod in (deployment, copying_pod_manifest("docs", "claim", "team", image="m:1")):
        text = json.dumps(pod)
        assert '"runAsNonRoot": true' in text
        assert '"readOnlyRootFilesystem": true' in text
    assert str(SITE_PORT) in json.dumps(service)


def test_an_answer_is_read_with_what_openai_has_no_fields_for() -> None:
    citation = {"number": 1, "id": "i/d/0@g000001", "index": "i", "document": "d", "source": "s"}
    body = {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "helpdesk",
        "choices": [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Twelve [1]."}}
        ],
        "citations": [{**citation, "quote": "twelve", "quoteStart": 3, "quoteEnd": 9, "score": 0.5}],
        "nimblet": {"refusal": None},
    }
    answer = answer_of(ChatCompletion.model_validate(body))
    assert (answer.text, answer.refusal, answer.annotations) == ("Twelve [1].", None, 0)
    assert [(item.quote, item.quote_start, item.quote_end) for item in answer.citations] == [("twelve", 3, 9)]


@pytest.mark.parametrize(
    ("status", "headers", "ids", "counted"),
    [
        (200, {}, ["a@g000001", "b@g000001"], (1, 0, 0)),
        (200, {}, ["a@g000001", "b@g000002"], (1, 0, 1)),
        (200, {}, [], (1, 0, 1)),
        (503, {"Retry-After": "5"}, [], (0, 1, 0)),
        (503, {}, [], (0, 0, 1)),
        (500, {}, [], (0, 0, 1)),
    ],
)
def test_only_a_503_that_names_a_time_is_no_failure(
    status: int, headers: dict[str, str], ids: list[str], counted: tuple[int, int, int]
) -> None:
    met = Met()
    body = {"passages": [{"id": item, "document": "d", "text": "t"} for item in ids]}
    met.take(httpx.Response(status, headers=headers, json=body), seconds=1.5)
    assert (met.answered, met.unavailable, len(met.failures)) == counted
    assert met.longest_seconds == 1.5


def test_the_demos_sample_refers_to_what_is_there() -> None:
    documents, index, assistant = yaml.safe_load_all(GROUNDED_SAMPLE.read_text(encoding="utf-8"))
    RetrievalIndexSpec.model_validate(index["spec"])
    AssistantSpec.model_validate(assistant["spec"])
    assert documents["metadata"]["labels"] == {"nimblet.dev/use": "true"}
    assert index["spec"]["sources"][0]["configMap"]["name"] == documents["metadata"]["name"]
    assert assistant["spec"]["indexRefs"] == [{"name": index["metadata"]["name"]}]
    names = {"compactmodel-smollm2.yaml", "compactmodel-embedding.yaml"}
    models = [yaml.safe_load((GROUNDED_SAMPLE.parent / name).read_text(encoding="utf-8")) for name in names]
    named = {index["spec"]["embedding"]["modelRef"]["name"], assistant["spec"]["modelRef"]["name"]}
    assert named == {model["metadata"]["name"] for model in models}


def test_what_scenarios_apply_is_what_the_kinds_take() -> None:
    source = config_map_source("handbooks", config_map="docs")
    web: dict[str, object] = {"name": "site", "web": {"sitemap": f"http://{SITE_HOST}:{SITE_PORT}/sitemap.xml"}}
    index = index_manifest("docs", "team", embedding="minilm", sources=[source, web])
    RetrievalIndexSpec.model_validate(index["spec"])
    AssistantSpec.model_validate(assistant_manifest("desk", "team", model="chat", indexes=["docs"])["spec"])
