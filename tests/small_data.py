"""A data folder of a few made-up articles, laid out as the recipes read it, for tests that run a recipe from end to end."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import Any

JA = {
    "who": ("山本", "鈴木", "高橋", "石川", "中村", "松田", "林", "大野"),
    "what": ("時計台", "水車", "図書館", "灯台", "劇場", "植物園", "渡し船", "印刷所", "温室", "天文台"),
    "where": ("北町", "川端", "港通り", "坂上", "緑ヶ丘", "中央区", "東浜", "西山"),
}
EN = {
    "who": ("Grey", "Miller", "Stone", "Baker", "Wood", "Hill", "Marsh", "Reed"),
    "what": ("clock tower", "water mill", "library", "lighthouse", "theatre", "garden", "ferry", "printing house", "greenhouse", "observatory"),
    "where": ("Northgate", "Riverside", "Harbour Street", "Uptown", "Green Hill", "Midtown", "Eastbeach", "Westhill"),
}


def write_small_data(folder: Path, *, articles: int = 60, seed: int = 5) -> Path:
    """Write the five files of `starter.corpus`; evaluation and training articles share no name."""
    rng = Random(seed)
    (folder / "qa").mkdir(parents=True)
    (folder / "text").mkdir()
    (folder / "jglue").mkdir()
    ja, en = [_article(rng, "ja", number) for number in range(articles)], [_article(rng, "en", number) for number in range(articles)]
    _write_lines(folder / "qa" / "jaquad_train.jsonl.gz", map(_question, ja))
    _write_lines(folder / "qa" / "new_wiki.jsonl.gz", map(_question, en))
    _write_lines(folder / "text" / "kyoto.jsonl.gz", map(_pair, ja, en))
    held = [_article(rng, language, 10_000 + number) for language in ("ja", "en") for number in range(4)]
    _write_lines(folder / "qa" / "xquad_en.jsonl.gz", map(_question, held[4:]))
    valid = [{"title": row["title"], "paragraphs": [_paragraph(row)]} for row in held[:4]]
    (folder / "jglue" / "jsquad-valid.json").write_text(json.dumps({"data": valid}, ensure_ascii=False), encoding="utf-8")
    return folder


def _article(rng: Random, language: str, number: int) -> dict[str, Any]:
    words = {kind: rng.choice(choice) for kind, choice in (JA if language == "ja" else EN).items()}
    year = str(1700 + rng.randrange(300))
    if language == "ja":
        title = f"第{number}{words['what']}"
        parts = (
            f"{title}は{words['where']}にある建物です。",
            f"{year}年に{words['who']}第{number}氏が建てました。",
            f"毎日{rng.randrange(2, 90)}人がここで働く。",
        )
        return {"title": title, "parts": parts, "text": "".join(parts), "q": f"{title}は何年に建てられましたか。", "a": f"{year}年"}
    title = f"Old {words['what'].title()} {number}"
    parts = (
        f"The {title} is a building in {words['where']}.",
        f"It was built by a Mr {words['who']} number {number} in {year}.",
        f"Every day {rng.randrange(2, 90)} people work here.",
    )
    return {"title": title, "parts": parts, "text": " ".join(parts), "q": f"When was the {title} built?", "a": year}


def _pair(ja: dict[str, Any], en: dict[str, Any]) -> dict[str, object]:
    return {"tj": ja["title"], "te": en["title"], "pars": [list(zip(ja["parts"], en["parts"], strict=True))]}


def _question(row: dict[str, object]) -> dict[str, object]:
    text, answer = str(row["text"]), str(row["a"])
    return {"id": row["title"], "title": row["title"], "context": text, "q": row["q"], "answers": [answer], "start": text.index(answer)}


def _paragraph(row: dict[str, object]) -> dict[str, object]:
    return {"context": f"{row['title']} [SEP] {row['text']}", "qas": [{"id": "1", "question": row["q"], "answers": [{"text": row["a"], "answer_start": 0}]}]}


def _write_lines(path: Path, rows: Iterable[dict[str, object]]) -> None:
    with gzip.open(path, "wt", encoding="utf-8") as stream:
        for row in rows:
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
