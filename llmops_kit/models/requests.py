"""What the local engine is asked and what it gives back: plain values, free of any library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, kw_only=True)
class GenerationRequest:
    """One answer wanted: the rendered prompt as token ids, and how to sample.

    `temperature` 0 is greedy decoding; `top_k` 0 and `top_p` 1 leave every token in; `seed` None draws one.
    `shrink` lets the answer be shorter than `max_tokens` where the context leaves less room. `owner` names who asks:
    places in the batch are shared out evenly between owners. `adapter` names a loaded LoRA adapter. `timeout_s` counts
    from the asking, waiting included; None means the engine's own limit.
    """

    prompt_ids: tuple[int, ...]
    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    shrink: bool = False
    owner: str = ""
    adapter: str | None = None
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class Delta:
    """One step of an answer: the text it made visible, which is empty while a character is unfinished.

    The last one carries a `finish_reason`; `output_tokens` counts the tokens so far, the ending token included.
    """

    text: str
    output_tokens: int
    finish_reason: FinishReason | None = None


@dataclass(frozen=True, kw_only=True)
class ScoreRequest:
    """A continuation to be judged: how likely it is after the prompt, in the eyes of the model (with `adapter`, if one is named)."""

    prompt_ids: tuple[int, ...]
    continuation_ids: tuple[int, ...]
    adapter: str | None = None


@dataclass(frozen=True)
class Score:
    """Natural-log probabilities of a continuation's tokens, and whether greedy decoding would have written just them."""

    token_logprobs: tuple[float, ...]
    is_greedy: bool

    @property
    def logprob(self) -> float:
        """Log probability of the whole continuation."""
        return sum(self.token_logprobs)


@dataclass(frozen=True)
class QueuePlace:
    """Where somebody's next request stands: how many are served before it (0: it is next), and for about how long it waits, in seconds if known."""

    position: int
    expected_wait_s: float | None


@dataclass(frozen=True)
class EngineLoad:
    """How busy an engine is: answers being written, requests waiting, places in the batch, and tokens a second over the last seconds."""

    running: int
    waiting: int
    slots: int
    tokens_per_s: float


@dataclass(frozen=True)
class EngineLimits:
    """What an engine may use: places in the batch, requests that wait, seconds per answer, and megabytes of attention cache.

    `prefill_tokens` prompt tokens are read between two steps of those who are being answered already: more of them
    let a newcomer start earlier and make the others wait longer for their next token. `threads` 0 are as many as there are cores.
    """

    slots: int = 128
    waiting: int = 1000
    timeout_s: float = 600.0
    cache_mb: float = 1024.0
    prefill_tokens: int = 512
    threads: int = 0
