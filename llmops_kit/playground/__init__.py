"""The playground: one prompt on one model, streaming. Every model call of the kit goes through `stream`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from llmops_kit.errors import InvalidValue, KitError, MissingVariable
from llmops_kit.playground.asking import PromptLike, clip_run, count_characters, read_prompt, read_variables
from llmops_kit.types import Message, Prompt, Run, Source, hash_messages, new_id, now

if TYPE_CHECKING:
    import threading

    import pandas as pd

    from llmops_kit.models import Models
    from llmops_kit.progress import Progress
    from llmops_kit.prompts import PromptLibrary
    from llmops_kit.store import Store

PARAMS = ("temperature", "top_p", "top_k", "repetition_penalty", "max_tokens", "seed", "stop")
"""The parameters every provider understands, by the names every face uses."""

TOKENS_ESTIMATED = "tokens_estimated"
"""The flag of a Run whose `output_tokens` are the pieces received, not what the model counted."""

_FIRST_MODEL = "starter-lm"


class Playground:
    """Runs prompts on models and appends one Run per call, whatever became of it."""

    def __init__(self, store: Store, models: Models, prompts: PromptLibrary, *, max_prompt_chars: int = 2_000_000) -> None:
        self._store = store
        self._models = models
        self.prompts = prompts
        self._max_prompt_chars = max_prompt_chars
        self._under_way: set[str] = set()

    def run(
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
        sources: Sequence[Source] = (),
        finish: Callable[[Run], Run] | None = None,
        item: str | None = None,
        variant: str | None = None,
        **params: Any,
    ) -> Run:
        """Run `prompt` to its end and give the finished Run, which is stored. The keywords and errors are those of `stream`.

        kit.playground.run("summarize", model="starter-lm", variables={"text": "…"}, temperature=0, max_tokens=80)
        """
        asked: dict[str, Any] = {"model": model, "variables": variables, "system": system, "sources": sources, "finish": finish, **params}
        asked |= {"item": item, "variant": variant}
        growing = self.stream(prompt, participant=participant, app=app, api_key=api_key, run_id=run_id, **asked)
        last = next(growing)
        for last in growing:  # noqa: B007 - the last one is what is wanted
            pass
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
        sources: Sequence[Source] = (),
        finish: Callable[[Run], Run] | None = None,
        item: str | None = None,
        variant: str | None = None,
        **params: Any,
    ) -> Iterator[Run]:
        """Run `prompt` and give the Run again and again while its answer grows; the last one is finished and stored.

        `prompt` is a library name, a `Prompt`, or a list of chat messages. `model` defaults to the one the prompt
        suggests, else `starter-lm`. `system` replaces the prompt's system message. `params` (`temperature`, `top_p`,
        `top_k`, `repetition_penalty`, `max_tokens`, `seed`, `stop`) go over the prompt's, which go over the model's
        defaults. `api_key` is used for this call and kept nowhere. `run_id` is the id the Run shall have. `sources` are the
        passages the answer is to rest on, kept with the Run. `finish` is given the Run once its answer is complete and
        gives back what is stored: with flags, a bare answer, a checked text. `item` and `variant` say whose answer to what it
        is in a comparison.

        Closing the iterator stops the model within one token; the Run is then stored as `cancelled`. A failed call is
        stored too, with `error`, before its `KitError` is raised carrying that Run as `.run`.

        Where a model reports no token count, as it is stopped before or its server never counts, `output_tokens` is the
        number of pieces received, `flags` has `tokens_estimated`, and `input_tokens` and `cost` are None.

        Raises:
            KitError: `UnknownName`, `MissingVariable`, `InvalidValue` for what was asked; a `ModelError` for what the model did.
        """
        run = Run(
            id=run_id or new_id(),
            created_at=now(),
            participant=participant,
            app=app,
            model=model or _FIRST_MODEL,
            messages=(),
            prompt_sha256=hash_messages(()),
            prompt_name=prompt if isinstance(prompt, str) else None,
            params={name: value for name, value in params.items() if value is not None},
            sources=tuple(sources),
            item=item,
            variant=variant,
        )
        yield from self._record(run, prompt, model=model, variables=variables, system=system, api_key=api_key, finish=finish)

    def grid(
        self,
        prompts: PromptLike | Sequence[PromptLike] | None = None,
        models: str | Sequence[str | None] | None = None,
        rows: Any = None,
        params: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        *,
        repeats: int | None = None,
        participant: str = "local",
        resume: str | None = None,
        cancel: threading.Event | None = None,
        workers: int = 8,
        api_keys: Mapping[str, str] | None = None,
        progress: Progress | Literal[False] | None = None,
    ) -> pd.DataFrame:
        """Run prompts × models × rows × params × `repeats` and give a DataFrame, one row per call.

        `prompts`: a library name, a `Prompt`, a chat, or a list of them. `models`: an id, a list, or None for the one
        each prompt suggests. `rows`: mappings, a DataFrame, a file (CSV, JSONL, XLSX), or None. `params`: a mapping or
        several; a `seed` grows by one with each of the `repeats` (1). `workers` calls run at a time. `api_keys` (by
        model id) are used and kept nowhere. `progress(done, total, seconds_left)` is called after each call; None
        draws a bar in a notebook or a terminal, False nothing. Setting `cancel`, or an interrupt, keeps what is done;
        `resume` is the id of a grid (`table.attrs["grid_id"]`) to go on with.

            kit.playground.grid("summarize", ["starter-lm"], [{"text": "…"}], [{"temperature": 0}, {"temperature": 1}])

        Raises:
            KitError: `UnknownName` for a prompt or grid, `InvalidValue` for anything else that does not serve,
                `WorkspaceError` for the disk. A call that fails is a row with an error.
        """
        from llmops_kit.playground.grid import run_grid

        asked: dict[str, Any] = {"prompts": prompts, "models": models, "rows": rows, "params": params, "repeats": repeats}
        how: dict[str, Any] = {"participant": participant, "resume": resume, "cancel": cancel, "workers": workers, "api_keys": api_keys}
        return run_grid(self, self._store, progress=progress, **asked, **how)

    def history(self, *, participant: str | Sequence[str] | None = None, limit: int = 50) -> list[Run]:
        """The newest Runs first: of one participant, of any of several, or (None) of all."""
        of_whom: dict[str, Any] = {} if participant is None else {"participant": participant if isinstance(participant, str) else list(participant)}
        return self._store.find(Run, limit=limit, **of_whom)

    @property
    def under_way(self) -> int:
        """How many answers are being written at this moment."""
        return len(self._under_way)

    def get(self, run_id: str) -> Run | None:
        """The stored Run with this id."""
        return self._store.get(Run, run_id)

    def _record(
        self,
        run: Run,
        prompt: PromptLike,
        *,
        model: str | None,
        variables: Mapping[str, Any] | None,
        system: str | None,
        api_key: str | None,
        finish: Callable[[Run], Run] | None,
    ) -> Iterator[Run]:
        """Make the call and store its Run however it ends."""
        started = time.perf_counter()
        self._under_way.add(run.id)
        try:
            run = replace(run, variables=read_variables(variables))
            asked = read_prompt(prompt, self.prompts)
            run = _describe(run, asked, model)
            self._check(run, asked)
            run = self._prepare(run, asked, system)
            for grown in self._answers(run, api_key, started):
                run = grown
                yield run
            run = finish(run) if finish is not None else run
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

    def _check(self, run: Run, asked: Prompt) -> None:
        """Refuse what is too large, an empty chat, and parameters that do not exist."""
        if (size := count_characters(run)) > self._max_prompt_chars:
            raise InvalidValue(name="text", value=f"{size:,} characters", allowed=f"≤ {self._max_prompt_chars:,} characters")
        if not asked.name and not any(turn.content.strip() for turn in asked.messages):
            raise MissingVariable(prompt="chat", variable="message")
        if unknown := set(run.params) - set(PARAMS):
            raise InvalidValue(name="params", value=", ".join(sorted(unknown)), allowed=", ".join(PARAMS))

    def _prepare(self, run: Run, asked: Prompt, system: str | None) -> Run:
        messages = self.prompts.render(asked, run.variables) if asked.name else asked.messages
        if system is not None:
            messages = ((Message("system", system),) if system.strip() else ()) + tuple(turn for turn in messages if turn.role != "system")
        entry = self._models.get(run.model)
        params = {**{name: value for name, value in entry.default_params.items() if name in PARAMS and value is not None}, **run.params}
        return replace(run, messages=messages, prompt_sha256=hash_messages(messages), params=params, model_revision=entry.revision)

    def _answers(self, run: Run, api_key: str | None, started: float) -> Iterator[Run]:
        yield run  # what is asked can be shown while the model loads
        chat = self._models.chat(run.model, api_key=api_key, owner=name_owner(run.participant, run.app))
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
            finish_reason=(reason if reason in ("length", "content_filter") else "stop") if reason else run.finish_reason,
            model_revision=reported.get("model_revision") or reported.get("system_fingerprint") or run.model_revision,
        )

    def _finish(self, run: Run, started: float) -> Run:
        self._under_way.discard(run.id)
        if run.finish_reason is None:
            run = replace(run, finish_reason="stop")
        if run.output_tokens is not None and run.input_tokens is None:
            run = replace(run, flags=(*run.flags, TOKENS_ESTIMATED))
        run = clip_run(replace(run, latency_s=time.perf_counter() - started), self._max_prompt_chars)
        self._store.append(run, publish="run")
        return run


def name_owner(participant: str, app: str) -> str:
    """In whose name a model is asked: a person's grids stand in another line than their single questions, which they do not hold up."""
    kind = app.partition(":")[0]
    return participant if kind == "playground" else f"{participant} {kind}"


def _describe(run: Run, asked: Prompt, model: str | None) -> Run:
    """The Run with what the prompt says of itself: name, version, messages, its model and parameters under those of the call."""
    return replace(
        run,
        model=model or asked.model or _FIRST_MODEL,
        messages=asked.messages,
        prompt_sha256=hash_messages(asked.messages),
        prompt_name=asked.name or None,
        prompt_version=asked.version or None,
        params={**{name: value for name, value in asked.params.items() if value is not None}, **run.params},
    )
