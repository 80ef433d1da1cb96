"""Run by an installed package, far from any checkout: opens a kit, lets every starter model answer, and prints what came as JSON.

`python -I wheel_answers.py WORKSPACE`. Every connection is refused and remembered; at the end there must have been none.
"""

import json
import socket
import sys
from pathlib import Path

REACHED = []


def refuse(*arguments, **_):
    """Stands in for everything that leaves this process."""
    REACHED.append(repr(arguments[1:] or arguments))
    raise OSError("this machine has no network")


for name in ("connect", "connect_ex", "sendto"):
    setattr(socket.socket, name, refuse)
for name in ("create_connection", "getaddrinfo", "gethostbyname"):
    setattr(socket, name, refuse)

import llmops_kit  # noqa: E402

SUMMARY = {
    "ja": "次の文章を3文以内で要約してください。\n\n市立図書館は来月から平日の開館時間を午後9時まで延ばします。土曜と日曜の開館時間は変わりません。",
    "en": "Summarize the following text in at most three sentences.\n\nThe library will open until nine on weekdays. The hours at weekends stay the same.",
}
READING = {
    "ja": "資料：\n年次有給休暇は、入社から6か月たった日に10日付与します。上限は20日です。\n\n質問：有給休暇の上限は何日ですか？",
    "en": "Sources:\nEmployees receive 10 days of paid leave six months after joining.\n\nQuestion: How many days of paid leave do employees receive?",
}
DOCUMENTS = ["有給休暇の申請は三営業日前までに行います。", "The printer on the second floor needs toner.", "本社は東京駅の近くにあります。"]
QUESTIONS = {"ja": ("休暇を申請するのはいつまでですか", 0), "en": ("Which printer needs toner?", 1)}


def answer(kit: "llmops_kit.Kit") -> dict[str, object]:
    """What each model says, and where the package and its prompts were found."""
    from llmops_kit.kit import library_folder

    table = kit.models.table().set_index("id")
    said: dict[str, object] = {
        "package": llmops_kit.__file__,
        "library": str(library_folder()),
        "prompts": list(kit.prompts.names()),
        "states": {model: table.state[model] for model in table.index if table.provider[model] == "starter"},
    }
    lm, reader = kit.models.chat("starter-lm"), kit.models.chat("starter-reader")
    for language in ("ja", "en"):
        said[f"lm/{language}"] = [lm.invoke(SUMMARY[language], temperature=0).text for _ in range(2)]
        said[f"reader/{language}"] = reader.invoke(READING[language], temperature=0).response_metadata["answer"]
    return said


def search(kit: "llmops_kit.Kit") -> dict[str, object]:
    """The best document for each question: by the embedder and by words."""
    from llmops_kit.models.lexical import LexicalIndex

    embedder, index = kit.models.embedder(), LexicalIndex(DOCUMENTS)
    rows = embedder.encode(DOCUMENTS)
    found: dict[str, object] = {"dimensions": [embedder.dimensions, rows.shape[1], len(embedder.embed_query("x"))]}
    for language, (question, _) in QUESTIONS.items():
        found[f"embedder/{language}"] = int((rows @ embedder.encode([question])[0]).argmax())
        found[f"lexical/{language}"] = int(index.search(question, 1)[0][0])
    return found


def main() -> None:
    """Everything there is in this package."""
    with llmops_kit.open_kit(sys.argv[1]) as kit:
        said = answer(kit)
        if (Path(llmops_kit.__file__).parent / "models" / "embedder.py").exists():
            said |= search(kit)
    said["reached"] = REACHED
    print(json.dumps(said, ensure_ascii=False))


if __name__ == "__main__":
    main()
