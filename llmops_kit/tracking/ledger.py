"""The kit's own note beside W&B's folders: the run's id, which folders it made when, and which of them a server has."""

from __future__ import annotations

import json
import secrets
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path

from llmops_kit.types import now


@dataclass(frozen=True)
class Entry:
    """A run folder: when it was opened, and whether it was closed, or checked after a kill.

    `records` is how many records of each kind it holds, `uploaded` whether a server has them. `online`: W&B itself sent it to one while
    it was written, as it did in earlier versions of the kit.
    """

    started: str
    online: bool = False
    finished: bool = False
    uploaded: bool = False
    records: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Ledger:
    """The W&B run of a workspace (`run_id`, the same for all its folders) and the folders by name.

    `step` is the highest one there ever was, `layout` a hash of all tables' columns, `linked` the artifacts W&B knows to be used.
    """

    run_id: str = ""
    sessions: Mapping[str, Entry] = field(default_factory=dict)
    step: int = -1
    layout: str = ""
    linked: tuple[str, ...] = ()

    @property
    def unclean(self) -> bool:
        """Whether a folder was left open by a process that was killed."""
        return any(not entry.finished for entry in self.sessions.values())

    def expects(self, folder: Path) -> Callable[[datetime], bool]:
        """Whether what was sent at a moment must be in the folders that are there.

        Folders a person took away (`wandb clean` after a sync) are not missed, nor is what a server has.
        """
        ordered = sorted((entry.started, name) for name, entry in self.sessions.items())
        starts = [datetime.fromisoformat(started) for started, _ in ordered]
        missed = [(folder / name).is_dir() and not self.sessions[name].uploaded for _, name in ordered]

        def expected(moment: datetime) -> bool:
            place = bisect_right(starts, moment)
            return place > 0 and missed[place - 1]

        return expected

    def behind(self, folder: Path) -> dict[str, Entry]:
        """The folders that are there and that no server has, oldest first. Who syncs by hand leaves W&B's own mark in them."""
        found = {name: entry for name, entry in self.sessions.items() if not entry.uploaded and not (entry.online and entry.finished)}
        return {name: found[name] for name in sorted(found, key=lambda name: found[name].started) if _is_behind(folder / name)}

    def opened(self, name: str, *, online: bool = False) -> Ledger:
        """With one more folder, open."""
        return replace(self, sessions={**self.sessions, name: Entry(now().isoformat(), online)})

    def changed(self, name: str, **values: object) -> Ledger:
        """With these values of a folder's entry changed."""
        return replace(self, sessions={**self.sessions, name: replace(self.sessions[name], **values)})  # type: ignore[arg-type]


def new_ledger(layout: str = "") -> Ledger:
    """A ledger with an id of its own, which says nothing of the machine or the person."""
    return Ledger(f"kit-{secrets.token_hex(4)}", layout=layout)


def load_ledger(folder: Path) -> Ledger | None:
    """The ledger in `folder`; None where there is none or it is damaged."""
    try:
        plain = json.loads((folder / "kit.json").read_text(encoding="utf-8"))
        sessions = {name: Entry(**entry) for name, entry in plain.pop("sessions").items()}
        return Ledger(**{**plain, "sessions": sessions, "linked": tuple(plain.get("linked", ()))})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def save_ledger(ledger: Ledger, folder: Path) -> None:
    """Write the ledger whole or not at all. Raises `OSError`."""
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / "kit.json.new"
    draft.write_text(json.dumps(asdict(ledger), indent=1), encoding="utf-8")
    draft.replace(folder / "kit.json")


def _is_behind(session: Path) -> bool:
    return session.is_dir() and not any(session.glob("run-*.wandb.synced"))
