"""The words the taught instructions are made of. All of it was written for this recipe."""

from __future__ import annotations

NAMES = {
    "ja": (
        "佐藤", "鈴木", "高橋", "田中", "伊藤", "渡辺", "山本", "中村", "小林", "加藤", "吉田", "山田", "佐々木", "松本", "井上", "木村",
        "林", "清水", "山崎", "森", "池田", "橋本", "石川", "前田", "藤田", "岡田", "後藤", "村上", "青木", "坂本", "遠藤", "西村",
    ),
    "en": (
        "Anna", "Ben", "Clara", "David", "Emma", "Frank", "Grace", "Henry", "Irene", "Jack", "Kate", "Leo", "Maria", "Nina", "Oscar", "Paul",
        "Rosa", "Sam", "Tina", "Victor", "Wendy", "Alice", "Bob", "Carol", "Daniel", "Eva", "George", "Helen", "Ken", "Laura", "Mike", "Peter",
    ),
}  # fmt: skip
CITIES = {
    "ja": ("東京", "大阪", "京都", "札幌", "福岡", "仙台", "広島", "名古屋", "横浜", "神戸", "奈良", "金沢", "長崎", "那覇", "新潟", "松山"),
    "en": (
        "Tokyo",
        "London",
        "Paris",
        "Berlin",
        "Rome",
        "Madrid",
        "Boston",
        "Sydney",
        "Toronto",
        "Seoul",
        "Delhi",
        "Cairo",
        "Oslo",
        "Vienna",
        "Dublin",
        "Lima",
    ),
}
JOBS = {
    "ja": ("医者", "教師", "技術者", "記者", "料理人", "画家", "弁護士", "看護師", "農家", "運転手"),
    "en": ("doctor", "teacher", "engineer", "writer", "cook", "painter", "lawyer", "nurse", "farmer", "driver"),
}
# Nouns as (Japanese, English), so that one list serves lists, topics and the phrasebook.
FRUITS = (
    ("りんご", "apple"), ("みかん", "orange"), ("ぶどう", "grape"), ("バナナ", "banana"), ("桃", "peach"), ("メロン", "melon"), ("レモン", "lemon"),
    ("いちご", "strawberry"), ("梨", "pear"), ("さくらんぼ", "cherry"),
)  # fmt: skip
ANIMALS = (
    ("犬", "dog"), ("猫", "cat"), ("鳥", "bird"), ("馬", "horse"), ("牛", "cow"), ("うさぎ", "rabbit"), ("魚", "fish"), ("羊", "sheep"), ("猿", "monkey"),
    ("象", "elephant"),
)  # fmt: skip
THINGS = (
    ("机", "desk"), ("椅子", "chair"), ("本", "book"), ("時計", "watch"), ("傘", "umbrella"), ("鞄", "bag"), ("鍵", "key"), ("電話", "phone"),
    ("写真", "photo"), ("手紙", "letter"), ("地図", "map"), ("切符", "ticket"), ("帽子", "hat"), ("靴", "shoe"), ("カメラ", "camera"),
)  # fmt: skip
TOPICS = (
    ("海", "the sea"), ("山", "mountains"), ("春", "spring"), ("夏", "summer"), ("秋", "autumn"), ("冬", "winter"), ("雨", "rain"), ("音楽", "music"),
    ("旅行", "travel"), ("料理", "cooking"), ("読書", "reading"), ("友達", "friends"), ("学校", "school"), ("朝", "the morning"), ("星", "the stars"),
    ("花", "flowers"), ("コーヒー", "coffee"), ("電車", "trains"), ("図書館", "libraries"), ("仕事", "work"), ("映画", "films"), ("雪", "snow"),
)  # fmt: skip
# Japanese actions: object or place phrase, then polite, plain, polite past, plain past, and the request stem.
JA_ACTIONS = (
    ("本を", "読みます", "読む", "読みました", "読んだ", "読んで"),
    ("手紙を", "書きます", "書く", "書きました", "書いた", "書いて"),
    ("水を", "飲みます", "飲む", "飲みました", "飲んだ", "飲んで"),
    ("朝ご飯を", "食べます", "食べる", "食べました", "食べた", "食べて"),
    ("写真を", "撮ります", "撮る", "撮りました", "撮った", "撮って"),
    ("音楽を", "聞きます", "聞く", "聞きました", "聞いた", "聞いて"),
    ("映画を", "見ます", "見る", "見ました", "見た", "見て"),
    ("資料を", "送ります", "送る", "送りました", "送った", "送って"),
    ("部屋を", "掃除します", "掃除する", "掃除しました", "掃除した", "掃除して"),
    ("英語を", "勉強します", "勉強する", "勉強しました", "勉強した", "勉強して"),
    ("友達を", "待ちます", "待つ", "待ちました", "待った", "待って"),
    ("荷物を", "運びます", "運ぶ", "運びました", "運んだ", "運んで"),
    ("切符を", "買います", "買う", "買いました", "買った", "買って"),
    ("窓を", "開けます", "開ける", "開けました", "開けた", "開けて"),
    ("電話を", "使います", "使う", "使いました", "使った", "使って"),
    ("会議を", "始めます", "始める", "始めました", "始めた", "始めて"),
    ("絵を", "描きます", "描く", "描きました", "描いた", "描いて"),
    ("鍵を", "返します", "返す", "返しました", "返した", "返して"),
)
JA_PLACES = ("図書館", "公園", "学校", "駅", "家", "会社", "喫茶店", "ホテル", "教室", "空港", "庭", "病院")
JA_TIMES = ("今日", "明日", "昨日", "毎朝", "毎日", "週末に", "午後", "今朝", "来週", "先週")
JA_SUBJECTS = ("私は", "彼は", "彼女は", "母は", "父は", "先生は", "友達は", "弟は", "姉は", "部長は")
JA_QUALITIES = ("静か", "便利", "有名", "親切", "元気", "大切", "簡単", "安全", "自由", "きれい")
# English actions: base form with its object, third person, past.
EN_ACTIONS = (
    ("read", "reads", "read", "a book"), ("write", "writes", "wrote", "a letter"), ("drink", "drinks", "drank", "water"),
    ("eat", "eats", "ate", "lunch"), ("take", "takes", "took", "a photo"), ("watch", "watches", "watched", "a film"),
    ("send", "sends", "sent", "the report"), ("clean", "cleans", "cleaned", "the room"), ("learn", "learns", "learned", "English"),
    ("carry", "carries", "carried", "the bags"), ("buy", "buys", "bought", "a ticket"), ("open", "opens", "opened", "the window"),
    ("use", "uses", "used", "the phone"), ("start", "starts", "started", "the meeting"), ("draw", "draws", "drew", "a picture"),
    ("return", "returns", "returned", "the key"), ("close", "closes", "closed", "the door"), ("check", "checks", "checked", "the list"),
)  # fmt: skip
EN_PLACES = ("library", "park", "school", "station", "house", "office", "café", "hotel", "classroom", "airport", "garden", "hospital")
EN_TIMES = ("today", "tomorrow", "every day", "in the morning", "in the afternoon", "on Monday", "on Friday", "this week", "after lunch", "at noon")
EN_WORDS = (
    "apple", "river", "green", "paper", "table", "water", "music", "light", "house", "stone", "cloud", "bread", "smile", "train", "night", "world",
    "happy", "quiet", "small", "great", "heart", "plant", "sugar", "dream", "north", "south", "ocean", "radio", "model", "point", "early", "fresh",
    "garden", "winter", "summer", "window", "market", "bridge", "forest", "yellow", "orange", "silver", "simple", "travel", "letter", "number",
    "hello", "good", "data", "test", "open", "book", "city", "home", "time", "blue", "red", "sun", "sea", "cat", "dog", "tea", "new", "big",
)  # fmt: skip
JA_WORDS = (
    "さくら", "やま", "かわ", "そら", "うみ", "はな", "ほし", "つき", "かぜ", "ゆき", "あめ", "くも", "もり", "とり", "さかな", "いぬ", "ねこ", "うま",
    "りんご", "みかん", "ぶどう", "いちご", "たまご", "おちゃ", "みず", "ごはん", "すし", "てんぷら", "うどん", "そば", "でんしゃ", "くるま", "ひこうき",
    "がっこう", "としょかん", "こうえん", "えき", "びょういん", "ともだち", "せんせい", "かぞく", "こども", "おんがく", "えいが", "しゃしん", "てがみ",
    "きもの", "まつり", "なつやすみ", "あさ", "よる", "はる", "あき", "ふゆ", "にほん", "とうきょう", "きょうと", "おおさか", "さっぽろ", "ふくおか",
    "ありがとう", "こんにちは", "おはよう", "さようなら", "けーき", "らーめん", "てれび", "かめら", "ほてる", "ばなな", "めろん", "れもん", "こーひー",
)  # fmt: skip
LABELLED = {
    "ja": {
        "スポーツ": ("昨日の試合は三対一で勝ちました", "選手が新記録で優勝した", "チームは次のサッカーの試合に備えている", "野球の練習は朝から始まる",
            "マラソンの大会に出ます"),
        "料理": ("鍋に野菜を入れて煮込みます", "このスープは塩を少し足すとおいしい", "パンを焼くには小麦粉が必要です", "魚を焼いて夕食にした",
            "新しいレシピでカレーを作った"),
        "天気": ("明日は雨が降るでしょう", "今日は晴れて気温が上がります", "台風が近づいている", "北の地方では雪が積もった",
            "午後から雲が増えて風が強くなる"),
        "旅行": ("飛行機で沖縄へ行きました", "温泉のある旅館に泊まる予定です", "新幹線の切符を予約した", "古いお寺を巡る観光ツアーに参加した",
            "海外のホテルを探しています"),
        "音楽": ("ピアノの演奏会に行きました", "新しい曲の歌詞を覚えた", "バンドがアルバムを発表した", "ギターの練習を続けている", "この歌手の声が美しい"),
        "経済": ("株価が大きく下がった", "会社の売り上げが増えました", "銀行が金利を上げると発表した", "物価の上昇が続いている",
            "新しい店の利益は予想より多い"),
        "科学": ("新しい惑星が見つかりました", "研究者が実験の結果を論文にまとめた", "細胞の働きを調べている", "ロケットの打ち上げに成功した",
            "この化学反応は温度に左右される"),
    },
    "en": {
        "sports": ("Our team won the match by two goals", "The runner broke the record in the final race", "Football training starts at nine",
            "She scored in the tennis game", "The players rested after the game"),
        "cooking": ("Boil the potatoes and add some salt", "This soup tastes better with butter", "Bake the bread for thirty minutes",
            "He grilled the fish for dinner", "I tried a new recipe for curry"),
        "weather": ("It will rain tomorrow in the north", "Sunny skies are expected all day", "A storm is coming from the coast",
            "The snow did not melt last night", "Strong wind and clouds arrive in the evening"),
        "travel": ("We flew to Spain for the holidays", "The hotel is close to the airport", "I booked a train ticket for the trip",
            "The tour visits three old castles", "She is packing her suitcase for the journey"),
        "music": ("The band played a new song", "He practises the piano every day", "Her new album has ten songs", "The concert was loud and long",
            "The singer has a beautiful voice"),
        "business": ("The company doubled its profit", "Shares fell after the report", "The bank raised interest rates", "Prices keep rising this year",
            "Sales of the new product were strong"),
        "science": ("A new planet was discovered", "The researchers published the results of the experiment", "The cells grow in warm water",
            "The rocket launch was a success", "This reaction depends on temperature"),
    },
}  # fmt: skip
TOPIC_WORDS = {
    "ja": {
        "スポーツ": ("野球", "サッカー", "テニス", "水泳", "試合", "選手", "マラソン", "柔道"),
        "料理": ("野菜", "スープ", "カレー", "パン", "鍋", "魚料理", "レシピ", "塩"),
        "天気": ("雨", "台風", "雪", "気温", "晴れ", "雲", "強風", "梅雨"),
        "旅行": ("飛行機", "温泉", "旅館", "観光", "新幹線", "海外", "ホテル", "名所"),
        "音楽": ("ピアノ", "ギター", "歌手", "演奏会", "バンド", "歌詞", "アルバム", "合唱"),
        "経済": ("株価", "銀行", "物価", "金利", "利益", "売り上げ", "税金", "貿易"),
        "科学": ("惑星", "細胞", "実験", "ロケット", "化学", "研究者", "電子", "遺伝子"),
    },
    "en": {
        "sports": ("football", "tennis", "baseball", "swimming", "the match", "the players", "the marathon", "the league"),
        "cooking": ("vegetables", "soup", "curry", "bread", "the recipe", "butter", "grilled fish", "salt"),
        "weather": ("rain", "the storm", "snow", "temperature", "sunny skies", "clouds", "strong wind", "fog"),
        "travel": ("the flight", "the hotel", "the airport", "the tour", "suitcases", "the holidays", "train tickets", "sightseeing"),
        "music": ("the piano", "the guitar", "the singer", "the concert", "the band", "songs", "the album", "the choir"),
        "business": ("share prices", "the bank", "profit", "interest rates", "sales", "taxes", "trade", "the market"),
        "science": ("planets", "cells", "the experiment", "rockets", "chemistry", "researchers", "electrons", "genes"),
    },
}  # fmt: skip
TOPIC_FRAMES = {
    "ja": ("今日は{w}の話です", "{w}についての記事を読みました", "最近{w}が話題になっている", "友達に{w}のことを聞いた", "{w}に詳しい人を探しています",
        "来月から{w}の特集が始まる", "{w}の動画を見た", "彼は{w}のことばかり考えている"),
    "en": ("Today we talk about {w}", "I read an article about {w}", "Everyone is talking about {w}", "My friend told me about {w}",
        "They asked an expert about {w}", "The next show is about {w}", "I watched a video about {w}", "He thinks of nothing but {w}"),
}  # fmt: skip
FEELINGS = {
    "ja": {
        "ポジティブ": ("とても楽しかったです", "料理がおいしくて満足しました", "店員が親切でうれしかった", "また行きたいと思います", "期待以上にすばらしい",
            "買って本当によかった", "音がきれいで大好きです"),
        "ネガティブ": ("とても残念でした", "料理が冷たくてまずかった", "店員の態度が悪くて不快だった", "二度と行きません", "期待外れでがっかりした",
            "すぐに壊れて最悪です", "待ち時間が長くて疲れた"),
    },
    "en": {
        "positive": ("I really enjoyed it", "The food was delicious and I am happy", "The staff were kind and helpful", "I want to come again",
            "It was better than I expected", "I love the beautiful sound", "Great value, I recommend it"),
        "negative": ("I was very disappointed", "The food was cold and awful", "The staff were rude to us", "I will never come again",
            "It was worse than I expected", "It broke at once, terrible quality", "The long wait was boring"),
    },
}  # fmt: skip
SUBJECT_MATTER = {
    "ja": ("この店は", "今回の旅は", "新しい電話は", "昨日の映画は", "そのホテルは", "この本は", ""),
    "en": ("This shop: ", "About the trip: ", "The new phone: ", "Yesterday's film: ", "The hotel: ", "This book: ", ""),
}
PHRASES = (
    ("おはようございます。", "Good morning."), ("こんにちは。", "Hello."), ("こんばんは。", "Good evening."), ("おやすみなさい。", "Good night."),
    ("ありがとうございます。", "Thank you very much."), ("すみません。", "Excuse me."), ("ごめんなさい。", "I am sorry."), ("はじめまして。",
        "Nice to meet you."),
    ("お元気ですか。", "How are you?"), ("元気です。", "I am fine."), ("さようなら。", "Goodbye."), ("また明日。", "See you tomorrow."),
    ("いくらですか。", "How much is it?"), ("駅はどこですか。", "Where is the station?"), ("今何時ですか。", "What time is it now?"), ("助けてください。",
        "Please help me."),
    ("少し待ってください。", "Please wait a moment."), ("もう一度言ってください。", "Please say it again."), ("わかりました。", "I understand."),
        ("わかりません。", "I do not understand."),
    ("お名前は何ですか。", "What is your name?"), ("日本語を話せますか。", "Can you speak Japanese?"), ("英語を話せますか。", "Can you speak English?"),
        ("お会計をお願いします。", "The bill, please."),
)  # fmt: skip
