"""The prompt library: plain-text files, typed blanks, immutable versions, moving labels, character-level differences."""

from __future__ import annotations

from llmops_kit.prompts.diff import Change, Diff, compare
from llmops_kit.prompts.file_format import check_name, decode, format, parse, read
from llmops_kit.prompts.library import PromptLibrary
from llmops_kit.prompts.template import complete, escape, example_values, find_variables, render

__all__ = [
    "Change",
    "Diff",
    "PromptLibrary",
    "check_name",
    "compare",
    "complete",
    "decode",
    "escape",
    "example_values",
    "find_variables",
    "format",
    "parse",
    "read",
    "render",
]
