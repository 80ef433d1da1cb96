"""What an answer looks like, apart from what it says: its length and how much Markdown it uses.

Longer answers with headings and lists win votes for that alone (Dubois et al. 2024, arXiv:2404.04475; LMSYS, "Does style matter?",
2024). With these as covariates the strengths are what is left when both answers look alike.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from llmops_kit.comparison.bradley_terry import Floats
from llmops_kit.types import Vote

COVARIATES = ("length", "lists", "headers", "bold")
_FENCED = re.compile(r"^(```|~~~).*?^\1[^\n]*$", re.MULTILINE | re.DOTALL)
_LIST = re.compile(r"^[ \t]*(?:(?:[-*+]|\d+[.)])[ \t]+|[・•][ \t]*)\S", re.MULTILINE)
_HEADER = re.compile(r"^#{1,6}\s+\S", re.MULTILINE)
_BOLD = re.compile(r"\*\*[^*\n]+\*\*|__[^_\n]+__")


def describe_style(text: str) -> tuple[float, float, float, float]:
    """ln(1 + count) of the characters, list entries, headings and bold passages of `text`; Markdown inside code blocks is no style."""
    prose = _FENCED.sub("", text)
    counts = len(text.strip()), len(_LIST.findall(prose)), len(_HEADER.findall(prose)), len(_BOLD.findall(prose))
    length, lists, headers, bold = np.log1p(counts)
    return float(length), float(lists), float(headers), float(bold)


def compare_styles(votes: Sequence[Vote], outputs: Mapping[str, str]) -> tuple[Floats, tuple[str, ...], int]:
    """For each vote the style of the left answer less that of the right one, divided by its standard deviation over the votes.

    Covariates that never differ are left out; the names of the others come second. Third: how many votes lack a text (they count as
    alike). The differences are not centred: 0 stays "both look alike".
    """
    blank = (0.0,) * len(COVARIATES)
    known = {run: describe_style(outputs[run]) for vote in votes for run in (vote.left_run, vote.right_run) if run in outputs}
    both = [vote.left_run in known and vote.right_run in known for vote in votes]
    pairs = [(known[vote.left_run], known[vote.right_run]) if there else (blank, blank) for vote, there in zip(votes, both, strict=True)]
    differences = np.array([[one - other for one, other in zip(*pair, strict=True)] for pair in pairs], np.float64).reshape(-1, len(COVARIATES))
    spread = np.sqrt((differences**2).mean(0)) if len(differences) else np.zeros(len(COVARIATES))
    kept = spread > 1e-9
    names = tuple(name for name, keep in zip(COVARIATES, kept, strict=True) if keep)
    return differences[:, kept] / spread[kept], names, len(both) - sum(both)
