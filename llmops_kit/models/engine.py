"""The local engine: one per loaded base model. Token ids in, text pieces out, for any number of people at once.

`Engine` is the seam that chat models stand on. `LocalEngine` keeps a running batch that requests join and leave between
two tokens (`scheduler.py` decides, `batch.py` computes), so forty answers take little longer than a few.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from llmops_kit.errors import InvalidValue, PromptTooLong, UnknownName
from llmops_kit.models.control_tokens import find_control_tokens
from llmops_kit.models.requests import Delta, EngineLimits, EngineLoad, GenerationRequest, QueuePlace, Score, ScoreRequest
from llmops_kit.models.running import Task
from llmops_kit.models.scheduler import Scheduler
from llmops_kit.models.token_stream import TokenStream
from llmops_kit.types import Message

if TYPE_CHECKING:
    from llmops_kit.models.catalogue import ModelEntry
    from llmops_kit.models.loading import LoadedModel

__all__ = ["Delta", "Engine", "EngineLimits", "GenerationRequest", "LocalEngine", "Score", "ScoreRequest"]


@runtime_checkable
class Engine(Protocol):
    """A loaded model that answers requests, from any number of threads at once."""

    @property
    def revision(self) -> str | None:
        """Which version of the weights answers."""
        ...

    def render(self, messages: Sequence[Message]) -> list[int]:
        """The token ids of a conversation in the model's prompt format."""
        ...

    def encode(self, text: str) -> list[int]:
        """The token ids of a bare text."""
        ...

    def stream(self, request: GenerationRequest) -> Iterator[Delta]:
        """Answer, one `Delta` per token. Closing the iterator frees its place at the next token.

        Raises, at once and before any work:
            PromptTooLong: prompt and answer do not fit the context, or the memory for it.
            InvalidValue: the prompt has no tokens.
            Busy: too many requests wait already.
        While answering:
            TimedOut: the answer took longer than its limit, waiting included.
            ModelRefused: the weights compute no finite numbers.
            EngineStopped: the engine broke down and was started again.
        """
        ...

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score]:
        """How likely each continuation is after its prompt. Raises as `stream` does."""
        ...


class LocalEngine:
    """Answers with one loaded model. Its thread lives while there is work, and comes back when there is some again."""

    def __init__(self, loaded: LoadedModel, limits: EngineLimits | None = None, *, shared: LocalEngine | None = None, adapter: str | None = None) -> None:
        self._loaded = loaded
        self._scheduler: Scheduler = shared._scheduler if shared is not None else Scheduler(loaded, limits or EngineLimits())
        self._adapter = adapter
        self._special_ids = find_control_tokens(loaded.tokenizer)

    def for_entry(self, entry: ModelEntry, *, adapter: str | None = None) -> LocalEngine:
        """The same engine as another catalogue entry of the same base sees it: with that entry's prompt style, and its adapter on every request."""
        return LocalEngine(replace(self._loaded, entry=entry), shared=self, adapter=adapter)

    @property
    def revision(self) -> str | None:
        """Which version of the weights answers."""
        return self._loaded.revision

    @property
    def context_tokens(self) -> int:
        """How many tokens prompt and answer may have together: the entry's word, at most the weights' own limit."""
        own = getattr(self._loaded.model.config, "max_position_embeddings", None)
        return min(self._loaded.entry.context_tokens, own) if isinstance(own, int) and own > 0 else self._loaded.entry.context_tokens

    @property
    def load(self) -> EngineLoad:
        """How busy it is."""
        return self._scheduler.load

    @property
    def is_busy(self) -> bool:
        """Whether anything is to be answered or scored."""
        return self._scheduler.is_busy

    def place_of(self, owner: str) -> QueuePlace | None:
        """Where the owner's first waiting request stands, or None where none of theirs waits."""
        return self._scheduler.place_of(owner)

    def render(self, messages: Sequence[Message]) -> list[int]:
        """The token ids of a conversation in the model's prompt format."""
        return list(self._loaded.render(messages))

    def encode(self, text: str) -> list[int]:
        """The token ids of a bare text, without any the tokenizer would add."""
        return list(self._loaded.tokenizer.encode(text, add_special_tokens=False))

    def stream(self, request: GenerationRequest) -> TokenStream:
        """Answer, one `Delta` per token; see `Engine.stream`. The stream also tells its place in the queue."""
        stops = frozenset(self._special_ids[stop] for stop in request.stop if stop in self._special_ids)
        if self._adapter is not None and request.adapter is None:
            request = replace(request, adapter=self._adapter)
        self._check_adapter(request.adapter)
        task = Task(request, max_tokens=self._fit(request), stop_ids=stops)
        self._scheduler.submit(task)
        return TokenStream(self._scheduler, task, self._loaded)

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score]:
        """Natural-log probabilities of continuations, in batches between the tokens of whatever else runs; see `Engine.score`."""
        if self._adapter is not None:
            requests = [replace(one, adapter=one.adapter or self._adapter) for one in requests]
        for one in requests:
            self._check_adapter(one.adapter)
            if not one.prompt_ids or not one.continuation_ids:
                raise InvalidValue(name="prompt_ids, continuation_ids", value="[]", allowed="≥ 1 token")
            self._check_ids((*one.prompt_ids, *one.continuation_ids))
            self._refuse_longer(len(one.prompt_ids), len(one.continuation_ids), self.context_tokens)
        return self._scheduler.score(requests)

    def score_texts(self, pairs: Sequence[tuple[str | Sequence[Message], str]]) -> list[Score]:
        """As `score`, from texts. A prompt is a text, taken as it is, or a conversation, put into the model's prompt format."""
        encoded = [(self.encode(prompt) if isinstance(prompt, str) else self.render(prompt), self.encode(text)) for prompt, text in pairs]
        return self.score([ScoreRequest(prompt_ids=tuple(prompt), continuation_ids=tuple(text)) for prompt, text in encoded])

    def load_adapter(self, name: str, folder: Path) -> None:
        """Put a LoRA adapter on the model, between two tokens of whatever runs.

        Raises:
            ModelRefused: it does not fit this model or its files are damaged.
        """
        self._scheduler.load_adapter(name, folder)

    def drop_adapter(self, name: str) -> None:
        """Take an adapter off the model; answers under way with it finish first."""
        self._scheduler.drop_adapter(name)

    def retire(self) -> None:
        """Let the thread end, and the weights with it, as soon as nothing is under way."""
        self._scheduler.retire()

    def _check_ids(self, ids: Sequence[int]) -> None:
        rows = self._loaded.model.get_input_embeddings().num_embeddings  # beyond it a GPU stops for the whole process
        if not 0 <= min(ids) <= max(ids) < rows:
            raise InvalidValue(name="prompt_ids", value=f"{min(ids)} … {max(ids)}", allowed=f"0 … {rows - 1}")

    def _check_adapter(self, name: str | None) -> None:
        if name is not None and not self._scheduler.has_adapter(name):  # without this word the bare model would answer in its place
            raise UnknownName(kind="adapter", name=name, known="kit.models.loaded()")

    def _fit(self, request: GenerationRequest) -> int:
        """The tokens the answer may have."""
        if not request.prompt_ids:
            raise InvalidValue(en="The prompt is empty. Write something first.", ja="プロンプトが空です。何か入力してください。", name="messages", value="")
        if request.max_tokens < 1:
            raise InvalidValue(name="max_tokens", value=request.max_tokens, allowed="≥ 1")
        self._check_ids(request.prompt_ids)
        limit = min(self.context_tokens, self._scheduler.most_tokens)
        room = limit - len(request.prompt_ids)
        if room < request.max_tokens and not (request.shrink and room > 0):
            self._refuse_longer(len(request.prompt_ids), request.max_tokens, limit)
        return min(request.max_tokens, room)

    def _refuse_longer(self, prompt_tokens: int, answer_tokens: int, limit: int) -> None:
        if prompt_tokens + answer_tokens > limit:
            raise PromptTooLong(model=self._loaded.entry.id, prompt_tokens=prompt_tokens, max_tokens=answer_tokens, context_tokens=limit)
