"""How the app's events share the server: nothing quick ever waits behind a generation."""

from __future__ import annotations

from typing import Any

_UNSEEN: dict[str, Any] = {"show_progress": "hidden", "show_progress_on": []}
"""No part of the page shows that it waits. A hidden sign of it would still be redrawn at every frame of the screen, and go on for ever
where its part is taken away meanwhile: without a part to show it on, an idle page rests."""

QUICK: dict[str, Any] = {"concurrency_limit": None, **_UNSEEN}
"""Choosing, saving, stopping, listing: never in a line."""

GENERATION: dict[str, Any] = {"concurrency_limit": 64, "concurrency_id": "generation", **_UNSEEN}
"""Answers of all panes of all people."""

BATCH: dict[str, Any] = {"concurrency_limit": 20, "concurrency_id": "batch", **_UNSEEN}
"""Long work: grids and downloads."""
