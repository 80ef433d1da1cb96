"""Files the app hands to the browser."""

from __future__ import annotations

import secrets
from pathlib import Path

from gradio.utils import get_upload_folder


def offer(name: str, content: bytes) -> str:
    """Write `content` as a file called `name` into the folder Gradio serves from and empties, and give its path."""
    path = Path(get_upload_folder()) / secrets.token_hex(16) / Path(name).name
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return str(path)


def progress_bar(done: int, total: int, text: str) -> str:
    """An HTML bar with its numbers beside it. `text` is the app's own sentence, never a person's."""
    return f"<div class='progress'><progress value='{int(done)}' max='{max(int(total), 1)}'></progress><span>{text}</span></div>"
