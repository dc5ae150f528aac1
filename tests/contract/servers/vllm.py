# SPDX-License-Identifier: Apache-2.0
"""A server that follows the API of vLLM 0.32.0 as its sources have it; it loads no model. Only for tests.

Sources: entrypoints/serve/middleware/authenticate.py, entrypoints/openai/chat_completion/protocol.py,
entrypoints/serve/engine/protocol.py, entrypoints/pooling/{embed,scoring}/protocol.py, v1/metrics/loggers.py. It
listens when its engine is ready and not before; a dead engine answers 503 at /health and 500 elsewhere.
"""

import base64
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

from tests.contract.servers.common import PROMPT_TOKENS, WORDS, ContractServer, Launched, LaunchError, stream

GUARDED: Final = ("/v1", "/v2", "/inference", "/cohere")
WIDTH: Final = 4
METRICS: Final = """\
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 0.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="m"} 0.0
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.0
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{engine="0",model_name="m"} 5.0
# TYPE vllm:generation_tokens_total counter
vllm:generation_tokens_total{engine="0",model_name="m"} 3.0
# TYPE vllm:time_to_first_token_seconds histogram
vllm:time_to_first_token_seconds_count{engine="0",model_name="m"} 1.0
"""


@dataclass(kw_only=True)
class VLLMServer(ContractServer):
    """One vLLM with one model."""

    model: str
    root: str
    key: str
    longest: int
    adapters: Mapping[str, str] = field(default_factory=dict)
    """Folders of its adapters, by name."""
    convert: str = ""
    """What a pooling runner makes of the model: embed, classify, or "" for one that generates."""

    @classmethod
    def of(cls, launched: Launched) -> "VLLMServer":
        """Return the server that `vllm serve` starts."""
        if len(launched.positional) != 1:
            raise LaunchError("expected one model")
        options = launched.options
        if options.get("--load-format", "auto") == "auto":
            raise LaunchError("pickled weights would be loaded")
        return cls(
            model=options["--served-model-name"],
            root=launched.positional[0],
            key=launched.environment["VLLM_API_KEY"],
            longest=int(options["--max-model-len"]),
            convert=options.get("--convert", ""),
            adapters=_adapters(options),
        )

    def is_open(self, request: web.Request) -> bool:
        """The middleware guards four prefixes."""
        return not request.path.startswith(GUARDED)

    def is_let_in(self, request: web.Request) -> bool:
        """Compare the bearer token."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        return scheme.lower() == "bearer" and token == self.key

    def unauthorized(self) -> web.Response:
        """The middleware's answer."""
        return web.json_response({"error": "Unauthorized"}, status=401)

    def routes(self) -> list[web.RouteDef]:
        """Register the routes of the model's task beside the common ones, as the server does."""
        own = {
            "": [web.post("/v1/chat/completions", self.chat), web.post("/invocations", self.chat)],
            "embed": [web.post("/v1/embeddings", self.embed)],
            "classify": [web.post("/v1/rerank", self.rerank), web.post("/rerank", self.rerank)],
        }
        return [
            web.get("/health", self.health),
            web.get("/version", self.version),
            web.get("/metrics", self.metrics),
            web.get("/v1/models", self.models),
            web.post("/tokenize", self.tokenize),
            *own[self.convert],
        ]

    async def health(self, _: web.Request) -> web.Response:
        """An empty body either way."""
        return web.Response(status=200 if self.alive else 503)

    async def version(self, _: web.Request) -> web.Response:
        """Its version."""
        return web.json_response({"version": "0.32.0"})

    async def metrics(self, _: web.Request) -> web.Response:
        """The gauges and counters that plans name."""
        return web.Response(text=METRICS, content_type="text/plain")

    async def models(self, _: web.Request) -> web.Response:
        """The one model, and its adapters as models whose parent it is."""
        shared = {"object": "model", "created": 1, "owned_by": "vllm", "permission": []}
        base = {**shared, "id": self.model, "root": self.root, "parent": None, "max_model_len": self.longest}
        own = [
            {**shared, "id": name, "root": folder, "parent": self.model, "max_model_len": None}
            for name, folder in self.adapters.items()
        ]
        return web.json_response({"object": "list", "data": [base, *own]})

    async def tokenize(self, request: web.Request) -> web.Response:
        """Count words as tokens."""
        count = len(str((await request.json())["prompt"]).split())
        tokens = list(range(count))
        return web.json_response({"count": count, "max_model_len": self.longest, "tokens": tokens})

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """Answer with a few words, as a whole or token by token."""
        body = await request.json()
        if (refused := self._refused(body)) is not None:
            return refused
        tokens = min(int(body.get("max_tokens") or self.longest), len(WORDS))
        base = {"id": "chatcmpl-1", "created": 1, "model": body.get("model") or self.model}
        finish = "length" if tokens < len(WORDS) else "stop"
        usage = _usage(tokens)
        if not body.get("stream"):
            message = {"role": "assistant", "content": "".join(WORDS[:tokens])}
            choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
            whole = {**base, "object": "chat.completion", "choices": [choice], "usage": usage}
            return web.json_response(whole)
        chunk = {**base, "object": "chat.completion.chunk"}
        deltas: list[Mapping[str, Any]] = [{"role": "assistant", "content": ""}]
        deltas += [{"content": word} for word in WORDS[:tokens]]
        events: list[Mapping[str, Any] | str] = [
            {
                **chunk,
                "choices": [
                    {"index": 0, "delta": delta, "finish_reason": finish if delta is deltas[-1] else None}
                ],
            }
            for delta in deltas
        ]
        if (body.get("stream_options") or {}).get("include_usage"):
            events.append({**chunk, "choices": [], "usage": usage})
        return await stream(request, [*events, "[DONE]"])

    async def embed(self, request: web.Request) -> web.Response:
        """Give a vector for each input, as numbers or as base64."""
        body = await request.json()
        if (refused := self._refused(body)) is not None:
            return refused
        inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
        vector = [0.5] * WIDTH
        raw = base64.b64encode(struct.pack(f"<{WIDTH}f", *vector)).decode()
        value = raw if body.get("encoding_format") == "base64" else vector
        data = [{"index": at, "object": "embedding", "embedding": value} for at in range(len(inputs))]
        whole = {"id": "embd-1", "object": "list", "created": 1, "model": self.model, "data": data}
        return web.json_response({**whole, "usage": _usage(0)})

    async def rerank(self, request: web.Request) -> web.Response:
        """Score the documents, the first highest."""
        body = await request.json()
        if (refused := self._refused(body)) is not None:
            return refused
        results = [
            {"index": at, "document": {"text": text}, "relevance_score": 1 / (at + 1)}
            for at, text in enumerate(body["documents"])
        ]
        return web.json_response({"id": "rerank-1", "model": self.model, "usage": _usage(0), "results": results})

    def _refused(self, body: Mapping[str, Any]) -> web.Response | None:
        if not self.alive:
            return _error(500, "InternalServerError", "EngineCore encountered an issue.")
        model = body.get("model")
        if model is not None and model not in (self.model, *self.adapters):
            return _error(404, "NotFoundError", f"The model `{model}` does not exist.", param="model")
        text = " ".join(str(message["content"]) for message in body.get("messages", ()))
        if len(text.split()) > self.longest:
            told = f"This model's maximum context length is {self.longest} tokens."
            return _error(400, "BadRequestError", told, param="input_tokens")
        return None


def _adapters(options: Mapping[str, str]) -> dict[str, str]:
    """Return the adapters of --lora-modules; LaunchError where they are not switched on or have no place."""
    named = dict(item.split("=", 1) for item in options.get("--lora-modules", "").split())
    if named and (options.get("--enable-lora") != "true" or len(named) > int(options.get("--max-loras", "1"))):
        raise LaunchError("adapters without --enable-lora, or more than --max-loras")
    return named


def _usage(completion: int) -> Mapping[str, int]:
    counts = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": completion}
    return {**counts, "total_tokens": PROMPT_TOKENS + completion}


def _error(status: int, kind: str, message: str, *, param: str | None = None) -> web.Response:
    error = {"message": message, "type": kind, "param": param, "code": status}
    return web.json_response({"error": error}, status=status)
