"""Six small documents of an invented company, in Japanese and English, and questions about them: to try everything with."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
QUESTIONS = FOLDER / "questions.yaml"
"""Questions with their answers and passages, for `kit.documents.evaluate`."""
_KINDS = (".md", ".txt", ".html", ".csv", ".pdf")


def sample_files() -> list[Path]:
    """The documents, in the order of their names."""
    return sorted(path for path in FOLDER.iterdir() if path.suffix in _KINDS)
