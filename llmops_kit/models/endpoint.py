"""Chat models behind an OpenAI-compatible address: OpenAI itself, vLLM, Ollama, llama.cpp, LM Studio and others."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk
from pydantic import Field, PrivateAttr, SecretStr

from llmops_kit.errors import InvalidValue
from llmops_kit.models.catalogue import OPENAI_URL
from llmops_kit.models.chat import KitChat, last_chunk, text_chunk
from llmops_kit.models.decoding import TextFilter
from llmops_kit.models.endpoint_replicas import Replicas
from llmops_kit.models.parameters import NEUTRAL

if TYPE_CHECKING:
    import ssl

    from llmops_kit.models.endpoint_call import Progress
    from llmops_kit.models.endpoint_wire import Wire

_REASONS = {"length": "length", "max_tokens": "length", "max_output_tokens": "length", "incomplete": "length", "content_filter": "content_filter"}
_CHARS_PER_TOKEN = 4  # of text in Latin letters, OpenAI's own rule of thumb


class EndpointChat(KitChat):
    """A catalogue entry answered by a model server over HTTP.

    `api_key` is one person's key and stays in this object; without it the environment variable the entry names is read
    at the moment of the call. Time-outs are seconds: to reach the server, and how long it may stay silent. A request that
    failed for a passing reason before its first token is sent up to `retries` times more. While it waits for its turn, for
    a server or for the next try, the answer gives empty pieces, so that closing it takes effect within half a second.
    `top_k` and `repetition_penalty` are not part of OpenAI's interface: they are sent only to a server whose entry
    lists them in `default_params` (vLLM, for one, knows both).
    """

    api_key: SecretStr | None = Field(None, exclude=True, repr=False)
    connect_timeout_s: float = Field(5.0, gt=0)
    request_timeout_s: float = Field(60.0, gt=0)
    retries: int = Field(2, ge=0)
    _shared: Replicas | None = PrivateAttr(None)
    _tls: ssl.SSLContext | None = PrivateAttr(None)

    def share(self, replicas: Replicas, tls: ssl.SSLContext | None = None) -> EndpointChat:
        """Stand in one waiting line with other objects of this model, and trust servers as they do; gives itself."""
        self._shared, self._tls = replicas, tls
        return self

    @property
    def _llm_type(self) -> str:
        return "llmops-kit-endpoint"

    def get_num_tokens(self, text: str) -> int:
        """About how many tokens `text` has: four Latin characters each, one for each other character.

        An estimate. The server counts the real ones, which come with every answer; its vocabulary is not on this machine.
        """
        latin = sum(ord(character) < 0x250 for character in text)
        return -(-latin // _CHARS_PER_TOKEN) + len(text) - latin

    def _answer(self, messages: list[BaseMessage], stop: Sequence[str] | None, values: dict[str, Any]) -> Iterator[ChatGenerationChunk]:
        parameters, stops = self._read_call(stop, values)
        payload = self._make_payload(parameters)
        if stops:
            payload["stop"] = list(stops)
        answer = _Answer(TextFilter(stops, strip_leading_newline=self.entry.strip_leading_newline))
        for chunk in self._receive(messages, payload):
            text = answer.add(chunk) if chunk is not None else ""
            if text or chunk is None:
                yield text_chunk(text)
            if answer.shown.stopped:  # the server did not heed the stop texts itself
                break
        yield last_chunk(answer.shown.finish(), metadata=answer.metadata(self.entry.model), tokens=answer.tokens)

    def _receive(self, messages: list[BaseMessage], payload: Mapping[str, Any]) -> Iterator[AIMessageChunk | None]:
        """The server's chunks, and None now and then while there is none, with its faults told as the kit's errors."""
        from llmops_kit.models.endpoint_call import Caller, read_key

        key = read_key(self.entry, self.api_key.get_secret_value() if self.api_key is not None else None)
        caller = Caller(self.entry, self._replicas, self._wire, self.connect_timeout_s, self.request_timeout_s, self.retries, self.owner)
        yield from caller.send(functools.partial(self._ask, messages, payload, key), key, _note_chunk)

    def _ask(self, messages: list[BaseMessage], payload: Mapping[str, Any], key: str, address: str) -> Iterator[AIMessageChunk]:
        """The client's stream, not begun yet."""
        from langchain_openai import ChatOpenAI

        delegate = ChatOpenAI(
            model=self.entry.model,
            base_url=address,
            api_key=SecretStr(key),
            stream_usage=True,
            use_responses_api=None if self._is_openai else False,
            max_retries=0,  # see endpoint_retry
            http_client=self._wire.client,
            http_async_client=self._wire.unused,
            http_socket_options=(),
            timeout=self._wire.client.timeout,
        )
        return delegate.stream(messages, **payload)

    @property
    def _is_openai(self) -> bool:
        return self.entry.addresses[0].startswith(OPENAI_URL)

    @functools.cached_property
    def _own_replicas(self) -> Replicas:
        return Replicas(self.entry.id, self.entry.addresses)

    @property
    def _replicas(self) -> Replicas:
        return self._shared or self._own_replicas

    @functools.cached_property
    def _wire(self) -> Wire:
        from llmops_kit.models.endpoint_wire import Wire

        return Wire(model=self.entry.id, connect_timeout_s=self.connect_timeout_s, request_timeout_s=self.request_timeout_s, tls=self._tls)

    def _make_payload(self, parameters: Mapping[str, float | int]) -> dict[str, Any]:
        """The request's fields; what only some servers know goes into the extra body."""
        payload: dict[str, Any] = {name: parameters[name] for name in ("temperature", "top_p", "seed") if name in parameters}
        extra: dict[str, Any] = {}
        if "max_tokens" in parameters:
            (payload if self._is_openai else extra)["max_tokens"] = parameters["max_tokens"]
        for name, neutral in NEUTRAL.items():
            if name in self.entry.default_params:
                extra[name] = parameters[name]
            elif parameters.get(name, neutral) != neutral:
                raise InvalidValue(
                    en=f"The server of “{self.entry.id}” takes no {name}. Leave it at {neutral:g}, or list it in the entry's default_params.",
                    ja=f"「{self.entry.id}」のサーバーは{name}に対応していません。{neutral:g}のままにするか、エントリのdefault_paramsに加えてください。",
                    name=name,
                    value=parameters[name],
                    allowed=f"{neutral:g}",
                )
        return {**payload, "extra_body": extra} if extra else payload


class _Answer:
    """What is gathered from the chunks of one answer."""

    def __init__(self, shown: TextFilter) -> None:
        self.shown = shown
        self.tokens: tuple[int, int] | None = None
        self._facts: dict[str, Any] = {}

    def add(self, chunk: AIMessageChunk) -> str:
        """Take a chunk in; the text it lets be shown."""
        if chunk.usage_metadata is not None:
            self.tokens = (chunk.usage_metadata["input_tokens"], chunk.usage_metadata["output_tokens"])
        facts = {**chunk.response_metadata, "finish_reason": _finish_reason(chunk)}
        self._facts.update({name: value for name, value in facts.items() if value})
        return self.shown.push(str(chunk.text))

    def metadata(self, asked_model: str) -> dict[str, Any]:
        """How the answer came about, in the kit's words."""
        reason = self._facts.get("finish_reason")
        return {
            "model_name": self._facts.get("model_name") or asked_model,
            "model_revision": self._facts.get("system_fingerprint"),
            "finish_reason": "stop" if self.shown.stopped else _REASONS.get(str(reason), "stop"),
        }


def _finish_reason(chunk: AIMessageChunk) -> str | None:
    """Why the answer ended, in the words of either of OpenAI's two interfaces."""
    said = chunk.response_metadata
    reason = said.get("finish_reason") or (said.get("incomplete_details") or {}).get("reason") or said.get("status")
    return str(reason) if reason else None


def _note_chunk(chunk: AIMessageChunk, progress: Progress) -> None:
    progress.shown = progress.shown or bool(chunk.text)
    progress.finished = progress.finished or bool(_finish_reason(chunk)) or chunk.usage_metadata is not None
