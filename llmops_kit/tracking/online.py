"""What needs the W&B server: to upload the folders that it does not have, and to tell it which artifact rests on which.

Both may be cut off at any point and done again; neither is done offline.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from llmops_kit.tracking.outbox import as_tracking_error
from llmops_kit.tracking.relay import Relay
from llmops_kit.tracking.upload import upload
from llmops_kit.types import Artifact, OutboxItem

_log = logging.getLogger(__name__)


def upload_folders(relay: Relay, stop: Callable[[], bool]) -> None:
    """Close the open folder and upload all that the server does not have, oldest first, until `stop` says so.

    Raises `TrackingError` where anything is left.
    """
    ledger = relay.ledger
    if ledger is None or not (relay.is_open or ledger.behind(relay.folder)):
        return
    relay.prepare()
    relay.finish()
    behind = [relay.folder / name for name in relay.ledger.behind(relay.folder)] if relay.ledger else []
    with as_tracking_error():
        upload(relay.folder, behind, _address(relay), done=lambda session: relay.note(session.name, uploaded=True), stop=stop)


def link_inputs(relay: Relay) -> None:
    """Tell the server of each artifact that another one rests on, if both were sent. Raises `TrackingError`."""
    ledger = relay.ledger
    artifacts = relay.store.values(Artifact, ("id", "name", "version", "inputs"))
    outbox = relay.store.values(OutboxItem, ("record_id", "sent_at"), record_id=[id for id, *_ in artifacts]) if artifacts else []
    sent = {id for id, moment in outbox if moment is not None}
    made = {f"{name}:v{version}": ((name, version), inputs) for id, name, version, inputs in artifacts if id in sent}
    wanted = list(dict.fromkeys(each for _, inputs in made.values() for each in inputs if each in made and ledger and each not in ledger.linked))
    if wanted:
        session = relay.open_online()
        for each in wanted:
            if not session.use(made[each][0]):
                _log.warning("W&B no longer has the artifact %s; what rests on it is still known to kit.tracking.artifacts().", each)
        session.finish()
        relay.note_linked(wanted)


def _address(relay: Relay) -> str:
    if relay.settings.wandb_base_url:
        return relay.settings.wandb_base_url
    import wandb

    return str(wandb.Settings().base_url)
