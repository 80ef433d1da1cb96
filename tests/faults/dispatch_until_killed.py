"""What the job kill test kills: an app that looks after the jobs of a workspace. `python dispatch_until_killed.py`, settings in the environment."""

from __future__ import annotations

import time

from llmops_kit.jobs import Jobs
from llmops_kit.settings import Settings
from llmops_kit.store import Store
from tests.jobs_program import PROGRAM

if __name__ == "__main__":
    settings = Settings()
    jobs = Jobs(Store(settings.store_url), settings, program=PROGRAM)
    while True:
        jobs.dispatch()
        time.sleep(0.05)
