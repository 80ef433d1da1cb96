"""How the app's events share the server: nothing quick ever waits behind a generation."""

from __future__ import annotations

from typing import Any

QUICK: dict[str, Any] = {"concurrency_limit": None, "show_progress": "hidden"}
"""Choosing, saving, stopping, listing: never in a line."""

GENERATION: dict[str, Any] = {"concurrency_limit": 64, "concurrency_id": "generation", "show_progress": "hidden"}
"""Answers of all panes of all people."""

BATCH: dict[str, Any] = {"concurrency_limit": 20, "concurrency_id": "batch", "show_progress": "hidden"}
"""Long work: grids and downloads."""
