"""The lines of Python behind the Compare tab: what its code drawers show, and what the tests run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmops_kit.ui.code import opening


def duel_code(workspace: Path, comparison: str | None) -> str:
    """Code of one vote: the pair that needs it most, without names, then the choice."""
    scope = f"{comparison!r}, " if comparison else ""
    lines = (f"pair = kit.comparison.pairs({scope}n=1)[0]", "print(pair.left.output, pair.right.output, sep='\\n---\\n')")
    return opening(workspace) + "\n".join((*lines, 'vote = kit.comparison.vote(pair, "A")  # or "B", "tie", "both_bad"', "vote\n"))


def side_code(workspace: Path, prompt: str, variants: Sequence[Mapping[str, Any]], variables: Mapping[str, Any], *, version: str | None = None) -> str:
    """Code of one question to several variants at once."""
    call = f"{_prompt(prompt, version)}, {_variants(variants)}, variables={dict(variables)!r}"
    return f"{_opening(workspace, variants)}answers = kit.comparison.run({call})\nanswers\n"


def batch_code(
    workspace: Path, prompt: str, variants: Sequence[Mapping[str, Any]], *, version: str | None = None, rows: str, baseline: str | None = None
) -> str:
    """Code of a test set on several variants; `rows` are lines that make the variable `rows`."""
    told = f", baseline={baseline!r}" if baseline else ""
    head = _opening(workspace, variants)
    if "read_rows(" in rows:
        head = head.replace("\n\n", "\nfrom llmops_kit.playground.rows import read_rows\n\n", 1)
    call = f"{_prompt(prompt, version)}, {_variants(variants)}, rows{told}"
    return f"{head}{rows}table = kit.comparison.batch({call})\ntable\n"


def deltas_code(workspace: Path, comparison: str, baseline: str | None) -> str:
    """Code that gives the table of an earlier comparison, and how its variants differ from the baseline."""
    told = f", baseline={baseline!r}" if baseline else ""
    return f"{opening(workspace)}table = kit.comparison.table({comparison!r})\ndeltas = kit.comparison.deltas({comparison!r}{told})\ndeltas\n"


def ranking_code(workspace: Path, comparison_id: str | None = None, **options: Any) -> str:
    """Code of a ranking. Options that are as usual are left out."""
    told = [repr(comparison_id)] if comparison_id else []
    told += [f"{name}={value!r}" for name, value in options.items() if value not in (None, "", False, 0)]
    return f"{opening(workspace)}ranking = kit.comparison.ranking({', '.join(told)})\nprint(ranking.verdict['en'])\nranking.table\n"


def _opening(workspace: Path, variants: Sequence[Mapping[str, Any]]) -> str:
    head = opening(workspace)
    return head if all(set(each) == {"model"} for each in variants) else head.replace("\n\n", "\nfrom llmops_kit.comparison import Variant\n\n", 1)


def _prompt(name: str, version: str | None) -> str:
    if not version or version == "latest":
        return repr(name)
    which = f"version={int(version)}" if str(version).isdecimal() else f"label={version!r}"
    return f"kit.prompts.get({name!r}, {which})"


def _variants(variants: Sequence[Mapping[str, Any]]) -> str:
    """Plain models by their ids, else each as a `Variant`."""
    if all(set(each) == {"model"} for each in variants):
        return repr([each["model"] for each in variants])
    return f"[{', '.join(_variant(each) for each in variants)}]"


def _variant(given: Mapping[str, Any]) -> str:
    prompt = {"prompt": _prompt(*given["prompt"])} if given.get("prompt") else {}
    told = {name: repr(value) for name, value in given.items() if name not in ("model", "prompt") and value not in (None, "", {})} | prompt
    return f"Variant({', '.join([repr(given['model']), *(f'{name}={value}' for name, value in told.items())])})"
