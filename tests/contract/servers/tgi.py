# SPDX-License-Identifier: Apache-2.0
"""A server that follows the API of Text Generation Inference 3.3 as its sources have it; it loads no model.

Only for tests. Sources: router/src/{server,lib,chat}.rs and docs/openapi.json. Its router listens when the shards
are up; /health is 503 until they have generated, and again when they are gone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from tests.contract.servers.common import PROMPT_TOKENS, WORDS, ContractServer, Launched, LaunchError, stream

OPEN: Final = frozenset(
    {"/health", "/ping", "/info", "/metrics", "/v1/models", "/chat_tokenize", "/invocations", "/docs"}
)
METRICS: Final = """\
# TYPE tgi_queue_size gauge
tgi_queue_size 0
# TYPE tgi_batch_current_size gauge
tgi_batch_current_size 0
# TYPE tgi_request_input_length histogram
tgi_request_input_length_sum 5
# TYPE tgi_request_generated_tokens histogram
tgi_request_generated_tokens_sum 3
"""


@dataclass(kw_only=True)
class TGIServer(ContractServer):
    """One router with its shards."""

    model: str
    key: str
    longest: int
    total: int

    @classmethod
    def of(cls, launched: Launched) -> "TGIServer":
        """Return the server that `text-generation-launcher` starts."""
        options, environment = launched.options, launched.environment
        longest, total = int(options["--max-input-tokens"]), int(options["--max-total-tokens"])
        if launched.positional or longest >= total:
            raise LaunchError("`max_input_tokens` must be < `max_total_tokens`")
        if int(options["--max-batch-prefill-tokens"]) < longest:
            raise LaunchError("`max_batch_prefill_tokens` must be >= `max_input_tokens`")
        if options["--usage-stats"] != "off":
            raise LaunchError("usage would be reported")
        return cls(model=environment["MODEL_ID"], key=environment["API_KEY"], longest=longest, total=total)

    def is_open(self, request: web.Request) -> bool:
        """What generates at / needs the key, and its health there does not."""
        return request.path in OPEN or (request.path == "/" and request.method == "GET")

    def is_let_in(self, request: web.Request) -> bool:
        """The router compares without regard to case."""
        return request.headers.get("Authorization", "").lower() == f"Bearer {self.key}".lower()

    def unauthorized(self) -> web.Response:
        """A bare status."""
        return web.Response(status=401)

    def routes(self) -> list[web.RouteDef]:
        """The routes that plans and clients use."""
        return [
            *(web.get(path, self.health) for path in ("/", "/health", "/ping")),
            web.get("/info", self.info),
            web.get("/metrics", self.metrics),
            web.get("/v1/models", self.models),
            web.post("/", self.compatible),
            web.post("/generate", self.generate),
            web.post("/generate_stream", self.generate_stream),
            web.post("/v1/chat/completions", self.chat),
            web.post("/invocations", self.compatible),
        ]

    async def health(self, _: web.Request) -> web.Response:
        """Whether the shards generate."""
        return web.Response(status=200) if self.alive else _error(503, "unhealthy", "healthcheck")

    async def info(self, _: web.Request) -> web.Response:
        """What it was launched with."""
        limits = {"max_input_tokens": self.longest, "max_total_tokens": self.total, "max_concurrent_requests": 128}
        others = {"max_best_of": 2, "max_stop_sequences": 4, "max_client_batch_size": 4, "validation_workers": 2}
        names = {"model_id": self.model, "model_sha": None, "model_pipeline_tag": None}
        router = {"router": "text-generation-router", "version": "3.3.7", "sha": None, "docker_label": None}
        return web.json_response({**names, **limits, **others, **router})

    async def metrics(self, _: web.Request) -> web.Response:
        """The gauges and sums that plans name."""
        return web.Response(text=METRICS, content_type="text/plain")

    async def models(self, _: web.Request) -> web.Response:
        """The model by its folder, whatever callers name it."""
        card = {"id": self.model, "object": "model", "created": 0, "owned_by": self.model}
        return web.json_response({"object": "list", "data": [card]})

    async def compatible(self, request: web.Request) -> web.StreamResponse:
        """As either of the two, by `stream`."""
        body = await request.json()
        if body.get("stream"):
            return await self.generate_stream(request)
        if (refused := self._refused(str(body["inputs"]))) is not None:
            return refused
        return web.json_response([_generated(body.get("parameters") or {})])

    async def generate(self, request: web.Request) -> web.Response:
        """Give the whole text at once."""
        body = await request.json()
        return self._refused(str(body["inputs"])) or web.json_response(_generated(body.get("parameters") or {}))

    async def generate_stream(self, request: web.Request) -> web.StreamResponse:
        """Give the text token by token; the last one has the whole."""
        body = await request.json()
        if (refused := self._refused(str(body["inputs"]))) is not None:
            return refused
        generated = _generated({**(body.get("parameters") or {}), "details": True})
        tokens = generated["details"]["tokens"]
        events: list[Mapping[str, Any] | str] = []
        for at, token in enumerate(tokens, start=1):
            last = at == len(tokens)
            details = {
                "finish_reason": "length",
                "generated_tokens": at,
                "seed": None,
                "input_length": PROMPT_TOKENS,
            }
            text = generated["generated_text"] if last else None
            event = {"index": at, "token": token, "top_tokens": [], "generated_text": text}
            events.append({**event, "details": details if last else None})
        return await stream(request, events)

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """Answer with a few words; the model's name in the request chooses an adapter, of which there are none."""
        body = await request.json()
        text = " ".join(str(message["content"]) for message in body["messages"])
        if (refused := self._refused(text)) is not None:
            return refused
        tokens = min(int(body.get("max_tokens") or self.total), len(WORDS))
        base = {"id": "", "created": 1, "model": self.model, "system_fingerprint": "3.3.7-native"}
        finish = "length" if tokens < len(WORDS) else "stop"
        counts = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": tokens}
        usage = {**counts, "total_tokens": PROMPT_TOKENS + tokens}
        if not body.get("stream"):
            message = {"role": "assistant", "content": "".join(WORDS[:tokens])}
            choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
            return web.json_response({**base, "object": "chat.completion", "choices": [choice], "usage": usage})
        events: list[Mapping[str, Any] | str] = []
        for at, word in enumerate(WORDS[:tokens], start=1):
            delta = {"role": "assistant", "content": word}
            choice = {
                "index": 0,
                "delta": delta,
                "logprobs": None,
                "finish_reason": finish if at == tokens else None,
            }
            events.append({**base, "object": "chat.completion.chunk", "choices": [choice], "usage": None})
        if (body.get("stream_options") or {}).get("include_usage"):
            events.append({**base, "object": "chat.completion.chunk", "choices": [], "usage": usage})
        return await stream(request, [*events, "[DONE]"])

    def _refused(self, text: str) -> web.Response | None:
        if self.overloaded:
            return _error(429, "Model is overloaded", "overloaded")
        if not self.alive:
            return _error(424, "Request failed during generation: shard is gone", "generation")
        if (count := len(text.split())) > self.longest:
            told = f"Input validation error: `inputs` must have less than {self.longest} tokens. Given: {count}"
            return _error(422, told, "validation")
        return None


def _generated(parameters: Mapping[str, Any]) -> dict[str, Any]:
    tokens = min(int(parameters.get("max_new_tokens") or 100), len(WORDS))
    text = "".join(WORDS[:tokens])
    if not parameters.get("details"):
        return {"generated_text": text}
    own = [{"id": at, "text": word, "logprob": -0.1, "special": False} for at, word in enumerate(WORDS[:tokens])]
    details = {"finish_reason": "length", "generated_tokens": tokens, "seed": None, "prefill": [], "tokens": own}
    return {"generated_text": text, "details": details}


def _error(status: int, message: str, kind: str) -> web.Response:
    return web.json_response({"error": message, "error_type": kind}, status=status)
