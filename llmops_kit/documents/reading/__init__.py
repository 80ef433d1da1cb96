"""Reading files into pages of text, in a guarded child process: `Guard` is the door, `records` what comes back."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmops_kit.documents.reading.guard import Guard as Guard
    from llmops_kit.documents.reading.records import Limits as Limits
    from llmops_kit.documents.reading.records import PageFacts as PageFacts
    from llmops_kit.documents.reading.records import Reading as Reading
    from llmops_kit.documents.reading.records import ReadOptions as ReadOptions
    from llmops_kit.documents.reading.records import ReadPage as ReadPage
    from llmops_kit.documents.reading.records import Rendered as Rendered

# The child imports this package too; it needs only the module it asks for.
_HOMES = {
    "Guard": "guard",
    "Limits": "records",
    "PageFacts": "records",
    "ReadOptions": "records",
    "ReadPage": "records",
    "Reading": "records",
    "Rendered": "records",
}
__all__ = ["Guard", "Limits", "PageFacts", "ReadOptions", "ReadPage", "Reading", "Rendered"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
