"""Files the app hands to the browser."""

from __future__ import annotations

import tempfile
from pathlib import Path


def offer(name: str, content: bytes) -> str:
    """Write `content` as a file called `name` where Gradio may serve it from, and give its path."""
    path = Path(tempfile.mkdtemp(prefix="llmops-kit-")) / Path(name).name
    path.write_bytes(content)
    return str(path)


def progress_bar(done: int, total: int, text: str) -> str:
    """An HTML bar with its numbers beside it. `text` is the app's own sentence, never a person's."""
    return f"<div class='progress'><progress value='{int(done)}' max='{max(int(total), 1)}'></progress><span>{text}</span></div>"
