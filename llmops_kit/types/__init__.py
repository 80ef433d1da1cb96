"""The records that travel through the kit: frozen, comparable, and able to show themselves in a notebook."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import secrets
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from llmops_kit.types.documents import Chunk as Chunk
from llmops_kit.types.documents import Collection as Collection
from llmops_kit.types.documents import Document as Document
from llmops_kit.types.documents import DocumentState as DocumentState
from llmops_kit.types.documents import Page as Page
from llmops_kit.types.feedback import Artifact as Artifact
from llmops_kit.types.feedback import Campaign as Campaign
from llmops_kit.types.feedback import CampaignItem as CampaignItem
from llmops_kit.types.feedback import Choice as Choice
from llmops_kit.types.feedback import Claim as Claim
from llmops_kit.types.feedback import ClaimState as ClaimState
from llmops_kit.types.feedback import Comparison as Comparison
from llmops_kit.types.feedback import Door as Door
from llmops_kit.types.feedback import Feedback as Feedback
from llmops_kit.types.feedback import Note as Note
from llmops_kit.types.feedback import Vote as Vote
from llmops_kit.types.jobs import ENDED as ENDED
from llmops_kit.types.jobs import Job as Job
from llmops_kit.types.jobs import JobEngine as JobEngine
from llmops_kit.types.jobs import JobEvent as JobEvent
from llmops_kit.types.jobs import JobState as JobState

Role = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length", "content_filter", "cancelled", "error"]
VariableKind = Literal["text", "select", "number"]


@dataclass(frozen=True)
class Message:
    """One turn of a chat: who speaks (`role`) and what is said (`content`)."""

    role: Role
    content: str


@dataclass(frozen=True)
class Variable:
    """One typed blank of a prompt.

    `kind` is `text`, `select` (one of `options`) or `number` (between `minimum` and `maximum` where given).
    `label` and `example` hold one text per language (`{"ja": …, "en": …}`); `example` is what the form shows first.
    """

    name: str
    kind: VariableKind = "text"
    required: bool = True
    default: str | float | None = None
    options: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    label: Mapping[str, str] = field(default_factory=dict)
    example: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Prompt:
    """A prompt template: messages with `{{variable}}` blanks, plus the model and parameters it goes with.

    `version` is 0 for a prompt that was never saved. `schema` is a JSON schema its answers are checked against.
    `text` is the plain-text file the prompt was read from (or will be saved as).
    """

    name: str
    messages: tuple[Message, ...]
    variables: tuple[Variable, ...] = ()
    description: Mapping[str, str] = field(default_factory=dict)
    model: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    schema: Mapping[str, Any] | None = None
    version: int = 0
    labels: tuple[str, ...] = ()
    message: str = ""
    author: str = ""
    created_at: datetime | None = None
    text: str = ""

    @property
    def sha256(self) -> str:
        """Hash of the file text, the identity of a version's content."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def _repr_markdown_(self) -> str:
        turns = "\n\n".join(f"**{turn.role}**\n\n```text\n{turn.content}\n```" for turn in self.messages)
        return f"### {self.name} v{self.version}\n\n{self.description.get('ja', '')} / {self.description.get('en', '')}\n\n{turns}"


@dataclass(frozen=True)
class Source:
    """A passage of a document an answer rests on; `start` and `end` are character offsets into the document."""

    document: str
    text: str
    page: int | None = None
    score: float | None = None
    start: int | None = None
    end: int | None = None
    document_id: str | None = None
    chunk_id: str | None = None

    @property
    def name(self) -> str:
        """The document and the page, as one line of plain text."""
        page = f", p. {self.page}" if self.page is not None else ""
        return f"`{self.document.replace('`', ' ')}`{page}"


@dataclass(frozen=True)
class Run:
    """One model call, whichever door it came through.

    Times are seconds (`ttft_s` to the first token, `latency_s` in all), `cost` is US dollars or None where the
    catalogue has no price. `error` is None, or a short text of what went wrong; `finish_reason` is None while the
    answer is still growing. In a comparison `item` is the test item answered, the same for all answers to it, and `variant`
    names what answered.
    """

    id: str
    created_at: datetime
    participant: str
    app: str
    model: str
    messages: tuple[Message, ...]
    prompt_sha256: str
    prompt_name: str | None = None
    prompt_version: int | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)
    model_revision: str | None = None
    adapter: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    sources: tuple[Source, ...] = ()
    output: str = ""
    finish_reason: FinishReason | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    ttft_s: float | None = None
    latency_s: float | None = None
    cost: float | None = None
    flags: tuple[str, ...] = ()
    error: str | None = None
    bare_answer: str | None = None
    item: str | None = None
    variant: str | None = None

    @property
    def answer(self) -> str:
        """The bare answer; the whole reply where there is nothing barer."""
        return self.output if self.bare_answer is None else self.bare_answer

    @property
    def tokens_per_s(self) -> float | None:
        """Output tokens per second after the first token, or None before two tokens are there."""
        if not self.output_tokens or self.output_tokens < 2 or self.ttft_s is None or self.latency_s is None:
            return None
        decode_s = self.latency_s - self.ttft_s
        return (self.output_tokens - 1) / decode_s if decode_s > 0 else None

    def facts(self) -> str:
        """One quiet line: model, times with units, tokens, cost, and how it ended."""
        parts = [self.model]
        if self.ttft_s is not None:
            parts.append(f"TTFT {self.ttft_s:.2f} s")
        if self.latency_s is not None:
            parts.append(f"{self.latency_s:.2f} s")
        if self.tokens_per_s is not None:
            parts.append(f"{self.tokens_per_s:.1f} tokens/s")
        if self.output_tokens is not None:
            about = "~" if self.input_tokens is None else ""  # nobody counted: see the flag tokens_estimated
            parts.append(f"{self.input_tokens if self.input_tokens is not None else '?'} → {about}{self.output_tokens} tokens")
        if self.cost is not None:
            parts.append(f"${self.cost:.6f}")
        if self.finish_reason not in (None, "stop"):
            parts.append(str(self.finish_reason))
        return " · ".join(parts)

    def _repr_markdown_(self) -> str:
        fence = "~" * max(3, *(len(mark) + 1 for mark in _runs_of("~", self.output)))
        error = f"\n\n**error** {self.error}" if self.error else ""
        flags = f" · {', '.join(self.flags)}" if self.flags else ""
        sources = "".join(f"\n{number}. {source.name}" for number, source in enumerate(self.sources, 1))
        shown = f"{fence}text\n{self.output}\n{fence}\n\n<small>{self.facts()}{flags} · `{self.id}`</small>"
        return shown + (f"\n{sources}" if sources else "") + error


def _runs_of(mark: str, text: str) -> Iterable[str]:
    """Every run of `mark` in `text`, at least one of two marks, so that a fence can be longer than all of them."""
    yield mark * 2
    length = 0
    for character in text:
        length = length + 1 if character == mark else 0
        if length >= 3:
            yield mark * length


def hash_messages(messages: Iterable[Message]) -> str:
    """SHA-256 over the rendered messages: equal hashes mean the model was asked exactly the same."""
    plain = [[turn.role, turn.content] for turn in messages]
    return hashlib.sha256(json.dumps(plain, ensure_ascii=False).encode()).hexdigest()


def to_plain(value: Any) -> Any:
    """What JSON can hold of a value it cannot: a record as a mapping, anything else as its text. For `json.dumps(default=…)`."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return dict(value) if isinstance(value, Mapping) else str(value)


def new_id() -> str:
    """A fresh UUIDv7 (RFC 9562): 48 bits of Unix milliseconds, then random bits, so that ids sort by their making."""
    value = (time.time_ns() // 1_000_000) << 80 | 0x7 << 76 | secrets.randbits(12) << 64 | 0b10 << 62 | secrets.randbits(62)
    return str(uuid.UUID(int=value))


def now() -> datetime:
    """The present moment, in UTC with its zone."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class PromptVersion:
    """One immutable saved version of a prompt: the file `text`, who saved it, when, and why (`message`)."""

    id: str
    name: str
    version: int
    text: str
    sha256: str
    message: str
    author: str
    created_at: datetime


@dataclass(frozen=True)
class LabelMove:
    """A label (`staging`, `production`, …) set on a version; the newest move of a label is where it stands."""

    id: str
    name: str
    label: str
    version: int
    author: str
    created_at: datetime


@dataclass(frozen=True)
class Grid:
    """A batch of model calls: what was asked for (`spec`). Its cells are runs whose ids derive from the grid's."""

    id: str
    created_at: datetime
    participant: str
    spec: Mapping[str, Any]


@dataclass(frozen=True)
class OutboxItem:
    """Something the W&B projection has not sent yet: the record `record_id` of the kind `kind` (`run`, `grid`)."""

    position: int
    kind: str
    record_id: str
    created_at: datetime
    sent_at: datetime | None = None


@dataclass(frozen=True)
class Evaluation:
    """One measurement of something on a set of questions: what was asked for (`spec`), a row per question, and the summary with its n and intervals.

    `kind` says what was measured, such as `retrieval`.
    """

    id: str
    created_at: datetime
    participant: str
    kind: str
    spec: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    summary: Sequence[Mapping[str, Any]]
