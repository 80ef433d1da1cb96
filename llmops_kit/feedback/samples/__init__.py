"""Answers of two invented assistants to the same questions, in Japanese and English, good and bad ones: to try rating with."""

from __future__ import annotations

from pathlib import Path

ANSWERS = Path(__file__).parent / "answers.csv"
"""Columns `item`, `prompt`, `answer_asagi`, `answer_konjo`, `tags`, for `kit.feedback.create(path=…)`."""
