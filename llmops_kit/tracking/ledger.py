"""The kit's own note beside W&B's folders: the run's id, and which folders it made when."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path

from llmops_kit.types import now


@dataclass(frozen=True)
class Entry:
    """A run folder: when it was opened, whether it goes to a server, and whether it was closed, or checked after a kill."""

    started: str
    online: bool = False
    finished: bool = False


@dataclass(frozen=True)
class Ledger:
    """The W&B run of a workspace (`run_id`, the same for all its folders) and the folders by name."""

    run_id: str = ""
    sessions: Mapping[str, Entry] = field(default_factory=dict)

    @property
    def unclean(self) -> bool:
        """Whether a folder was left open by a process that was killed."""
        return any(not entry.finished for entry in self.sessions.values())

    def since(self, folder: Path) -> datetime | None:
        """From when on what was sent must be in the folders that are there; None: nothing is expected in them.

        Folders a person took away (`wandb clean` after a sync) are not missed.
        """
        started = [entry.started for name, entry in self.sessions.items() if (folder / name).is_dir()]
        return datetime.fromisoformat(min(started)) if started else None

    def opened(self, name: str, *, online: bool) -> Ledger:
        """With one more folder, open."""
        return replace(self, sessions={**self.sessions, name: Entry(now().isoformat(), online)})

    def closed(self, name: str) -> Ledger:
        """With that folder closed."""
        return replace(self, sessions={**self.sessions, name: replace(self.sessions[name], finished=True)})


def new_ledger() -> Ledger:
    """A ledger with an id of its own, which says nothing of the machine or the person."""
    return Ledger(f"kit-{secrets.token_hex(4)}")


def load_ledger(folder: Path) -> Ledger | None:
    """The ledger in `folder`; None where there is none or it is damaged."""
    try:
        plain = json.loads((folder / "kit.json").read_text(encoding="utf-8"))
        return Ledger(plain["run_id"], {name: Entry(**entry) for name, entry in plain["sessions"].items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def save_ledger(ledger: Ledger, folder: Path) -> None:
    """Write the ledger whole or not at all. Raises `OSError`."""
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / "kit.json.new"
    draft.write_text(json.dumps(asdict(ledger), indent=1), encoding="utf-8")
    draft.replace(folder / "kit.json")
