"""Whose answer to what: the item that a Run answers and the name of what answered, the same wherever answers are compared or rated."""

from __future__ import annotations

import hashlib
import json

from llmops_kit.types import Run


def item_of(run: Run) -> str:
    """The item a Run answers, the same for all answers to it and different between comparisons: `<app>:<item>`.

    Of an import `import:<item>:<hash of what was asked>`: the ids 1, 2, 3 … of two files are those of different questions.
    A Run outside a comparison answers what it was asked: its item is a hash of the prompt's name and variables, or of the messages
    without the system's, so that two models asked the same thing can be put beside each other.
    """
    if run.item is not None:
        return f"{run.app}:{run.item}:{run.prompt_sha256[:8]}" if run.app == "import" else f"{run.app}:{run.item}"
    turns = [[turn.role, turn.content] for turn in run.messages if turn.role != "system"]
    asked = [run.prompt_name, dict(run.variables)] if run.variables else turns
    return f"{run.app}:{hashlib.sha256(json.dumps(asked, sort_keys=True, ensure_ascii=False, default=str).encode('utf-8', 'replace')).hexdigest()[:16]}"


def variant_of(run: Run) -> str:
    """The name of what answered: the variant of a comparison, else the model, with `+docs` where it had sources."""
    return run.variant or run.model + ("+docs" if run.sources else "")


def is_usable(run: Run) -> bool:
    """Whether a Run can be judged: finished, without an error, and not empty."""
    return run.error is None and run.finish_reason not in (None, "cancelled", "error") and bool(run.output.strip())
