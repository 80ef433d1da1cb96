"""The tokenizer of starter-embed: BPE inside runs of one script, and texts as flat arrays of token ids."""

from __future__ import annotations

import json
import unicodedata
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Ints = NDArray[np.int64]
Ids = NDArray[np.int32]
WORD = "▁"  # stands before a Latin word, so that its beginning and its inside are different tokens
ALPHABET = 4500
_WORD_STARTS = r"(?<![\p{Latin}\p{M}])(?=\p{Latin})"
_RUNS = (
    WORD + r"[\p{Latin}\p{M}]+|[\p{Han}〆ヶ]+|\p{Hiragana}+|[\p{Katakana}ー]+|\p{N}{1,4}"
    r"|[^\s\p{P}\p{Latin}\p{Han}\p{Hiragana}\p{Katakana}\p{N}\p{S}\p{C}]+|\p{S}"
)


@dataclass(frozen=True)
class Tokens:
    """Texts as token ids: text i is `flat[offsets[i]:offsets[i + 1]]`."""

    flat: Ids
    offsets: Ints

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def starts(self) -> Ints:
        """Where each text begins in `flat`."""
        return self.offsets[:-1]

    @property
    def ends(self) -> Ints:
        """Where each text ends in `flat`."""
        return self.offsets[1:]

    def take(self, starts: Ints, ends: Ints, pieces: int = 1) -> Tokens:
        """The spans from `starts` to `ends`, every `pieces` of them in a row joined to one text."""
        lengths = ends - starts
        places = np.concatenate([[0], lengths.cumsum()])
        positions = np.arange(places[-1]) - np.repeat(places[:-1] - starts, lengths)
        return Tokens(self.flat[positions], places[::pieces])


def choose_alphabet(texts: Iterable[str], size: int) -> list[str]:
    """The `size` most frequent letters, digits and symbols, ties by code point: the trainer's own choice differs from run to run."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(unicodedata.normalize("NFKC", text).lower())
    usable = [character for character in counts if unicodedata.category(character)[0] in "LMNS"]
    return [WORD, *sorted(usable, key=lambda character: (-counts[character], character))[: size - 1]]


def train_tokenizer(texts: Sequence[str], size: int, *, alphabet: int = ALPHABET) -> Tokenizer:
    """Learn `size` tokens: 256 bytes for rare characters, then characters and their most frequent joins.

    NFKC and lower case first; only letters, digits and symbols of one script at a time are joined; spaces and
    punctuation are left out.
    """
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

    normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase(), normalizers.Replace(Regex(_WORD_STARTS), WORD)])
    runs = pre_tokenizers.Split(Regex(_RUNS), behavior="removed", invert=True)
    learner = Tokenizer(models.BPE())
    learner.normalizer, learner.pre_tokenizer = normalizer, runs
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    letters = choose_alphabet(texts, alphabet)
    trainer = trainers.BpeTrainer(
        vocab_size=size - 256, initial_alphabet=letters, limit_alphabet=len(letters), min_frequency=3, show_progress=False
    )
    learner.train_from_iterator(texts, trainer)
    learnt = sorted(learner.get_vocab().items(), key=lambda item: item[1])
    vocabulary = {token: number for number, token in enumerate([*byte_tokens, *(token for token, _ in learnt)])}
    merges = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
    built = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, byte_fallback=True, cache_capacity=100_000))
    built.normalizer, built.pre_tokenizer = normalizer, runs
    return built


class RunEncoder:
    """Encodes as the tokenizer does, several times faster on much text: each distinct run goes through BPE once.

    The two libraries know Unicode of different years, so that a symbol added lately may count in one and not in the other.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        import regex

        self._model = tokenizer.model
        self._starts, self._runs = regex.compile(_WORD_STARTS), regex.compile(_RUNS)
        self._known: dict[str, list[int]] = {}

    def __call__(self, texts: Iterable[str]) -> Tokens:
        """Token ids of `texts`."""
        flat, lengths = array("i"), [0]
        for text in texts:
            before = len(flat)
            plain = unicodedata.normalize("NFKC", text).replace("Σ", "σ").lower()  # Python alone has another σ for the end of a word
            for run in self._runs.findall(self._starts.sub(WORD, plain)):
                ids = self._known.get(run)
                if ids is None:
                    ids = self._known[run] = [token.id for token in self._model.tokenize(run)]
                flat.extend(ids)
            lengths.append(len(flat) - before)
        return Tokens(np.array(flat, np.int32), np.cumsum(lengths, dtype=np.int64))


def count_rarity(parts: Sequence[Tokens], size: int) -> NDArray[np.float32]:
    """IDF of every token, log(texts / texts with it), with the texts of `parts` as documents."""
    counts, documents = np.zeros(size), 0
    for part in parts:
        owner = np.repeat(np.arange(len(part)), np.diff(part.offsets))
        counts += np.bincount(np.unique(owner * size + part.flat) % size, minlength=size)
        documents += len(part)
    return np.log((documents + 1) / (counts + 1)).astype(np.float32)

