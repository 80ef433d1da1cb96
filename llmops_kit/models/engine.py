"""The local engine: token ids in, text pieces out, one request at a time per caller.

`Engine` is the seam: whatever batches many requests on one model later stands behind the same protocol.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from llmops_kit.errors import InvalidValue, ModelRefused, PromptTooLong
from llmops_kit.models.control_tokens import find_control_tokens
from llmops_kit.models.decoding import Detokenizer, TextFilter
from llmops_kit.types import Message

if TYPE_CHECKING:
    import torch

    from llmops_kit.models.loading import LoadedModel

_GREEDY_BELOW = 1e-5  # a temperature this low is greedy decoding; dividing by it would overflow


@dataclass(frozen=True, kw_only=True)
class GenerationRequest:
    """One answer wanted: the rendered prompt as token ids, and how to sample.

    `temperature` 0 is greedy decoding; `top_k` 0 and `top_p` 1 leave every token in; `seed` None draws one.
    `shrink` lets the answer be shorter than `max_tokens` where the context leaves less room.
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


@dataclass(frozen=True, slots=True)
class Delta:
    """One step of an answer: the text it made visible, which is empty while a character is unfinished.

    The last one carries a `finish_reason`; `output_tokens` counts the tokens so far, the ending token included.
    """

    text: str
    output_tokens: int
    finish_reason: Literal["stop", "length"] | None = None


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
        """Answer, one `Delta` per token. Closing the iterator ends the work before the next token.

        Raises:
            PromptTooLong: at once, before any work, where prompt and answer do not fit the context.
            InvalidValue: at once, where the prompt has no tokens.
            ModelRefused: the weights compute no finite numbers.
        """
        ...


class LocalEngine:
    """Decodes each request in the thread that reads it, with an attention cache of its own.

    Requests share nothing but the weights, so they run side by side without disturbing each other's random numbers.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded
        self._stop_ids = _find_stop_ids(loaded.model, loaded.tokenizer)
        self._special_ids = find_control_tokens(loaded.tokenizer)
        self._extra = {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(loaded.model.forward).parameters else {}

    @property
    def revision(self) -> str | None:
        """Which version of the weights answers."""
        return self._loaded.revision

    @property
    def context_tokens(self) -> int:
        """How many tokens prompt and answer may have together: the entry's word, at most the weights' own limit."""
        own = getattr(self._loaded.model.config, "max_position_embeddings", None)
        return min(self._loaded.entry.context_tokens, own) if isinstance(own, int) and own > 0 else self._loaded.entry.context_tokens

    def render(self, messages: Sequence[Message]) -> list[int]:
        """The token ids of a conversation in the model's prompt format."""
        return list(self._loaded.render(messages))

    def encode(self, text: str) -> list[int]:
        """The token ids of a bare text, without any the tokenizer would add."""
        return list(self._loaded.tokenizer.encode(text, add_special_tokens=False))

    def stream(self, request: GenerationRequest) -> Iterator[Delta]:
        """Answer, one `Delta` per token. Closing the iterator ends the work before the next token.

        Raises:
            PromptTooLong: at once, before any work, where prompt and answer do not fit the context.
            InvalidValue: at once, where the prompt has no tokens.
            ModelRefused: the weights compute no finite numbers.
        """
        return self._decode(request, max_tokens=self._fit(request))

    def _fit(self, request: GenerationRequest) -> int:
        """The tokens the answer may have."""
        if not request.prompt_ids:
            raise InvalidValue(en="The prompt is empty. Write something first.", ja="プロンプトが空です。何か入力してください。", name="messages", value="")
        room = self.context_tokens - len(request.prompt_ids)
        if room >= request.max_tokens:
            return request.max_tokens
        if request.shrink and room > 0:
            return room
        raise PromptTooLong(
            model=self._loaded.entry.id,
            prompt_tokens=len(request.prompt_ids),
            max_tokens=request.max_tokens,
            context_tokens=self.context_tokens,
        )

    def _decode(self, request: GenerationRequest, *, max_tokens: int) -> Iterator[Delta]:
        entry = self._loaded.entry
        sampler = Sampler(request)
        characters = Detokenizer(self._loaded.tokenizer)
        shown = TextFilter(request.stop, newline_token=entry.newline_token, strip_leading_newline=entry.strip_leading_newline)
        stop_ids = self._stop_ids | {self._special_ids[stop] for stop in request.stop if stop in self._special_ids}
        unread: Sequence[int] = request.prompt_ids
        cache: Any = None
        for count in range(1, max_tokens + 1):
            logits, cache = self._step(unread, cache)
            token = sampler.pick(logits)
            if token in stop_ids:
                yield Delta(shown.finish(), count, "stop")
                return
            text = shown.push(characters.push(token))
            if shown.stopped:
                yield Delta(text, count, "stop")
                return
            if count == max_tokens:
                yield Delta(text + shown.finish(), count, "length")
                return
            yield Delta(text, count)
            unread = (token,)

    def _step(self, unread: Sequence[int], cache: Any) -> tuple[torch.Tensor, Any]:
        """Read `unread` after what `cache` holds: the logits of the next token, in float32 on the CPU, and the cache."""
        import torch

        with torch.inference_mode():  # never across a yield: the mode belongs to the thread, not to this generator
            ids = torch.tensor([list(unread)], device=self._loaded.device)
            output = self._loaded.model(input_ids=ids, past_key_values=cache, use_cache=True, **self._extra)
            logits = output.logits[0, -1].float().cpu()
        if not torch.isfinite(logits.max()):
            raise ModelRefused(
                en=f"The model “{self._loaded.entry.id}” was refused: its weights give numbers that are not finite (NaN). Load or train it again.",
                ja=f"モデル「{self._loaded.entry.id}」は使えません：重みの計算結果が有限の数になりません（NaN）。読み込みまたは学習をやり直してください。",
                model=self._loaded.entry.id,
                reason="not finite",
            )
        return logits, output.past_key_values


class Sampler:
    """Picks one token after the other as the request asks, with random numbers of its own.

    In the order transformers uses: repetition penalty over prompt and answer (Keskar et al. 2019, CTRL), temperature,
    top-k, then the nucleus top-p (Holtzman et al. 2020).
    """

    def __init__(self, request: GenerationRequest) -> None:
        import torch

        self._request = request
        self._seen = torch.tensor(sorted(set(request.prompt_ids)), dtype=torch.long)
        self._random = torch.Generator()
        if request.seed is None:
            self._random.seed()
        else:
            self._random.manual_seed(request.seed)

    def pick(self, logits: torch.Tensor) -> int:
        """The next token, given the logits of the whole vocabulary."""
        import torch

        request = self._request
        if request.repetition_penalty != 1.0:
            logits = logits.clone()
            seen = logits[self._seen]
            logits[self._seen] = torch.where(seen < 0, seen * request.repetition_penalty, seen / request.repetition_penalty)
        token = int(logits.argmax()) if request.temperature < _GREEDY_BELOW else self._draw(logits)
        if request.repetition_penalty != 1.0 and not bool((self._seen == token).any()):
            self._seen = torch.cat([self._seen, torch.tensor([token])])
        return token

    def _draw(self, logits: torch.Tensor) -> int:
        import torch

        request = self._request
        scaled = (logits - logits.max()) / request.temperature
        candidates: torch.Tensor | None = None
        if request.top_k:
            scaled, candidates = scaled.topk(min(request.top_k, scaled.numel()))
        if request.top_p < 1.0:
            scaled, order = scaled.sort(descending=True)
            candidates = order if candidates is None else candidates[order]
            before = scaled.softmax(-1).cumsum(-1).roll(1)
            before[0] = 0.0
            scaled = scaled.masked_fill(before >= request.top_p, -torch.inf)
        place = int(torch.multinomial(scaled.softmax(-1), 1, generator=self._random))
        return place if candidates is None else int(candidates[place])


def _find_stop_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """The ids at which an answer ends, from the tokenizer and from the generation settings kept with the weights."""
    ids = {tokenizer.eos_token_id}
    for config in (getattr(model, "generation_config", None), getattr(model, "config", None)):
        end = getattr(config, "eos_token_id", None)
        ids |= set(end) if isinstance(end, list | tuple) else {end}
    return frozenset(number for number in ids if number is not None)
