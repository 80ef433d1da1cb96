"""Chat models that run in this process, on a local engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk
from pydantic import Field

from llmops_kit.models.chat import KitChat, last_chunk, read_messages, text_chunk
from llmops_kit.models.engine import Engine, GenerationRequest

_DEFAULT_MAX_TOKENS = 256


class LocalChat(KitChat):
    """A catalogue entry answered by an `Engine` in this process.

    Without a `max_tokens` of the call or of this object, an answer may be shorter than the entry's default where the
    context leaves less room; with one, a prompt that leaves less room raises `PromptTooLong`.
    """

    engine: Engine = Field(exclude=True, repr=False)

    @property
    def _llm_type(self) -> str:
        return "llmops-kit-local"

    def get_token_ids(self, text: str) -> list[int]:
        """The ids of `text` in this model's own vocabulary; `get_num_tokens` counts them."""
        return self.engine.encode(text)

    def get_num_tokens_from_messages(self, messages: list[BaseMessage], tools: Sequence[Any] | None = None) -> int:
        """How many tokens the conversation takes in this model's prompt format. `tools` are not offered to local models."""
        return len(self.engine.render(read_messages(messages)))

    def _answer(self, messages: list[BaseMessage], stop: Sequence[str] | None, values: dict[str, Any]) -> Iterator[ChatGenerationChunk]:
        request = self._make_request(messages, stop, values)
        deltas = self.engine.stream(request)
        try:
            for delta in deltas:
                if delta.finish_reason is None:
                    yield text_chunk(delta.text)
                    continue
                metadata = {"model_name": self.entry.id, "model_revision": self.engine.revision, "finish_reason": delta.finish_reason}
                yield last_chunk(delta.text, metadata=metadata, tokens=(len(request.prompt_ids), delta.output_tokens))
        finally:
            close = getattr(deltas, "close", None)
            if close is not None:
                close()

    def _make_request(self, messages: list[BaseMessage], stop: Sequence[str] | None, values: dict[str, Any]) -> GenerationRequest:
        parameters, stops = self._read_call(stop, values)
        asked = values.get("max_tokens") if values.get("max_tokens") is not None else self.max_tokens
        return GenerationRequest(
            prompt_ids=tuple(self.engine.render(read_messages(messages))),
            max_tokens=int(parameters.get("max_tokens", _DEFAULT_MAX_TOKENS)),
            temperature=parameters.get("temperature", 0.0),
            top_p=parameters.get("top_p", 1.0),
            top_k=int(parameters.get("top_k", 0)),
            repetition_penalty=parameters.get("repetition_penalty", 1.0),
            seed=int(parameters["seed"]) if "seed" in parameters else None,
            stop=stops,
            owner=self.owner,
            shrink=asked is None,
        )
