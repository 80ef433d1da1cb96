"""What the kit's chat models have in common: call-time parameters, how they are named, and one answer from a stream."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.chat_models import generate_from_stream
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from pydantic import Field

from llmops_kit.errors import InvalidValue
from llmops_kit.models.catalogue import ModelEntry
from llmops_kit.models.parameters import RULES, read_parameters, read_stops
from llmops_kit.types import Message, Role

_ROLES: Mapping[str, Role] = {"human": "user", "user": "user", "ai": "assistant", "assistant": "assistant", "system": "system", "developer": "system"}


class StreamedChat(BaseChatModel):
    """A LangChain chat model that always streams: it gives its answer in pieces, and a whole answer is their sum."""

    def for_owner(self, owner: str) -> StreamedChat:
        """The same model, asked in the name of a person, where that makes a difference."""
        return self

    @abstractmethod
    def _answer(self, messages: list[BaseMessage], stop: Sequence[str] | None, values: dict[str, Any]) -> Iterator[ChatGenerationChunk]:
        """The pieces of an answer to `messages`; `values` are the parameters of the call."""

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        return self._answer(messages, stop, kwargs)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return generate_from_stream(self._answer(messages, stop, kwargs))


class KitChat(StreamedChat):
    """A LangChain chat model of a catalogue entry.

    Every parameter can be set three times; the nearest word counts: the call (`stream(…, temperature=0)`), this object
    (`temperature=`), the entry (`default_params`). Ranges are those of `parameters.RULES`; `stop` adds up.
    `owner` names the person who asks: where many wait for a model, turns are shared out evenly between owners.
    """

    entry: ModelEntry
    owner: str = Field(default="", exclude=True, repr=False)
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    repetition_penalty: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    stop: Sequence[str] | None = None

    def for_owner(self, owner: str) -> StreamedChat:
        """The same model, asked in the name of a person."""
        return self.model_copy(update={"owner": owner})

    @property
    def model_name(self) -> str:
        """The catalogue id."""
        return self.entry.id

    @property
    def _identifying_params(self) -> dict[str, Any]:
        """What makes two answers comparable; never a key."""
        own = {name: getattr(self, name) for name in (*RULES, "stop")}
        return {
            "model": self.entry.id,
            "provider": self.entry.provider,
            "source": self.entry.model,
            "revision": self.entry.revision,
            **self.entry.default_params,
            **{name: value for name, value in own.items() if value is not None},
        }

    def _read_call(self, stop: Sequence[str] | None, values: Mapping[str, object]) -> tuple[dict[str, float | int], tuple[str, ...]]:
        """The parameters and stop texts that hold for a call with the keywords `values`."""
        own = {name: getattr(self, name) for name in RULES}
        parameters = read_parameters(self.entry.default_params) | read_parameters(own) | read_parameters(values)
        return parameters, read_stops(stop, self.stop, self.entry.stop)


def read_messages(messages: Iterable[BaseMessage]) -> tuple[Message, ...]:
    """LangChain's messages as the kit's own.

    Raises:
        InvalidValue: a role the kit does not know (tool results), or content that is not text (images, sound).
    """
    return tuple(_read_message(message) for message in messages)


def _read_message(message: BaseMessage) -> Message:
    role = _ROLES.get(str(getattr(message, "role", message.type)).lower())
    if role is None:
        raise InvalidValue(name="role", value=getattr(message, "role", message.type), allowed="system, user, assistant")
    for block in message.content if isinstance(message.content, list) else ():
        if isinstance(block, dict) and block.get("type") not in ("text", "thinking", "reasoning"):
            raise InvalidValue(
                en=f"This model reads text only, not “{block.get('type')}”. Leave that part out.",
                ja=f"このモデルが読めるのは文章だけです。「{block.get('type')}」は使えません。その部分を外してください。",
                name="content",
                value=block.get("type"),
            )
    return Message(role, str(message.text))


def text_chunk(text: str) -> ChatGenerationChunk:
    """A piece of an answer."""
    return ChatGenerationChunk(message=AIMessageChunk(content=text))


def last_chunk(text: str, *, metadata: Mapping[str, Any], tokens: tuple[int, int] | None) -> ChatGenerationChunk:
    """The end of an answer: its last text, `metadata` on how it came about, and `tokens` (prompt, answer) if known."""
    usage = UsageMetadata(input_tokens=tokens[0], output_tokens=tokens[1], total_tokens=sum(tokens)) if tokens else None
    return ChatGenerationChunk(message=AIMessageChunk(content=text, chunk_position="last", response_metadata=dict(metadata), usage_metadata=usage))
