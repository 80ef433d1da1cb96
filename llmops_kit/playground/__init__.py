"""The playground: one prompt on one model, streaming. Every model call of the kit goes through `stream`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llmops_kit.errors import InvalidValue, KitError, MissingVariable
from llmops_kit.types import Message, Prompt, Run, hash_messages, new_id, now

if TYPE_CHECKING:
    import pandas as pd

    from llmops_kit.models import Models
    from llmops_kit.prompts import PromptLibrary
    from llmops_kit.store import Store

PARAMS = ("temperature", "top_p", "top_k", "repetition_penalty", "max_tokens", "seed", "stop")
"""The parameters every provider understands, by the names every face uses."""

PromptLike = str | Prompt | Sequence[Message | Mapping[str, str]]


class Playground:
    """Runs prompts on models and appends one Run per call, whatever became of it."""

    def __init__(self, store: Store, models: Models, prompts: PromptLibrary, *, max_prompt_chars: int = 2_000_000) -> None:
        self._store = store
        self._models = models
        self.prompts = prompts
        self._max_prompt_chars = max_prompt_chars
        self._under_way: set[str] = set()

    def run(self, prompt: PromptLike, **call: Any) -> Run:
        """Run `prompt` to its end and give the finished Run. Takes the keywords of `stream` and raises what it raises."""
        *_, last = self.stream(prompt, **call)
        return last

    def stream(
        self,
        prompt: PromptLike,
        *,
        model: str | None = None,
        variables: Mapping[str, Any] | None = None,
        system: str | None = None,
        participant: str = "local",
        app: str = "playground",
        api_key: str | None = None,
        run_id: str | None = None,
        **params: Any,
    ) -> Iterator[Run]:
        """Run `prompt` and give the Run again and again while its answer grows; the last one is finished and stored.

        `prompt` is a library name, a `Prompt`, or a list of chat messages. `model` defaults to the one the prompt
        suggests, else `starter-lm`. `system` replaces the prompt's system message. `params` (see `PARAMS`) go over
        the prompt's, which go over the model's defaults. `api_key` is used for this call and kept nowhere.

        Closing the iterator stops the model within one token; the Run is then stored as `cancelled`. A failed call is
        stored too, with `error`, before its `KitError` is raised carrying that Run as `.run`.

        Where a model is stopped before it reports its token count, `output_tokens` is the number of pieces received.

        Raises:
            KitError: `UnknownName`, `MissingVariable`, `InvalidValue` for what was asked; a `ModelError` for what the model did.
        """
        asked = self._resolve(prompt)
        model = model or asked.model or "starter-lm"
        run = Run(
            id=run_id or new_id(),
            created_at=now(),
            participant=participant,
            app=app,
            model=model,
            messages=asked.messages,
            prompt_sha256=hash_messages(asked.messages),
            prompt_name=asked.name or None,
            prompt_version=asked.version or None,
            variables=dict(variables or {}),
            params={name: value for name, value in {**asked.params, **params}.items() if value is not None},
        )
        yield from self._record(run, asked, system=system, api_key=api_key)

    def grid(self, prompts: Any = None, models: Any = None, rows: Any = None, params: Any = None, **options: Any) -> pd.DataFrame:
        """Run prompts × models × parameters × rows × `repeats` and give a DataFrame, one row per call.

        See `llmops_kit.playground.grid.run_grid` for the options (`repeats`, `resume`, `progress`, `cancel`, `workers`).
        """
        from llmops_kit.playground.grid import run_grid

        return run_grid(self, self._store, prompts=prompts, models=models, rows=rows, params=params, **options)

    def history(self, *, participant: str | None = None, limit: int = 50) -> list[Run]:
        """The newest Runs first, of one participant or of all."""
        of_whom: dict[str, Any] = {"participant": participant} if participant else {}
        return self._store.find(Run, limit=limit, **of_whom)

    @property
    def under_way(self) -> int:
        """How many answers are being written at this moment."""
        return len(self._under_way)

    def get(self, run_id: str) -> Run | None:
        """The stored Run with this id."""
        return self._store.get(Run, run_id)

    def _resolve(self, prompt: PromptLike) -> Prompt:
        if isinstance(prompt, str):
            return self.prompts.get(prompt)
        if isinstance(prompt, Prompt):
            return prompt
        turns = tuple(turn if isinstance(turn, Message) else Message(turn["role"], turn["content"]) for turn in prompt)  # type: ignore[arg-type]
        if not any(turn.content.strip() for turn in turns):
            raise MissingVariable(prompt="chat", variable="message")
        return Prompt(name="", messages=turns)

    def _record(self, run: Run, asked: Prompt, *, system: str | None, api_key: str | None) -> Iterator[Run]:
        """Make the call and store its Run however it ends."""
        started = time.perf_counter()
        self._under_way.add(run.id)
        try:
            self._check_size(run)
            run = self._prepare(run, asked, system)
            for grown in self._answers(run, api_key, started):
                run = grown
                yield run
        except (GeneratorExit, KeyboardInterrupt):
            self._finish(replace(run, finish_reason="cancelled"), started)
            raise
        except KitError as error:
            error.run = self._finish(replace(run, finish_reason="error", error=str(error)), started)
            raise
        except Exception as bug:
            self._finish(replace(run, finish_reason="error", error=f"{type(bug).__name__}: {bug}"), started)
            raise
        yield self._finish(run, started)

    def _check_size(self, run: Run) -> None:
        size = sum(len(str(value)) for value in run.variables.values()) + sum(len(turn.content) for turn in run.messages)
        if size > self._max_prompt_chars:
            raise InvalidValue(name="text", value=f"{size:,} characters", allowed=f"≤ {self._max_prompt_chars:,} characters")

    def _prepare(self, run: Run, asked: Prompt, system: str | None) -> Run:
        if unknown := set(run.params) - set(PARAMS):
            raise InvalidValue(name="params", value=", ".join(sorted(unknown)), allowed=", ".join(PARAMS))
        messages = self.prompts.render(asked, run.variables) if asked.name else asked.messages
        if system is not None:
            messages = ((Message("system", system),) if system.strip() else ()) + tuple(turn for turn in messages if turn.role != "system")
        entry = self._models.get(run.model)
        params = {**{name: value for name, value in entry.default_params.items() if name in PARAMS and value is not None}, **run.params}
        return replace(run, messages=messages, prompt_sha256=hash_messages(messages), params=params, model_revision=entry.revision)

    def _answers(self, run: Run, api_key: str | None, started: float) -> Iterator[Run]:
        yield run  # what is asked can be shown while the model loads
        chat = self._models.chat(run.model, api_key=api_key)
        pieces: list[str] = []
        call = dict(run.params)
        stop = call.pop("stop", None)
        turns = [(turn.role, turn.content) for turn in run.messages]
        chunks: Any = chat.stream(turns, stop=[stop] if isinstance(stop, str) else stop, **call)
        with closing(chunks):
            for chunk in chunks:
                elapsed_s = time.perf_counter() - started
                run = replace(run, latency_s=elapsed_s)
                if chunk.text:
                    pieces.append(chunk.text)
                    ttft_s = elapsed_s if run.ttft_s is None else run.ttft_s
                    run = replace(run, output="".join(pieces), ttft_s=ttft_s, output_tokens=len(pieces))
                run = self._account(run, chunk.usage_metadata, chunk.response_metadata)
                yield run

    def _account(self, run: Run, usage: Mapping[str, Any] | None, reported: Mapping[str, Any]) -> Run:
        if usage:
            entry = self._models.get(run.model)
            cost = None
            if entry.price_in_per_mtok is not None and entry.price_out_per_mtok is not None:
                cost = (usage["input_tokens"] * entry.price_in_per_mtok + usage["output_tokens"] * entry.price_out_per_mtok) / 1_000_000
            run = replace(run, input_tokens=usage["input_tokens"], output_tokens=usage["output_tokens"], cost=cost)
        reason = reported.get("finish_reason")
        return replace(
            run,
            finish_reason=("length" if reason == "length" else "stop") if reason else run.finish_reason,
            model_revision=reported.get("model_revision") or reported.get("system_fingerprint") or run.model_revision,
        )

    def _finish(self, run: Run, started: float) -> Run:
        self._under_way.discard(run.id)
        if run.finish_reason is None:
            run = replace(run, finish_reason="stop")
        run = _clip(replace(run, latency_s=time.perf_counter() - started), self._max_prompt_chars)
        self._store.append(run, publish="run")
        return run


def _clip(run: Run, limit: int) -> Run:
    """Keep the first thousand characters of an input that was refused for its size: a record, not a second copy."""
    if sum(len(turn.content) for turn in run.messages) + sum(len(str(value)) for value in run.variables.values()) <= 2 * limit:
        return run
    short = {name: value if len(str(value)) <= 1000 else str(value)[:1000] + "…" for name, value in run.variables.items()}
    turns = tuple(replace(turn, content=turn.content[:1000] + "…") if len(turn.content) > 1000 else turn for turn in run.messages)
    return replace(run, variables=short, messages=turns)
