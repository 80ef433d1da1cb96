"""Rare words in training rows: swapped in request and answer alike, never in held-out rows, never in what has to keep its meaning."""

from __future__ import annotations

import json
from random import Random

import pytest

from llmops_kit.starter.corpus import Passage
from llmops_kit.starter.curriculum import Curriculum
from llmops_kit.starter.rows import Row
from llmops_kit.starter.substitution import Substitution

PASSAGES = (Passage("ja", "鳥", ("雀は稲穂を啄む。", "ペンギンは泳ぐ。")), Passage("en", "Birds", ("Sparrows pilfer barley.", "Penguins paddle.")))
ROWS = {
    "ja": Row("repeat", "ja", "次の文をそのまま書いてください。\n図書館は月曜に休みます。", "図書館は月曜に休みます。", "図書館"),
    "en": Row("repeat", "en", "Repeat this exactly.\nThe library rests on Monday.", "The library rests on Monday.", "library"),
}
SUBSTITUTION = Substitution(PASSAGES)


@pytest.mark.parametrize("language", ["ja", "en"])
def test_a_swapped_row_still_asks_for_what_it_answers(language: str) -> None:
    row = ROWS[language]
    swapped = [SUBSTITUTION.apply(Random(seed), row) for seed in range(200)]
    changed = [other for other in swapped if other != row]
    assert 30 < len(changed) < 110, "about a third of the rows are changed"
    for other in changed:
        assert other.answer in other.user and other.answer != row.answer
        assert other.content == row.content and other.user.splitlines()[0] == row.user.splitlines()[0]


def test_new_pieces_come_from_the_corpus_and_have_the_old_length_in_japanese() -> None:
    known = set("".join(part for part in PASSAGES[0].sentences)) | set(ROWS["ja"].answer)
    for seed in range(100):
        other = SUBSTITUTION.apply(Random(seed), ROWS["ja"])
        assert set(other.answer) <= known and len(other.answer) == len(ROWS["ja"].answer)


def test_the_keys_of_an_object_keep_their_meaning() -> None:
    row = Row("json", "en", "Extract name, city as JSON.\nClara lives in Oslo, says the name tag.", '{"name": "Clara", "city": "Oslo"}', "x")
    answers = [json.loads(SUBSTITUTION.apply(Random(seed), row).answer) for seed in range(100)]
    assert {tuple(answer) for answer in answers} == {("name", "city")}
    assert len({answer["name"] for answer in answers}) > 1


@pytest.mark.parametrize("kind", ["classify", "count", "sort", "translate", "spelling", "yes_no", "decline", "greet"])
def test_kinds_that_do_not_copy_are_left_alone(kind: str) -> None:
    row = Row(kind, "en", "The library rests.", "The library rests.", "x")
    assert all(SUBSTITUTION.apply(Random(seed), row) is row for seed in range(50))


def test_held_out_rows_are_never_swapped() -> None:
    def make(rng: Random, language: str) -> Row:
        number = rng.randrange(400)
        return Row("repeat", language, f"{number}: library", f"{number}: library", str(number))

    curriculum = Curriculum({"repeat": make}, {}, SUBSTITUTION)
    assert all("library" in row.answer for row in curriculum.held_out("repeat", "en", count=10))
    rng = Random(1)
    assert any("library" not in curriculum.draw(rng).answer for _ in range(50))
