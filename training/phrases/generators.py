"""Slots whose fillings are computed: numbers, times, dates, prices, lengths of time and of way."""

from __future__ import annotations

import random
from collections.abc import Callable

from training.phrases.grammar import Filling, plain

_MONTHS = [
    line.split()
    for line in (
        "January janvier enero Januar",
        "February février febrero Februar",
        "March mars marzo März",
        "April avril abril April",
        "May mai mayo Mai",
        "June juin junio Juni",
        "July juillet julio Juli",
        "August août agosto August",
        "September septembre septiembre September",
        "October octobre octubre Oktober",
        "November novembre noviembre November",
        "December décembre diciembre Dezember",
    )
]
_CURRENCIES = (
    ("euros", "euros", "euros", "Euro", "欧元"),
    ("dollars", "dollars", "dólares", "Dollar", "美元"),
    ("pounds", "livres", "libras", "Pfund", "英镑"),
    ("yuan", "yuans", "yuanes", "Yuan", "元"),
)
_MINUTES = (
    ("minutes", "minutes", "minutos", "Minuten", "分钟"),
    ("hours", "heures", "horas", "Stunden", "个小时"),
)
_DURATIONS = (
    ("days", "jours", "días", "Tage", "天"),
    ("weeks", "semaines", "semanas", "Wochen", "周"),
    ("months", "mois", "meses", "Monate", "个月"),
    ("hours", "heures", "horas", "Stunden", "个小时"),
)
_DISTANCES = (
    ("metres", "mètres", "metros", "Meter", "米"),
    ("kilometres", "kilomètres", "kilómetros", "Kilometer", "公里"),
)
_TEENS = (
    "thirteen treize trece dreizehn,fourteen quatorze catorce vierzehn,fifteen quinze quince fünfzehn,"
    "sixteen seize dieciséis sechzehn,seventeen dix-sept diecisiete siebzehn,"
    "eighteen dix-huit dieciocho achtzehn,nineteen dix-neuf diecinueve neunzehn"
)
_TENS = (
    "twenty vingt veinte zwanzig,thirty trente treinta dreißig,forty quarante cuarenta vierzig,"
    "fifty cinquante cincuenta fünfzig,sixty soixante sesenta sechzig,seventy soixante setenta siebzig,"
    "eighty quatre-vingt ochenta achtzig,ninety quatre-vingt noventa neunzig"
)
_UNITS = (
    "two deux dos zwei,three trois tres drei,four quatre cuatro vier,five cinq cinco fünf,"
    "six six seis sechs,seven sept siete sieben,eight huit ocho acht,nine neuf nueve neun"
)
_FRENCH_TEENS = (
    "dix",
    "onze",
    "douze",
    "treize",
    "quatorze",
    "quinze",
    "seize",
    "dix-sept",
    "dix-huit",
    "dix-neuf",
)
_CHINESE = "零一二三四五六七八九"


def number(rng: random.Random) -> Filling:
    """2 to 999 in digits, small ones more often."""
    value = str(rng.randint(2, 10 ** rng.choice((1, 2, 2, 3)) - 1))
    return plain(value, value, value, value, value, value)


def phone(rng: random.Random) -> Filling:
    """A telephone number of 5 to 8 digits."""
    value = "".join(rng.choice("0123456789") for _ in range(rng.randint(5, 8)))
    return plain(value, value, value, value, value, value)


def year(rng: random.Random) -> Filling:
    """1930 to 2026."""
    value = str(rng.randint(1930, 2026))
    return plain(value, value, value, value, value, value)


def number_word(rng: random.Random) -> Filling:
    """13 to 99 in words, but for those that end in one: Spanish shortens these before a noun."""
    value = rng.choice([n for n in range(13, 100) if n % 10 != 1])
    tens, ones = divmod(value, 10)
    zh = ("" if tens == 1 else _CHINESE[tens]) + "十" + (_CHINESE[ones] if ones else "")
    if tens == 1:
        en, fr, es, de = _TEENS.split(",")[ones - 3].split()
        return plain(en, en, fr, es, de, zh)
    en, fr, es, de = _TENS.split(",")[tens - 2].split()
    if tens in (7, 9):
        fr = f"{fr}-{_FRENCH_TEENS[ones]}"
    elif value == 80:
        fr += "s"
    if ones:
        one_en, one_fr, one_es, one_de = _UNITS.split(",")[ones - 2].split()
        en, de = f"{en}-{one_en}", f"{one_de}und{de}"
        fr = fr if tens in (7, 9) else f"{fr}-{one_fr}"
        accented = {"dos": "dós", "tres": "trés", "seis": "séis"}
        es = "veinti" + accented.get(one_es, one_es) if tens == 2 else f"{es} y {one_es}"
    return plain(en, en, fr, es, de, zh)


def time(rng: random.Random) -> Filling:
    """A time of day: `7:30`, `7 o'clock` or `3 pm`."""
    kind = rng.random()
    if kind < 0.6:
        hour, minute = rng.randint(2, 23), rng.randint(0, 59)
        if minute == 0:
            minute = 30
        clock = f"{hour}:{minute:02}"
        return plain(
            clock, clock, f"{hour}h{minute:02}", f"las {clock}", f"{clock} Uhr", f"{hour}点{minute:02}分"
        )
    if kind < 0.8:
        hour = rng.randint(2, 23)
        return plain(
            f"{hour}", f"{hour} o'clock", f"{hour} heures", f"las {hour}", f"{hour} Uhr", f"{hour}点"
        )
    hour = rng.randint(2, 11)
    if rng.random() < 0.5:
        hour = max(hour, 5)
        parts = ("am", "heures du matin", "de la mañana", "Uhr morgens", "上午")
    elif hour < 6:
        parts = ("pm", "heures de l'après-midi", "de la tarde", "Uhr nachmittags", "下午")
    else:
        parts = ("pm", "heures du soir", "de la noche", "Uhr abends", "晚上")
    en, fr, es, de, zh = parts
    return plain(
        f"{hour} {en}",
        f"{hour} {en}",
        f"{hour} {fr}",
        f"las {hour} {es}",
        f"{hour} {de}",
        f"{zh}{hour}点",
        f"{hour}{en}",
        f"{hour} {en[0]}.m.",
    )


def date(rng: random.Random) -> Filling:
    """A day of the year, without its year."""
    month, day = rng.randint(1, 12), rng.randint(1, 28)
    en, fr, es, de = _MONTHS[month - 1]
    ordinal = "1er" if day == 1 else str(day)
    return plain(
        f"{month}-{day}",
        f"{en} {day}",
        f"le {ordinal} {fr}",
        f"el {day} de {es}",
        f"{day}. {de}",
        f"{month}月{day}日",
        f"{day} {en}",
        f"the {day} of {en}",
    )


def price(rng: random.Random) -> Filling:
    """A sum of money, with cents or without."""
    en, fr, es, de, zh = rng.choice(_CURRENCIES)
    whole = str(rng.randint(2, 10 ** rng.choice((1, 2, 2, 3)) - 1))
    if rng.random() < 0.5:
        return plain(
            whole + en, f"{whole} {en}", f"{whole} {fr}", f"{whole} {es}", f"{whole} {de}", f"{whole}{zh}"
        )
    cents = f"{rng.randint(1, 99):02}"
    point, comma = f"{whole}.{cents}", f"{whole},{cents}"
    return plain(
        point + en, f"{point} {en}", f"{comma} {fr}", f"{comma} {es}", f"{comma} {de}", f"{point}{zh}"
    )


def _measured(units: tuple[tuple[str, ...], ...], highest: int) -> Callable[[random.Random], Filling]:
    def generate(rng: random.Random) -> Filling:
        en, fr, es, de, zh = rng.choice(units)
        n = rng.randint(2, highest)
        spellings = (f"{n} {en.replace('metre', 'meter')}",) if "metre" in en else ()
        return plain(f"{n}{en}", f"{n} {en}", f"{n} {fr}", f"{n} {es}", f"{n} {de}", f"{n}{zh}", *spellings)

    return generate


GENERATORS: dict[str, Callable[[random.Random], Filling]] = {
    "n": number,
    "phone": phone,
    "year": year,
    "numw": number_word,
    "time": time,
    "date": date,
    "price": price,
    "mins": _measured(_MINUTES, 60),
    "dur": _measured(_DURATIONS, 30),
    "nights": _measured((("nights", "nuits", "noches", "Nächte", "晚"),), 30),
    "dist": _measured(_DISTANCES, 900),
}
