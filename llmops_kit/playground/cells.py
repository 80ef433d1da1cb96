"""What a grid is made of: its plan (prompts × models × parameters × rows × repeats), its cells and their ids."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID, uuid5

from llmops_kit.errors import InvalidValue
from llmops_kit.playground import PARAMS
from llmops_kit.playground.asking import read_chat
from llmops_kit.playground.rows import RowTable, read_rows
from llmops_kit.playground.schema import check_schema
from llmops_kit.prompts import PromptLibrary, complete, find_variables
from llmops_kit.prompts.template import normalize_name
from llmops_kit.types import Message, Prompt, Variable

MAX_CELLS = 100_000
_PROMPT_FIELDS = ("name", "version", "text", "messages", "variables", "model", "params", "schema")


class Cell(NamedTuple):
    """One call of a grid: positions (from 0) in the plan's rows, prompts, params and models, and the repeat."""

    row: int
    repeat: int
    prompt: int
    params: int
    model: int


@dataclass(frozen=True)
class Plan:
    """Everything a grid asks for, pinned: prompt versions are resolved, rows and parameters are plain data."""

    prompts: tuple[Prompt, ...]
    models: tuple[str | None, ...]
    rows: tuple[Mapping[str, Any], ...] = ({},)
    params: tuple[Mapping[str, Any], ...] = ({},)
    repeats: int = 1
    shas: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shas", tuple(hash_prompt(prompt) for prompt in self.prompts))
        if self.repeats < 1:
            raise InvalidValue(name="repeats", value=self.repeats, allowed="≥ 1")
        if not 0 < self.total <= MAX_CELLS:
            raise InvalidValue(name="grid", value=f"{self.total:,} cells", allowed=f"1 – {MAX_CELLS:,} cells")

    @property
    def total(self) -> int:
        """Number of cells."""
        return len(self.prompts) * len(self.models) * len(self.rows) * len(self.params) * self.repeats

    def cells(self) -> Iterator[Cell]:
        """All cells, row by row: whatever is there when somebody stops compares every variant on the first rows."""
        sizes = (len(self.rows), self.repeats, len(self.prompts), len(self.params), len(self.models))
        return (Cell(*position) for position in product(*map(range, sizes)))

    def run_id(self, grid_id: str, cell: Cell, attempt: int) -> str:
        """The id of the Run of a cell's `attempt` (from 0): always the same one, so that nothing is stored twice."""
        key = [self.shas[cell.prompt], self.models[cell.model], self.params[cell.params], cell.row, cell.repeat, attempt]
        return str(uuid5(UUID(grid_id), json.dumps(key, sort_keys=True)))

    def call(self, cell: Cell) -> dict[str, Any]:
        """The keywords of `Playground.stream` for a cell. A seed grows by one with each repeat."""
        prompt, row, params = self.prompts[cell.prompt], self.rows[cell.row], dict(self.params[cell.params])
        seed = params.get("seed", prompt.params.get("seed"))
        if seed is not None:
            params["seed"] = int(seed) + cell.repeat
        names = self._blanks[cell.prompt]
        variables = {name: value for name, value in row.items() if normalize_name(name) in names}
        return {"model": self.models[cell.model], "variables": variables, **params}

    @cached_property
    def _blanks(self) -> tuple[frozenset[str], ...]:
        return tuple(frozenset(variable.name for variable in prompt.variables) for prompt in self.prompts)

    def spec(self) -> dict[str, Any]:
        """The plan as plain data for the store."""
        prompts = [prompt_to_spec(prompt) for prompt in self.prompts]
        plain = {
            "prompts": prompts,
            "models": self.models,
            "rows": [dict(row) for row in self.rows],
            "params": [dict(each) for each in self.params],
            "repeats": self.repeats,
        }
        return dict(json.loads(json.dumps(plain, ensure_ascii=False)))


def plan_from_spec(spec: Mapping[str, Any]) -> Plan:
    """The plan a stored grid was started with."""
    return Plan(
        prompts=tuple(prompt_from_spec(plain) for plain in spec["prompts"]),
        models=tuple(spec["models"]),
        rows=tuple(spec["rows"]),
        params=tuple(spec["params"]),
        repeats=spec["repeats"],
    )


def prompt_to_spec(prompt: Prompt) -> dict[str, Any]:
    """A prompt as plain data for the store, with the hash of all it asks."""
    plain = {name: value for name, value in dataclasses.asdict(prompt).items() if name in _PROMPT_FIELDS}
    return {**plain, "sha256": hash_prompt(prompt)}


def prompt_from_spec(plain: Mapping[str, Any]) -> Prompt:
    """The prompt that `prompt_to_spec` made plain data of."""
    known = {name: plain[name] for name in _PROMPT_FIELDS}
    known["messages"] = tuple(Message(**turn) for turn in known["messages"])
    known["variables"] = tuple(Variable(**{**blank, "options": tuple(blank["options"])}) for blank in known["variables"])
    return Prompt(**known)


def hash_prompt(prompt: Prompt) -> str:
    """SHA-256 of all that decides what a prompt asks: also for one that was never saved and has no file text."""
    parts = {name: value for name, value in dataclasses.asdict(prompt).items() if name in _PROMPT_FIELDS}
    return hashlib.sha256(json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str).encode()).hexdigest()


def plan_prompts(prompts: Any, library: PromptLibrary) -> tuple[Prompt, ...]:
    """`prompts` as a tuple of `Prompt`: a name, a `Prompt`, a chat (list of messages), or a list of any of them.

    A chat with `{{blanks}}` is a template like any other and is named `chat`.
    Raises: `UnknownName` for a name that is not in the library, `InvalidValue` for what is no prompt or no JSON schema.
    """
    several = [prompts] if isinstance(prompts, (str, Prompt)) or _is_chat(prompts) else list(prompts)
    found = [complete(_plan_prompt(each, library)) for each in several]
    for prompt in found:
        if prompt.schema is not None:
            check_schema("", prompt.schema)  # a wrong schema is said now, not after the last answer
    return tuple({hash_prompt(prompt): prompt for prompt in found}.values())


def _plan_prompt(prompt: Any, library: PromptLibrary) -> Prompt:
    if isinstance(prompt, Prompt):
        return prompt
    if isinstance(prompt, str):
        return library.get(prompt)
    if _is_chat(prompt):
        turns = read_chat(prompt)
        return Prompt(name="chat" if find_variables(turns) else "", messages=turns)
    raise InvalidValue(name="prompts", value=prompt, allowed="name, Prompt, list of messages")


def _is_chat(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and bool(value) and all(isinstance(turn, (Message, Mapping)) for turn in value)


def plan_models(models: Any) -> tuple[str | None, ...]:
    """`models` as a tuple of ids without repetition; None stands for the one each prompt suggests."""
    several = [models] if models is None or isinstance(models, str) else list(models)
    return tuple(dict.fromkeys(several))


def plan_params(params: Any) -> tuple[dict[str, Any], ...]:
    """`params` (None, a mapping or a list of mappings) as a tuple of mappings without repetition.

    Raises: `InvalidValue` for a parameter that does not exist.
    """
    several = [{}] if params is None else [params] if isinstance(params, Mapping) else list(params)
    for each in several:
        if not isinstance(each, Mapping):
            raise InvalidValue(name="params", value=each, allowed="{'temperature': 0.7, …}")
        if unknown := sorted(set(each) - set(PARAMS)):
            raise InvalidValue(name="params", value=", ".join(unknown), allowed=", ".join(PARAMS))
    plain = [{name: _plain(value) for name, value in each.items() if value is not None} for each in several]
    return tuple({json.dumps(each, sort_keys=True, default=list): each for each in plain}.values())


def plan_rows(rows: Any) -> tuple[Mapping[str, Any], ...]:
    """`rows` as plain mappings: None (one empty row), mappings, a DataFrame, a `RowTable`, or a file to read.

    Missing values (None, NaN) are left out of their row, so that a prompt's defaults apply.
    Raises: `InvalidValue` for anything else, `UnreadableFile` for the file.
    """
    if rows is None:
        return ({},)
    if isinstance(rows, (str, Path)):
        rows = read_rows(rows)
    if isinstance(rows, RowTable):
        rows = rows.rows
    elif isinstance(rows, Mapping):
        rows = [rows]
    elif hasattr(rows, "to_dict") and hasattr(rows, "columns"):
        rows = rows.to_dict("records")
    several = list(rows)
    for row in several:
        if not isinstance(row, Mapping):
            raise InvalidValue(name="rows", value=row, allowed="{'text': '…'}")
    return tuple({str(name): _plain(value) for name, value in row.items() if not _is_missing(value)} for row in several)


def _is_missing(value: Any) -> bool:
    # NaN, NaT and pandas' NA: the first two are not equal to themselves, the last refuses to say so.
    return value is None or type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and math.isnan(value))


def _plain(value: Any) -> Any:
    """A value of a row or a parameter as JSON can hold it: numbers of numpy as numbers, moments as ISO text."""
    if isinstance(value, (str, bool, int, float)):
        return value.item() if hasattr(value, "item") else value
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        return value.item()
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, Mapping) else str(value)
