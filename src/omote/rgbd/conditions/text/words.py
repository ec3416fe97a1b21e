"""Wordings of the seven categories, English and Japanese, in two sets that share no word."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

Language = Literal["en", "ja"]
Split = Literal["train", "test"]
LANGUAGES: tuple[Language, ...] = get_args(Language)


@dataclass(frozen=True, kw_only=True)
class Words:
    """Wordings of one category: ``how`` completes "looks …" (JA: before 顔), ``what`` completes "shows …" (JA: 〜の表情)."""

    how: tuple[str, ...]
    what: tuple[str, ...]


# fmt: off
_WORDS: Mapping[Language, Mapping[Split, Mapping[str, tuple[str, str]]]] = {
    "en": {
        "train": {
            "neutral": (
                "neutral / expressionless / calm / blank / relaxed / impassive / at rest / deadpan / composed / "
                "indifferent / stone-faced / poker-faced / inexpressive / placid / at ease / vacant / stoic / detached / "
                "unreadable / dispassionate / showing no feelings / without any emotion",
                "no expression / a neutral expression / a poker face / a resting face / no emotion / a blank look / "
                "a stoic face / a straight face / a deadpan stare / indifference / composure / calmness / "
                "an unreadable face"),
            "happy": (
                "happy / joyful / cheerful / glad / delighted / pleased / amused / merry / smiling / grinning / laughing / "
                "ecstatic / elated / thrilled / jolly / gleeful / jubilant / content / radiant / in a good mood / "
                "giggling / euphoric / over the moon / blissful / chuckling / lighthearted / in high spirits",
                "a smile / joy / happiness / a big grin / delight / a laugh / a cheerful smile / glee / elation / "
                "amusement / bliss / a toothy grin / laughter / a wide grin / contentment / a happy face / mirth"),
            "sad": (
                "sad / unhappy / sorrowful / miserable / depressed / tearful / down / heartbroken / crying / upset / "
                "mournful / dejected / despondent / melancholic / glum / blue / downcast / grieving / weepy / forlorn / "
                "crestfallen / woeful / low-spirited / in tears / sobbing / disappointed / wistful / close to tears",
                "sadness / sorrow / grief / a sad frown / unhappiness / misery / tears / melancholy / despair / "
                "dejection / heartbreak / mourning / disappointment / a tear-stained face / woe / a downcast look"),
            "angry": (
                "angry / mad / furious / irritated / annoyed / enraged / cross / hostile / fuming / aggressive / irate / "
                "raging / seething / incensed / ticked off / pissed off / exasperated / indignant / resentful / "
                "boiling with anger / steaming / vexed / grumpy / bad-tempered / wild with rage / snarling / hateful",
                "anger / rage / fury / an angry scowl / irritation / bared teeth in anger / hostility / indignation / "
                "resentment / a glare / an enraged look / a snarl / exasperation / aggression / temper / bitterness / "
                "a furious stare"),
            "surprised": (
                "surprised / astonished / amazed / shocked / startled / stunned / wide-eyed with surprise / dumbfounded / "
                "speechless / thunderstruck / taken aback / staggered / open-mouthed / bewildered / caught off guard / "
                "awestruck / gobsmacked / blown away / in disbelief / agape / perplexed by the news",
                "surprise / astonishment / amazement / raised eyebrows and an open mouth / shock / wonder / disbelief / "
                "awe / bewilderment / a dropped jaw / a startled look / wide eyes / incredulity / a stunned look"),
            "fearful": (
                "afraid / scared / fearful / frightened / terrified / anxious / panicked / nervous / worried / alarmed / "
                "spooked / shaken / trembling with fear / apprehensive / fear-stricken / timid / uneasy / intimidated / "
                "haunted / freaked out / panic-stricken / scared to death / in terror",
                "fear / terror / fright / panic / dread / anxiety / a frightened look / alarm / worry / apprehension / "
                "nervousness / a scared look / unease / trepidation / a panicked face"),
            "disgusted": (
                "disgusted / repulsed / revolted / sickened / nauseated / grossed out / sick / appalled by a bad smell / "
                "nauseous / put off / repelled / ready to vomit / gagging / squeamish / about to throw up / averse / "
                "retching / sick to the stomach / wrinkling the nose / offended by the taste / turned off by it",
                "disgust / revulsion / a wrinkled nose / nausea / distaste / repulsion / aversion / a curled lip / "
                "a gagging face / an upturned nose / abhorrence / a yuck face / strong dislike / sickness"),
        },
        "test": {
            "neutral": ("unemotional / emotionless", "a plain, unmoved face / an empty expression"),
            "happy": ("overjoyed / beaming / full of joy", "a broad smile / cheerfulness"),
            "sad": ("sorrowing / gloomy / about to cry", "heartache / a sorrowful face"),
            "angry": ("outraged / livid / infuriated", "wrath / an infuriated face"),
            "surprised": ("astounded / flabbergasted", "utter surprise / an amazed gasp"),
            "fearful": ("horrified / full of fear / petrified", "horror / a terrified stare"),
            "disgusted": ("full of disgust / queasy", "loathing / a disgusted grimace"),
        },
    },
    "ja": {
        "train": {
            "neutral": (
                "無表情な / 真顔の / 落ち着いた / 落ち着いている / 穏やかで無表情な / 普通の / 平静な / 感情のない / "
                "表情を変えない / 無感動な / 淡々とした / 静かな / クールな / 感情を見せない / ぼんやりした / "
                "何も感じていない / リラックスした / 平然とした / 動じない / ニュートラルな",
                "無表情 / 真顔 / すまし顔 / 普通の表情 / 自然な表情 / 平静 / ポーカーフェイス / 無感動 / "
                "ニュートラルな表情 / 静かな表情 / 平然とした顔 / 落ち着き / 感情を抑えた顔"),
            "happy": (
                "嬉しそうな / 楽しそうな / 笑っている / 喜んでいる / 幸せそうな / にこやかな / 微笑んでいる / "
                "たのしそうな / わらっている / 笑ってる / うれしそうな / ご機嫌な / ニコニコした / ニコニコしている / "
                "ほほえんでいる / 上機嫌な / はしゃいでいる / 歓喜している / 浮かれている / 満足そうな / 愉快そうな / "
                "楽しい / ハッピーな / 爆笑している / 晴れやかな / ゆかいな",
                "笑顔 / 喜び / 微笑み / 嬉しさ / 満面の笑み / 楽しさ / ほほえみ / スマイル / 歓喜 / 大笑い / ニコニコ顔 / "
                "満足感 / 楽しそうな顔 / 喜びの笑み / うれしさ"),
            "sad": (
                "悲しそうな / 悲しんでいる / 泣きそうな / 落ち込んでいる / 寂しそうな / 辛そうな / 泣いている / "
                "かなしそうな / ないている / 泣いてる / 悲嘆にくれた / 涙を流している / しょんぼりした / 切なそうな / "
                "憂鬱そうな / がっかりした / 沈んだ / 元気のない / つらそうな / 号泣している / 失望した / 哀しそうな / "
                "さびしそうな / 落胆した",
                "悲しみ / 泣き顔 / 悲しさ / 寂しさ / 落胆 / 涙 / 哀しみ / 悲嘆 / 憂鬱 / 絶望 / 切なさ / がっかりした顔 / "
                "失望"),
            "angry": (
                "怒っている / 怒った / 腹を立てている / イライラしている / 不機嫌な / 激怒している / おこっている / "
                "怒ってる / おこった / ムカついている / 憤慨している / かんかんの / キレている / むっとした / "
                "頭にきている / いらだっている / 憤っている / 怒鳴っている / プンプンした / 苛立った / 険しい / "
                "敵意のある / 怒りに満ちた / ぶち切れた",
                "怒り / 怒った顔 / 激怒 / 苛立ち / 憤り / 憤慨 / いらだち / 敵意 / 怒りの表情 / 険しい顔 / 逆上 / 不機嫌"),
            "surprised": (
                "驚いている / 驚いた / びっくりした / びっくりしている / 仰天した / 目を丸くした / おどろいた / 驚いてる / "
                "ビックリした / あっけにとられた / 唖然とした / ぎょっとした / ハッとした / たまげた / 目を見開いた / "
                "息をのんだ / 呆然とした / ショックを受けた / どきっとした / 衝撃を受けた / 面食らった / おどろいている",
                "驚き / びっくりした表情 / 驚いた顔 / 仰天 / 衝撃 / ショック / おどろき / 唖然 / びっくり顔 / "
                "目を見開いた顔"),
            "fearful": (
                "怖がっている / 恐れている / 怯えている / 怯えた / 恐ろしそうな / 不安そうな / 恐怖を感じている / "
                "こわがっている / 怖がってる / 怖そうな / ビクビクした / おびえている / 震えている / おののいている / "
                "パニックになった / ぞっとした / 心配そうな / びびっている / おそれている / 青ざめた / うろたえた / "
                "ひるんだ / おどおどした / ゾッとしている",
                "恐怖 / 恐れ / 怯え / 怖がった顔 / 不安 / おびえ / パニック / 戦慄 / 心配 / こわさ / おびえた顔 / 怖れ / "
                "恐慌"),
            "disgusted": (
                "嫌そうな / 嫌悪している / 気持ち悪そうな / うんざりした / 不快そうな / 吐き気がする / いやそうな / "
                "嫌がってる / きもちわるそうな / 嫌がっている / むかむかした / 吐きそうな / ゲンナリした / 嫌悪に満ちた / "
                "顔をしかめた / きたないものを見た / いやがっている / 臭そうな / 不味そうな / げんなりした / 嫌気がさした / "
                "反吐が出そうな",
                "嫌悪 / 嫌悪感 / 不快感 / 嫌そうな顔 / 吐き気 / 嫌気 / しかめっ面 / 拒絶 / 不快 / 気持ち悪さ / "
                "げんなりした顔 / 鼻にしわを寄せた顔"),
        },
        "test": {
            "neutral": ("表情のない / 冷静な", "何の感情もない顔 / 無感情"),
            "happy": ("大喜びの / にっこりした / うれしい", "明るい笑い / 幸せ"),
            "sad": ("悲しい / 悲しげな", "深い悲しみ / 泣き出しそうな顔"),
            "angry": ("怒り狂った / 腹立たしそうな", "激しい怒り / 怒りの形相"),
            "surprised": ("びっくり仰天した / 驚愕した", "驚愕 / 大きな驚き"),
            "fearful": ("恐怖に怯えた / 怖そうにしている", "恐怖心 / 怖い思いをしている顔"),
            "disgusted": ("気持ち悪がっている / 嫌悪感を抱いた", "強い嫌悪 / 気分が悪そうな顔"),
        },
    },
}
# fmt: on

WORDS: Mapping[Language, Mapping[Split, Mapping[str, Words]]] = {
    language: {
        split: {
            category: Words(how=tuple(how.split(" / ")), what=tuple(what.split(" / ")))
            for category, (how, what) in words.items()
        }
        for split, words in splits.items()
    }
    for language, splits in _WORDS.items()
}
