"""The lines of Python behind rating, campaigns, agreement and exports."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_kit.ui.code import opening

if TYPE_CHECKING:
    from llmops_kit.feedback.tasks import Task

_SOME: dict[str, Any] = {"boolean": True, "text": "…"}


def rate_code(workspace: Path, task: Task) -> str:
    """Code that takes the next task of a campaign, rates it as an example would, and reads what was said."""
    if task.kind == "pairwise":
        given: Any = "A"
    elif task.kind == "ranking":
        given = "ABCDEF"[: len(task.runs)]
    else:
        criteria = task.rubric.criteria
        asked = [each for each in criteria if each.required] or criteria[:1]
        given = {each.name: _example(each) for each in asked}
    first = f"task = kit.feedback.next({task.campaign_id!r}, rater='me')\n"
    return f"{opening(workspace)}{first}kit.feedback.submit(task, {given!r}, comment='…')\nkit.feedback.table(campaign={task.campaign_id!r})\n"


def campaign_code(workspace: Path, name: str, **options: Any) -> str:
    """Code that makes a campaign and lists all. Options that are unset are left out."""
    settings = "".join(f", {key}={value!r}" for key, value in options.items() if value not in (None, "", [], ()))
    return f"{opening(workspace)}campaign = kit.feedback.create({name!r}{settings})\nkit.feedback.campaigns()\n"


def close_code(workspace: Path, campaign: str) -> str:
    """Code that says how far a campaign is and closes it."""
    return f"{opening(workspace)}kit.feedback.progress({campaign!r})\nartifact = kit.feedback.close({campaign!r})\nartifact\n"


def agreement_code(workspace: Path, campaign: str | None, criterion: str | None) -> str:
    """Code that measures agreement and lists what people disagree on."""
    options = _options(campaign=campaign, criterion=criterion)
    return f"{opening(workspace)}agreement = kit.feedback.agreement({options})\nagreement\nkit.feedback.disagreements({options})\n"


def export_code(workspace: Path, kind: str, file: str, **options: Any) -> str:
    """Code that writes what people said to a file and sends it to W&B."""
    settings = _options(**options)
    return f"{opening(workspace)}report = kit.feedback.export({kind!r}, {file!r}{', ' + settings if settings else ''})\nreport\nkit.tracking.sync()\n"


def _example(criterion: Any) -> Any:
    if criterion.name == "thumb":
        return 1
    if criterion.options:
        return criterion.options[0]
    if criterion.type in ("ordinal", "number"):
        high = criterion.maximum if criterion.maximum is not None else criterion.minimum
        return 1 if high is None else int(high) if float(high).is_integer() else high
    return _SOME.get(criterion.type, "…")


def _options(**options: Any) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in options.items() if value is not None)


def shown_ids(ids: Sequence[str]) -> list[str]:
    """Ids as code shows them: all, or the first five of many."""
    return list(ids) if len(ids) <= 5 else [*ids[:5], "…"]
