"""Kinds for the library's prompts that need no data folder: ideas, announcements, meeting notes.

The instructions and layouts are those of the files in `prompts/`, word for word; a test compares them.
"""

from __future__ import annotations

import json
from datetime import date, timedelta
from random import Random

from llmops_kit.starter import lexicon as words
from llmops_kit.starter.rows import Maker, Row

BRAINSTORM = {
    "ja": "次のテーマについて、互いに違うアイデアをN個、1行に1つずつ挙げてください。",
    "en": "List N different ideas on the following topic, one per line.",
}
EXTRACT = {
    "ja": "次の文章から、見本と同じ形のJSONを作ってください。JSONだけを出力し、書かれていない項目はnullにしてください。",
    "en": "Turn the following text into JSON with the same keys as the pattern. Output only the JSON, and use null for what is not stated.",
}
PATTERN = '{"title": "…", "date": "YYYY-MM-DD", "place": "…", "contact": "…"}'
ACTIONS = {
    "ja": "次の会議の記録から、やることを「担当者：内容（期限）」の形で1行に1つずつ書き出してください。",
    "en": "List the tasks in the following meeting notes, one per line, as “person – task (due date)”.",
}
WHEN = {
    "ja": ("", "", "朝の時間に", "週末に", "夏のあいだに", "雨の日に", "お金をかけずに"),
    "en": ("", "", " in the morning", " at the weekend", " in summer", " on rainy days", " without spending money"),
}
WHERE = {
    "ja": ("職場", "学校", "町内会", "図書館", "商店街", "家", "公園", "病院", "店", "教室", "寮", "サークル", "工場", "市役所", "会社", "地域"),
    "en": (
        "at work", "at school", "in our street", "in the library", "in the town centre", "at home", "in the park", "in the hospital", "in the shop",
        "in class", "in the dormitory", "in our club", "in the factory", "at the town hall", "in the company", "in the village",
    ),
}  # fmt: skip
GOALS = {
    "ja": (
        "会話を増やす", "新しい人が早くなじめるようにする", "ごみを減らす", "笑顔を増やす", "若い人の参加を増やす", "待ち時間を短くする", "紙を使う量を減らす",
        "本を読む人を増やす", "運動する人を増やす", "話し合う時間を作る", "電気を節約する", "お年寄りと子どもが交流する", "忘れ物を減らす", "挨拶を広める",
        "初めての人に知ってもらう", "片付けを楽しくする",
    ),
    "en": (
        "get people talking", "help newcomers feel at home", "reduce waste", "make people smile", "attract young people", "shorten the waiting time",
        "use less paper", "get people to read more", "get people to move more", "find time for discussion", "save electricity",
        "bring old and young together", "lose fewer things", "make greetings a habit", "become better known", "make tidying fun",
    ),
}  # fmt: skip
TOPIC_FORMS = {
    "ja": ("{w}{p}で{g}には", "{w}{p}で{g}には", "{w}{p}で{g}方法", "{p}で{w}{g}ための工夫", "{w}{p}で{g}にはどうすればよいか"),
    "en": ("How to {g} {p}{w}", "How to {g} {p}{w}", "Ways to {g} {p}{w}", "What can we do to {g} {p}{w}?", "How can we {g} {p}{w}"),
}
IDEAS = {
    "ja": (
        "毎週{d}に小さな集まりを開く", "みんなの意見を聞くアンケートを取る", "案内のポスターを貼る", "担当者を一人決める", "{n}人ずつの組を作って試す",
        "よい例を写真で紹介する", "始めやすい小さな目標を決める", "成果を表にして貼り出す", "毎月一度、振り返りの会を開く", "初めての人向けの説明会を開く",
        "お茶とお菓子を用意する", "くじ引きで組み合わせを変える", "短い動画を作って見せる", "経験者の話を聞く会を開く", "参加した人にスタンプを渡す",
        "掲示板に質問を書けるようにする", "使っていない部屋を開放する", "合言葉を決めて広める", "朝の{n}分を使って話す", "道具を共有する棚を置く",
        "近くの学校と協力する", "季節ごとに催しを開く", "ゲームの形にして楽しむ", "成功した話を集めて配る", "手順を一枚の紙にまとめる",
        "困ったときの相談窓口を作る", "席の並べ方を変えてみる", "音楽を流して雰囲気を変える", "ありがとうカードを配る", "{n}日間だけ試してみる",
        "家族や友人を招待する日を作る", "目標を達成したらみんなで祝う", "当番を{d}ごとに交代する", "インターネットで活動を発信する",
        "地図を作って場所を知らせる",
        "一緒に昼ご飯を食べる日を作る", "{n}つの案から投票で選ぶ", "古いやり方を一つやめる", "大きな机を一つ置く", "毎日一つよかったことを書く",
        "名札を付けて名前を覚える", "散歩しながら話す時間を作る", "ほかの町の例を見に行く", "予定表を入口に貼る", "得意なことを教え合う会を開く",
    ),
    "en": (
        "Hold a small meeting every {d}", "Ask everyone for ideas in a survey", "Put up a poster near the door", "Choose one person to lead it",
        "Try it in groups of {n}", "Show good examples in photos", "Set one small goal to begin with", "Put the results on the wall",
        "Look back together once a month", "Give a short introduction for beginners", "Offer tea and biscuits", "Mix the groups by drawing lots",
        "Make a short film about it", "Invite someone with experience to speak", "Give a stamp to everyone who takes part",
        "Put up a board for questions", "Open a room that is not used", "Find a motto and share it", "Talk about it for {n} minutes each morning",
        "Set up a shelf for shared tools", "Work together with a nearby school", "Hold an event every season", "Turn it into a game",
        "Collect stories of success", "Write the steps on one page", "Name a person to ask for help", "Change the order of the seats",
        "Play some quiet music", "Hand out thank-you cards", "Try it for {n} days first", "Have a day for family and friends",
        "Celebrate when a goal is reached", "Change the person on duty every {d}", "Write about it online", "Draw a map of the places",
        "Eat lunch together once a week", "Vote on {n} proposals", "Stop doing one old thing", "Put one large table in the middle",
        "Write down one good thing a day", "Wear name tags", "Talk while taking a walk", "Visit a place that does it well",
        "Hang a calendar at the entrance", "Teach each other what you are good at",
    ),
}  # fmt: skip
DAYS = {
    "ja": ("月曜日", "火曜日", "水曜日", "木曜日", "金曜日"),
    "en": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday"),
}
MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December")

EVENTS = {
    "ja": (
        ("春の", "秋の", "親子", "地域の", "第2回", "第5回", "市民", "夏休み", "年末の", ""),
        ("料理教室", "清掃活動", "音楽会", "健康診断", "防犯講習会", "写真展", "読書会", "運動会", "避難訓練", "説明会", "交流会", "書道教室", "バザー",
        "見学会"),
    ),
    "en": (
        ("spring ", "autumn ", "family ", "village ", "annual ", "second ", "evening ", "summer ", "winter ", ""),
        ("cooking class", "clean-up day", "concert", "health check", "safety course", "photo exhibition", "book club", "sports day", "evacuation drill",
            "information session", "staff party", "calligraphy class", "charity sale", "factory tour"),
    ),
}  # fmt: skip
PLACES = {
    "ja": (
        ("中央", "東", "西", "南", "北", "第二", "第三", "緑町", "港", "本社"),
        ("公民館の大広間", "中学校の体育館", "図書館の2階", "公園の広場", "ホール", "センターの会議室", "小学校の校庭", "ビルの食堂"),
    ),
    "en": (
        ("Central", "East", "West", "South", "North", "Second", "Third", "Green Hill", "Harbour", "City"),
        ("hall of {a} Community Centre", "gym of {a} High School", "reading room of {a} Library", "square in {a} Park", "main hall of {a} House",
            "meeting room of {a} Office", "yard of {a} Primary School", "canteen of {a} Tower"),
    ),
}  # fmt: skip
OFFICES = {
    "ja": ("広報課", "人事課", "福祉課", "事務局", "学務課", "管理室", "受付", "企画課"),
    "en": ("press office", "personnel office", "welfare office", "secretariat", "school office", "caretaker", "front desk", "planning office"),
}
WHEN_WHERE = {
    "ja": {
        "date place": ("{d}の{h}から、{p}で行います。", "日時は{d}{h}、場所は{p}です。", "{d}に{p}で開きます。", "会場は{p}、日程は{d}です。"),
        "date": ("{d}の{h}から行います。", "日にちは{d}です。", "{d}に行います。場所は追って連絡します。"),
        "place": ("{p}で行います。", "場所は{p}です。日にちはまだ決まっていません。"),
        "": ("詳しいことは追って連絡します。", "日時と場所は後日お知らせします。"),
    },
    "en": {
        "date place": (
            "It takes place on {d} at {h} in the {p}.", "It will be held in the {p} on {d}.", "Date: {d}, {h}. Place: the {p}.", "Join us on {d} in the {p}.",
        ),
        "date": ("It takes place on {d} at {h}.", "The date is {d}.", "It will be held on {d}; the place will follow."),
        "place": ("It takes place in the {p}.", "The place is the {p}; the date is not fixed yet."),
        "": ("Details will follow.", "We will tell you the date and place later."),
    },
}  # fmt: skip
OPENINGS = {
    "ja": ("{t}のお知らせです。", "{t}を開催します。", "このたび{t}を行うことになりました。", "{t}についてお知らせします。", "今年も{t}の季節になりました。"),
    "en": ("This is about the {t}.", "You are invited to the {t}.", "We are happy to announce the {t}.", "News about the {t}.", "The {t} is coming."),
}
ONE_SENTENCE = {
    "ja": ("{d}の{h}から{p}で{t}を行います。", "{t}は{d}に{p}で開かれます。", "{d}、{p}にて{t}があります。"),
    "en": ("The {t} takes place on {d} at {h} in the {p}.", "On {d} the {t} will be held in the {p}.", "In the {p}, the {t} starts at {h} on {d}."),
}
CONTACTS = {
    "ja": ("参加を希望する方は{c}までご連絡ください。", "お問い合わせは{c}へお願いします。", "申し込みは{c}で受け付けます。", "質問は{c}までどうぞ。"),
    "en": ("To take part, call the {c}.", "For questions contact the {c}.", "Please sign up with the {c}.", "The {c} will answer your questions."),
}
NO_CONTACT = {"ja": ("", "申し込みはいりません。", "だれでも参加できます。"), "en": ("", "You do not need to sign up.", "Everyone is welcome.")}
REMARKS = {
    "ja": ("", "", "雨のときは中止です。", "動きやすい服で来てください。", "参加は無料です。", "飲み物を用意します。"),
    "en": ("", "", "It is cancelled if it rains.", "Please wear comfortable clothes.", "It is free.", "Drinks will be served."),
}

SURNAMES = ("Ito", "Kato", "Mori", "Ogawa", "Hayashi", "Kimura", "Abe", "Ueda", "Ishida", "Nomura", "Sakai", "Hara", "Kubo", "Maeda", "Okada", "Yamamoto")
TASK_OBJECTS = {
    "ja": (
        "会議室の予約", "案内状", "アンケート", "予算案", "名簿", "会場の写真", "報告書", "ポスター", "議事録", "契約書", "見積書", "製品の説明文",
        "発表の資料",
        "日程表", "注文書", "研修の計画", "お客様への連絡", "ホームページの記事", "備品の一覧", "招待客の名前",
    ),
    "en": (
        "the room booking", "the invitation", "the survey", "the budget", "the list of members", "two photos of the hall", "the report", "the poster",
        "the minutes", "the contract", "the estimate", "the product text", "the slides", "the timetable", "the order form", "the training plan",
        "the letter to customers", "the website article", "the list of supplies", "three names of guests",
    ),
}  # fmt: skip
TASK_VERBS = {
    "ja": ("確認する", "用意する", "作る", "まとめる", "見直す", "送る", "仕上げる", "調べる", "2つ選ぶ", "部長に渡す", "直す", "印刷する"),
    "en": (("check", "checks"), ("prepare", "prepares"), ("write", "writes"), ("finish", "finishes"), ("review", "reviews"), ("send out", "sends out"),
        ("collect", "collects"), ("correct", "corrects"), ("print", "prints"), ("discuss", "discusses"), ("choose", "chooses"), ("share", "shares")),
}  # fmt: skip
DUES = {
    "ja": ("月曜日まで", "木曜日まで", "来週の火曜日まで", "今週中", "明日まで", "月末まで", "今日中", "{m}月{n}日まで", "{m}月{n}日まで", "次の会議まで",
        "明日の昼まで"),
    "en": ("by Monday", "by Thursday", "by Tuesday next week", "this week", "by tomorrow", "by the end of the month", "today", "by {n} {m}", "by {m} {n}",
        "by the next meeting", "by noon tomorrow"),
}  # fmt: skip
TASK_FORMS = {
    "ja": ("{o}は{p}さんが{u}に{v}。", "{p}さんは{u}に{o}を{v}。", "{p}さんが{o}を{u}に{v}ことになった。", "{o}については、{p}さんが{u}に{v}。"),
    "en": ("{p} {s} {o} {u}.", "{p} will {v} {o} {u}.", "{p} is going to {v} {o} {u}.", "{p} agreed to {v} {o} {u}."),
}
NO_TASKS = {
    "ja": (
        "{x}について話した。", "{x}は予定どおり進んでいる。", "{x}の結果は次回話し合う。", "{x}について反対の意見はなかった。",
        "{x}には時間がかかると分かった。",
        "{x}のことは次回決める。",
    ),
    "en": (
        "We talked about {x}.", "We are on schedule with {x}.", "The results of {x} will be discussed next time.", "Nobody was against {x}.",
        "It became clear that {x} will take time.", "The rest of {x} will be decided next time.",
    ),
}  # fmt: skip
MATTERS = {
    "ja": ("新しい製品", "秋の催し", "引っ越し", "来年の予算", "社内の研修", "売り場の配置", "お客様の声", "事務所の掃除", "新しい制度", "展示会"),
    "en": ("the new product", "the autumn event", "the move", "next year's budget", "staff training", "the shop layout", "customer feedback", "office cleaning",
        "the new rules", "the trade fair"),
}  # fmt: skip


def makers() -> dict[str, Maker]:
    """The kinds of this module by name."""
    return {"brainstorm": brainstorm, "extract_announcement": extract_announcement, "actions": list_actions}


def brainstorm(rng: Random, language: str) -> Row:
    """N different ideas, from 1 to 6, one per line."""
    if rng.random() < 0.15:
        pairs = words.TOPICS
        forms = ("{t}の催し", "{t}の日", "{t}の良さを広める方法") if language == "ja" else ("An event about {t}", "A day about {t}",
            "How to get people interested in {t}")
        topic = rng.choice(forms).format(t=rng.choice(pairs)[0 if language == "ja" else 1])
    else:
        topic = rng.choice(TOPIC_FORMS[language]).format(w=rng.choice(WHEN[language]), p=rng.choice(WHERE[language]), g=rng.choice(GOALS[language]))
    count = rng.randint(1, 6)
    ideas = [form.format(d=rng.choice(DAYS[language]), n=rng.randint(3, 9)) for form in rng.sample(IDEAS[language], count)]
    return Row("brainstorm", language, f"{BRAINSTORM[language]}\n\nN = {count}\n\n{topic}", "\n".join(ideas), topic)


def extract_announcement(rng: Random, language: str) -> Row:
    """Title, date, place and contact of an announcement as JSON; what the text leaves out is null."""
    first, second = EVENTS[language]
    title = rng.choice(first) + rng.choice(second)
    area, form = (rng.choice(part) for part in PLACES[language])
    place = area + form if language == "ja" else form.format(a=area)
    office, number = rng.choice(OFFICES[language]), str(rng.randint(100, 999))
    if rng.random() < 0.5:
        number = f"0{rng.randint(3, 99)}-{rng.randint(100, 999)}-{rng.randint(1000, 9999)}"
    line = ("内線" if len(number) == 3 else "電話") if language == "ja" else ("extension " if len(number) == 3 else "phone ")
    contact = f"{office}（{line}{number}）" if language == "ja" else f"{office}, {line}{number}"
    day = date(2024, 1, 1) + timedelta(days=rng.randrange(1825))
    values = {"t": title, "p": place, "c": contact, "d": write_date(rng, language, day), "h": write_hour(rng, language)}
    known = {"date": rng.random() < 0.85, "place": rng.random() < 0.85, "contact": rng.random() < 0.75}
    text = _announce(rng, language, known).format(**values).strip()
    found = {"date": day.isoformat(), "place": place, "contact": contact}
    answer = json.dumps({"title": title} | {key: found[key] if known[key] else None for key in found}, ensure_ascii=False)
    return Row("extract_announcement", language, f"{EXTRACT[language]}\n\n{PATTERN}\n\n{text}", answer, f"{title}|{place}|{day}")


def _announce(rng: Random, language: str, known: dict[str, bool]) -> str:
    """A text with blanks for what is known: running, or as labelled lines."""
    if rng.random() < 0.15:
        labels = ("件名", "日時", "場所", "連絡先") if language == "ja" else ("Subject", "Date", "Place", "Contact")
        colon = "：" if language == "ja" else ": "
        lines = [f"{labels[0]}{colon}{{t}}", *(f"{label}{colon}{{{key[0]}}}" for label, key in zip(labels[1:], known, strict=True) if known[key])]
        return "\n".join(lines)
    contact = rng.choice((CONTACTS if known["contact"] else NO_CONTACT)[language])
    key = " ".join(name for name in ("date", "place") if known[name])
    if key == "date place" and rng.random() < 0.4:
        opening = [rng.choice(ONE_SENTENCE[language])]
    else:
        opening = [rng.choice(OPENINGS[language]), rng.choice(WHEN_WHERE[language][key])]
    rest = [rng.choice(REMARKS[language]), contact]
    if rng.random() < 0.5:
        rest.reverse()
    joint = rng.choice(("", "", "\n")) if language == "ja" else rng.choice((" ", " ", "\n"))
    return joint.join(part for part in (*opening, *rest) if part)


def write_date(rng: Random, language: str, day: date) -> str:
    """A date as an announcement writes it."""
    weekday = day.weekday()
    if language == "ja":
        return f"{day.year}年{day.month}月{day.day}日" + rng.choice(("", "", f"（{'月火水木金土日'[weekday]}）"))
    month = MONTHS[day.month - 1]
    name = (*DAYS["en"], "Saturday", "Sunday")[weekday]
    forms = (f"{day.day} {month} {day.year}", f"{month} {day.day}, {day.year}", f"{name}, {day.day} {month} {day.year}")
    return rng.choice(forms)


def write_hour(rng: Random, language: str) -> str:
    """A time of day on the hour."""
    hour = rng.randint(1, 11)
    return f"{rng.choice(('午前', '午後'))}{hour}時" if language == "ja" else f"{hour} {rng.choice(('a.m.', 'p.m.'))}"


def list_actions(rng: Random, language: str) -> Row:
    """The tasks of meeting notes, one per line, in the words of the notes."""
    tasks = rng.choice((1, 2, 2, 3))
    people = rng.sample(words.NAMES["ja"] if language == "ja" else (*SURNAMES, *words.NAMES["en"]), tasks)
    sentences, lines = [], []
    for person, thing in zip(people, rng.sample(TASK_OBJECTS[language], tasks), strict=True):
        month = rng.choice(MONTHS) if language == "en" else str(rng.randint(1, 12))
        due = rng.choice(DUES[language]).format(m=month, n=rng.randint(1, 28))
        form = rng.choice(TASK_FORMS[language])
        verb, third = (rng.choice(TASK_VERBS["ja"]), "") if language == "ja" else rng.choice(TASK_VERBS["en"])
        sentences.append(form.format(p=person, o=thing, u=due, v=verb, s=third))
        did = third if "{s}" in form else verb
        lines.append(f"{person}：{thing}を{did}（{due}）" if language == "ja" else f"{person} – {did} {thing} ({due})")
    matters = rng.sample(MATTERS[language], 2)
    for matter in matters[: rng.randint(1, 4 - tasks) if tasks < 3 else 1]:
        plain = rng.choice(NO_TASKS[language]).format(x=matter)
        sentences.insert(rng.choice((0, len(sentences))), plain[0].upper() + plain[1:])
    joints = [rng.choice(("", "\n") if language == "ja" else (" ", "\n")) for _ in sentences[1:]]
    text = sentences[0] + "".join(joint + sentence for joint, sentence in zip(joints, sentences[1:], strict=True))
    return Row("actions", language, f"{ACTIONS[language]}\n\n{text}", "\n".join(lines), "|".join(lines))
