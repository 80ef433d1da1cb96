"""Answers to rate, for the tests of ratings and campaigns."""

from __future__ import annotations

from typing import Any

from llmops_kit.store import Store
from llmops_kit.types import Message, Run, hash_messages, new_id, now


def make_answer(number: int = 0, model: str = "starter-lm", **changes: Any) -> Run:
    """The answer of `model` to question `number`."""
    messages = (Message("system", "秘密の指示"), Message("user", f"質問{number}：有給休暇は何日ですか"))
    facts: dict[str, Any] = {
        "id": new_id(),
        "created_at": now(),
        "participant": "asker",
        "app": "compare:c1",
        "model": model,
        "model_revision": "r1",
        "messages": messages,
        "prompt_sha256": hash_messages(messages),
        "prompt_name": "secret_prompt",
        "output": f"{model}の回答{number}",
        "finish_reason": "stop",
        "item": str(number),
        "variant": model,
    }
    return Run(**facts | changes)


def store_answers(store: Store, count: int, *models: str) -> list[Run]:
    """`count` questions, each answered by every model, in the store."""
    runs = [make_answer(number, model) for number in range(count) for model in models or ("starter-lm",)]
    store.commit(lambda change: change.put_all(runs))
    return runs
