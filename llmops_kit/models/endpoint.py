"""Chat models behind an OpenAI-compatible address: OpenAI itself, vLLM, Ollama, llama.cpp, LM Studio and others."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk
from pydantic import Field, PrivateAttr, SecretStr

from llmops_kit.errors import InvalidValue, KitError, ModelNotReady
from llmops_kit.models.catalogue import OPENAI_URL
from llmops_kit.models.chat import KitChat, last_chunk, text_chunk
from llmops_kit.models.decoding import TextFilter
from llmops_kit.models.endpoint_replicas import Place, Replicas
from llmops_kit.models.parameters import NEUTRAL
from llmops_kit.settings import secret

if TYPE_CHECKING:
    import ssl

    from llmops_kit.models.endpoint_faults import Server
    from llmops_kit.models.endpoint_retry import Setback
    from llmops_kit.models.endpoint_wire import Wire

_REASONS = {"length": "length", "max_tokens": "length", "max_output_tokens": "length", "incomplete": "length", "content_filter": "content_filter"}
_NO_KEY = "not-needed"  # the client wants a key; servers without one ignore it
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
        from llmops_kit.models.endpoint_retry import pause

        key = self._read_key()
        ask = functools.partial(self._ask, messages, payload, key)
        tried: list[str] = []
        while True:
            place = yield from self._replicas.wait(self.owner, tried[-1:])
            tried.append(place.address)
            failure = yield from self._try_at(place, ask, self._server(key, place.address, tries=len(tried)))
            if failure is None:
                return
            pause_s = self._find_pause(failure.setback, tried)
            if pause_s is None:
                break
            yield from pause(pause_s)
        # Raised here and without its past: the client's errors hold the request, and the request the key.
        fault = failure.fault
        fault.__context__ = fault.__cause__ = None
        raise fault

    def _try_at(self, place: Place, ask: Callable[[str], Iterator[AIMessageChunk]], server: Server) -> Generator[AIMessageChunk | None, None, _Failure | None]:
        """Send the request to one server and give its chunks; what went wrong is the value of the whole."""
        from llmops_kit.models.endpoint_faults import explain_fault
        from llmops_kit.models.endpoint_retry import Setback, read_setback

        answered = shown = finished = False
        setback: Setback | None = None
        try:
            with closing(self._wire.watch(ask(place.address), on_end=place.free)) as chunks:
                for chunk in chunks:
                    if chunk is not None:
                        if not answered:
                            place.succeed()
                        answered, shown = True, shown or bool(chunk.text)
                        finished = finished or bool(_finish_reason(chunk)) or chunk.usage_metadata is not None
                    yield chunk
            if finished:
                return None
            setback = None if shown else Setback()
            return _Failure(server.fault("it broke off before the answer was complete", "回答の途中で接続が切れました"), setback)
        except Exception as error:
            fault = explain_fault(error, server)
            if not isinstance(fault, KitError):
                raise
            setback = None if shown else read_setback(error)
            return _Failure(fault, setback)
        finally:
            place.free(down=setback is not None and setback.is_down)

    def _find_pause(self, setback: Setback | None, tried: Sequence[str]) -> float | None:
        """Seconds until the next try; None where there is none."""
        from llmops_kit.models.endpoint_retry import PATIENCE_S, draw_pause_s

        if setback is None or len(tried) > self.retries:
            return None
        pause_s = draw_pause_s(len(tried))
        if self._replicas.has_other(tried):  # what this server asked for holds for this server
            return pause_s
        return setback.wait_s + pause_s if setback.wait_s <= PATIENCE_S else None

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

    def _server(self, key: str, address: str, *, tries: int) -> Server:
        from llmops_kit.models.endpoint_faults import Server

        return Server(
            model=self.entry.id,
            remote_name=self.entry.model,
            address=urlsplit(address).netloc,
            key=key,
            connect_timeout_s=self.connect_timeout_s,
            request_timeout_s=self.request_timeout_s,
            tries=tries,
        )

    def _read_key(self) -> str:
        """The key of this call.

        Raises:
            ModelNotReady: the server needs a key and there is none, or it has characters that cannot be sent.
        """
        name = self.entry.api_key_env or ("OPENAI_API_KEY" if self._is_openai else None)
        key = self.api_key.get_secret_value() if self.api_key is not None else secret(name) if name else _NO_KEY
        key = (key or "").strip()
        if not key and name is None:
            return _NO_KEY
        if not key:
            raise ModelNotReady(
                en=f"The model “{self.entry.id}” needs a key. Enter it in the model panel, or set the environment variable {name}.",
                ja=f"モデル「{self.entry.id}」にはキーが必要です。モデルパネルに入力するか、環境変数{name}を設定してください。",
                model=self.entry.id,
                reason=f"no key ({name})",
            )
        if not (key.isascii() and key.isprintable()):
            raise ModelNotReady(
                en=f"The key for “{self.entry.id}” has characters no key has. Copy it again.",
                ja=f"「{self.entry.id}」のキーに使えない文字が含まれています。もう一度コピーしてください。",
                model=self.entry.id,
                reason="unreadable key",
            )
        return key

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


@dataclass(frozen=True)
class _Failure:
    """Why a try failed, and what speaks for another."""

    fault: KitError
    setback: Setback | None


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
