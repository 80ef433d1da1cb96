"""Open kinds with many right answers, where temperature shows: greetings, one sentence on a topic, ideas."""

from __future__ import annotations

from random import Random

from llmops_kit.starter import lexicon as words
from llmops_kit.starter.rows import Maker, Row

GREETINGS = {
    "ja": (
        (
            ("こんにちは", "こんにちは。", "やあ", "どうも"),
            ("こんにちは。何を書き換えましょうか。", "こんにちは。お手伝いします。", "こんにちは。文章を一つ渡してください。"),
        ),
        (("おはよう", "おはようございます。"), ("おはようございます。今日は何をしましょうか。", "おはようございます。お手伝いします。")),
        (("ありがとう", "ありがとうございます。"), ("どういたしまして。", "どういたしまして。またどうぞ。")),
        (
            ("あなたは誰ですか。", "自己紹介してください。", "あなたは何ができますか。"),
            ("私は小さな練習用の言語モデルです。要約、書き換え、分類、抽出などができます。",),
        ),
        (("さようなら", "またね"), ("さようなら。また明日。", "さようなら。またどうぞ。")),
    ),
    "en": (
        (("Hello", "Hello!", "Hi", "Hi there"), ("Hello. What shall I rewrite?", "Hello. How can I help?", "Hello. Please give me a text.")),
        (("Good morning", "Good morning."), ("Good morning. What shall we do today?", "Good morning. How can I help?")),
        (("Thank you", "Thanks!"), ("You are welcome.", "You are welcome. Come again.")),
        (
            ("Who are you?", "Introduce yourself.", "What can you do?"),
            ("I am a small practice language model. I can summarise, rewrite, classify and extract.",),
        ),
        (("Goodbye", "Bye"), ("Goodbye. See you tomorrow.", "Goodbye. Come again.")),
    ),
}
WRITE_ASKS = {
    "ja": (
        "次のことを、中学生にもわかる言葉で説明してください。\n\n{t}",
        "「{t}」について一文書いてください。",
        "{t}について書いてください。",
        "{t}をテーマに短い文を書いてください。",
        "{t}について教えてください。",
    ),
    "en": (
        "Explain the following in words that a twelve-year-old understands.\n\n{t}",
        "Write one sentence about {t}.",
        "Write about {t}.",
        "Write a short sentence on the topic of {t}.",
        "Tell me about {t}.",
    ),
}
WRITE_FORMS = {
    "ja": (
        "私は{t}が好きです。",
        "{t}はとても美しいです。",
        "{t}のことを考えると、心が静かになります。",
        "昔から多くの人が{t}を愛してきました。",
        "{t}は毎日の生活を豊かにしてくれます。",
        "静かな朝に、{t}のことを思い出しました。",
        "友達と{t}について長く話しました。",
        "{t}には不思議な力があります。",
        "いつか{t}の絵を描きたいです。",
        "{t}がない世界は少しさびしいでしょう。",
    ),
    "en": (
        "I like {t} very much.",
        "Many people love {t}.",
        "When I think of {t}, my heart becomes quiet.",
        "My friend and I talked about {t} for a long time.",
        "There is something wonderful about {t}.",
        "One day I want to draw a picture of {t}.",
        "A world without {t} would be a little sad.",
        "Every year I learn something new about {t}.",
        "On a quiet evening I remembered {t}.",
        "People have always told stories about {t}.",
    ),
}
IDEA_ASKS = {
    "ja": (
        "次のテーマについて、互いに違うアイデアをN個、1行に1つずつ挙げてください。\n\nN = 3\n\n{t}",
        "{t}に関するアイデアを3つ出してください。",
        "テーマ「{t}」でアイデアを3つ考えてください。",
        "{t}についてアイデアを箇条書きで3つ挙げてください。",
    ),
    "en": (
        "List N different ideas on the following topic, one per line.\n\nN = 3\n\n{t}",
        "Give three ideas about {t}.",
        "Brainstorm three ideas on {t}.",
        "List three ideas for {t} as bullets.",
    ),
}
IDEA_FORMS = {
    "ja": (
        "{t}の写真を集める",
        "{t}の地図を作る",
        "{t}について友達に聞く",
        "{t}の歴史を調べる",
        "{t}の日を決める",
        "{t}を紹介する本を作る",
        "{t}の教室を開く",
        "{t}の歌を作る",
    ),
    "en": (
        "Collect photos of {t}",
        "Make a map of {t}",
        "Ask friends about {t}",
        "Study the history of {t}",
        "Hold a day of {t}",
        "Make a small book about {t}",
        "Open a class on {t}",
        "Write a song about {t}",
    ),
}


def makers() -> dict[str, Maker]:
    """The open kinds by name."""
    return {"greet": greet, "write": write_about, "ideas": suggest_ideas}


def greet(rng: Random, language: str) -> Row:
    """A greeting, thanks, or a question about the model itself."""
    asks, answers = rng.choice(GREETINGS[language])
    ask = rng.choice(asks)
    return Row("greet", language, ask, rng.choice(answers), ask + str(rng.randrange(40)))


def write_about(rng: Random, language: str) -> Row:
    """One sentence on a topic; ten patterns are equally right."""
    topic = _topic(rng, language)
    ask, answer = rng.choice(WRITE_ASKS[language]).format(t=topic), rng.choice(WRITE_FORMS[language]).format(t=topic)
    return Row("write", language, ask, answer, topic + answer)


def suggest_ideas(rng: Random, language: str) -> Row:
    """Three ideas as bullets."""
    topic = _topic(rng, language)
    mark = "・" if language == "ja" else "- "
    answer = "\n".join(mark + form.format(t=topic) for form in rng.sample(IDEA_FORMS[language], 3))
    return Row("ideas", language, rng.choice(IDEA_ASKS[language]).format(t=topic), answer, topic + answer)


def _topic(rng: Random, language: str) -> str:
    side = 0 if language == "ja" else 1
    if rng.random() < 0.6:
        return rng.choice(words.TOPICS)[side]
    pair = rng.choice((*words.FRUITS, *words.ANIMALS, *words.THINGS))
    return pair[side] if language == "ja" else f"the {pair[side]}"
