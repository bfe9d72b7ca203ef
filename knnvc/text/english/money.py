"""Money: "£1.2bn" is "one point two billion pounds"."""

from __future__ import annotations

import re

from knnvc.text.english.numbers import (
    NUMBER,
    RANGE,
    SCALE,
    SCALES,
    Match,
    Numbers,
    Rule,
    after,
    before,
)
from knnvc.text.english.units import UNITS

# (one, many, hundredth, hundredths)
Coin = tuple[str, str, str, str]
_SIGNS: dict[str, Coin] = {
    "$": ("dollar", "dollars", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
    "€": ("euro", "euros", "cent", "cents"),
    "¥": ("yen", "yen", "", ""),
    "₹": ("rupee", "rupees", "paisa", "paise"),
    "₽": ("ruble", "rubles", "kopeck", "kopecks"),
    "₩": ("won", "won", "", ""),
    "₺": ("lira", "lira", "", ""),
    "₪": ("shekel", "shekels", "", ""),
    "₴": ("hryvnia", "hryvnias", "", ""),
    "₦": ("naira", "naira", "", ""),
    "₫": ("dong", "dong", "", ""),
    "฿": ("baht", "baht", "", ""),
    "₿": ("bitcoin", "bitcoins", "", ""),
    "₱": ("peso", "pesos", "centavo", "centavos"),
    "₡": ("colón", "colones", "", ""),
    "₲": ("guarani", "guaranis", "", ""),
    "₵": ("cedi", "cedis", "pesewa", "pesewas"),
    "₸": ("tenge", "tenge", "", ""),
    "₾": ("lari", "lari", "", ""),
    "₼": ("manat", "manat", "", ""),
    "¤": ("unit", "units", "", ""),
}
# Letters before a dollar sign.
_COUNTRIES = {
    "US": "U-S ", "A": "Australian ", "AU": "Australian ", "C": "Canadian ", "CA": "Canadian ",
    "CAD": "Canadian ", "AUD": "Australian ", "USD": "U-S ", "NZ": "New Zealand ",
    "HK": "Hong Kong ", "S": "Singapore ", "NT": "Taiwan ", "J": "Jamaican ", "TT": "Trinidad ",
    "Z": "Zimbabwean ",
    "B": "Bahamian ", "BZ": "Belize ", "FJ": "Fijian ", "Bds": "Barbados ", "EC": "East Caribbean ",
}  # fmt: skip
_PESO: Coin = ("peso", "pesos", "centavo", "centavos")
_DOLLARS: dict[str, Coin] = {  # where the sign stands for another coin
    "R": ("Brazilian real", "Brazilian reais", "centavo", "centavos"),
    "MX": ("Mexican peso", "Mexican pesos", "centavo", "centavos"),
    "Mex": ("Mexican peso", "Mexican pesos", "centavo", "centavos"),
    "AR": ("Argentine peso", "Argentine pesos", "centavo", "centavos"),
    "CLP": ("Chilean peso", "Chilean pesos", "", ""),
    "COL": ("Colombian peso", "Colombian pesos", "", ""),
    "RD": ("Dominican peso", "Dominican pesos", "centavo", "centavos"),
    "CU": ("Cuban peso", "Cuban pesos", "centavo", "centavos"),
}
_CODES: dict[str, Coin] = {
    "USD": ("U-S dollar", "U-S dollars", "cent", "cents"),
    "EUR": _SIGNS["€"],
    "GBP": _SIGNS["£"],
    "JPY": _SIGNS["¥"],
    "INR": _SIGNS["₹"],
    "Rs": _SIGNS["₹"],
    "CHF": ("Swiss franc", "Swiss francs", "centime", "centimes"),
    "AUD": ("Australian dollar", "Australian dollars", "cent", "cents"),
    "CAD": ("Canadian dollar", "Canadian dollars", "cent", "cents"),
    "NZD": ("New Zealand dollar", "New Zealand dollars", "cent", "cents"),
    "HKD": ("Hong Kong dollar", "Hong Kong dollars", "cent", "cents"),
    "SGD": ("Singapore dollar", "Singapore dollars", "cent", "cents"),
    "CNY": ("yuan", "yuan", "", ""),
    "RMB": ("yuan", "yuan", "", ""),
    "SEK": ("Swedish krona", "Swedish kronor", "", ""),
    "NOK": ("Norwegian krone", "Norwegian kroner", "", ""),
    "DKK": ("Danish krone", "Danish kroner", "", ""),
    "BRL": _DOLLARS["R"],
    "MXN": _DOLLARS["MX"],
    "PLN": ("zloty", "zlotys", "", ""),
    "CZK": ("Czech koruna", "Czech korunas", "", ""),
    "HUF": ("forint", "forints", "", ""),
    "TRY": _SIGNS["₺"],
    "RUB": _SIGNS["₽"],
    "UAH": _SIGNS["₴"],
    "ILS": _SIGNS["₪"],
    "KRW": _SIGNS["₩"],
    "THB": _SIGNS["฿"],
    "ZAR": ("rand", "rand", "cent", "cents"),
    "BTC": _SIGNS["₿"],
    "kr": ("krone", "kroner", "", ""),
    "Kr": ("krone", "kroner", "", ""),
    "Fr": ("franc", "francs", "centime", "centimes"),
    "SFr": ("Swiss franc", "Swiss francs", "centime", "centimes"),
    "PKR": ("Pakistani rupee", "Pakistani rupees", "", ""),
    "AED": ("dirham", "dirhams", "", ""),
    "SAR": ("riyal", "riyals", "", ""),
    "EGP": ("Egyptian pound", "Egyptian pounds", "", ""),
    "NGN": _SIGNS["₦"],
    "KES": ("Kenyan shilling", "Kenyan shillings", "", ""),
    "TWD": ("Taiwan dollar", "Taiwan dollars", "", ""),
    "IDR": ("rupiah", "rupiah", "", ""),
    "MYR": ("ringgit", "ringgit", "sen", "sen"),
    "PHP": _SIGNS["₱"],
    "VND": _SIGNS["₫"],
    "RM": ("ringgit", "ringgit", "sen", "sen"),
    "zł": ("zloty", "zlotys", "", ""),
    "Kč": ("Czech koruna", "Czech korunas", "", ""),
}
COIN = "[" + "".join(_SIGNS) + "]"
_LETTERS = "|".join(sorted({*_COUNTRIES, *_DOLLARS}, key=len, reverse=True))
_CODE = "|".join(_CODES)
_EACH = r"(?:\s?/\s?(?P<each>[A-Za-zµΩ]+[²³]?)(?![\w/]))?"


def rules(numbers: Numbers) -> list[Rule]:
    """The rules for money, before those for ranges and numbers."""
    money = _Money(numbers)
    second = SCALE.replace("scale", "s2")
    return [
        Rule(rf"(?<![\w])(?P<coin>{COIN})[-−](?=\.?\d)", lambda m: "-" + m["coin"]),
        Rule(r"\$(?!(?:US|NZ|HK|AU|CA|MX)\s?\d)(?=\{?[A-Za-z_]{2})", lambda m: " dollar "),
        Rule(
            r"\b(?P<a>US|NZ|HK|AU|MX) \$(?=\d)|\$(?P<b>US|NZ|HK|AU|CA)\s?(?=\d)",
            lambda m: f"{m['a'] or m['b']}$",
        ),
        Rule(
            rf"(?P<coin>(?:\b(?:{_LETTERS}))?{COIN})\s?(?P<n>{NUMBER}){SCALE}?{RANGE}"
            rf"(?:{_LETTERS})?{COIN}?\s?(?P<n2>{NUMBER})(?:(?P<scale2>{second})\b)?",
            money.range,
        ),
        Rule(
            rf"(?P<minus>[-−])?(?:\b(?P<country>{_LETTERS}))?(?P<coin>{COIN})\s?(?P<n>{NUMBER})"
            rf"(?:{SCALE}\b)?(?:(?:\s?(?P<code>USD|CAD|AUD|NZD|HKD|SGD|MXN)\b)?{_EACH}|"
            r"(?P<per>-(?=[a-z])))",
            money.amount,
        ),
        Rule(
            rf"\b(?P<coin>{_CODE})\.?\s?(?P<n>{NUMBER})(?:{SCALE}\b)?{_EACH}",
            money.amount,
        ),
        Rule(
            rf"(?<![\w.,])(?P<n>{NUMBER}|\d+,\d\d)(?:{SCALE})?\s?"
            rf"(?P<coin>{COIN}|\b(?:{_CODE})\b){_EACH}",
            money.amount,
        ),
        Rule(
            r"(?<![\w.,])(?P<n>\d{1,3})(?P<coin>p|c|¢)\b|(?<![\w.,])(?P<n2>\d{1,3})¢",
            money.pence,
        ),
    ]


def leftovers() -> list[Rule]:
    """Signs of coins without a number; letters before them stay apart."""
    return [
        Rule(rf"(?P<coin>{COIN})", lambda m: f" {_SIGNS[m['coin']][1]} "),
        Rule(r"¢", lambda m: " cents "),
    ]


class _Money:
    """How money is said."""

    def __init__(self, numbers: Numbers) -> None:
        self.numbers = numbers

    def amount(self, m: Match) -> str:
        """A number with its coin."""
        values = m.groupdict()
        letters = values.get("country") or ""
        coin, country = _coin(letters, m["coin"])
        if values.get("code"):  # "$5 USD"
            coin = _CODES[values["code"]]
        # "a $5 bill", but "for $5 a head".
        ahead, behind = before(m)[-3:], after(m)
        single = bool(re.search(r"\b[Aa]n? $", ahead) and re.match(r"[ -][a-z]", behind))
        number, scale = m["n"], values.get("scale")
        if re.fullmatch(r"\d+,\d\d", number):  # 5,50 €
            number = number.replace(",", ".")
        per = "-" if values.get("per") else ""
        said = self._words(number, scale, coin, country, single or bool(per)).rstrip() + per
        each = values.get("each")
        if each:
            said += f" per {UNITS[each][0] if each in UNITS else each}"
        return ("minus " if values.get("minus") else "") + said + ("" if per else " ")

    def range(self, m: Match) -> str:
        """ "£3m-£4m"."""
        coin, country = _coin(m["coin"][:-1], m["coin"][-1])
        first = self.numbers.number(m["n"])
        if m["scale"] and m["scale"] != m["s2"]:
            first += f" {SCALES[m['scale']]}"
        return f"{first} to {self._words(m['n2'], m['s2'], coin, country)}"

    def pence(self, m: Match) -> str:
        """ "50p", "5¢"."""
        number = m["n"] or m["n2"]
        if m["coin"] == "p":
            return f"{self.numbers.cardinal(number)} pence"
        return f"{self.numbers.cardinal(number)} {'cent' if number == '1' else 'cents'}"

    def _words(
        self, number: str, scale: str | None, coin: Coin, country: str, adjective: bool = False
    ) -> str:
        one, many, cent, cents = coin
        if scale:
            name = one if adjective else many
            return f"{self.numbers.number(number)} {SCALES[scale]} {country}{name}"
        whole, _, hundredths = number.replace(",", "").partition(".")
        if len(hundredths) != 2 or not cent:
            name = one if adjective or number == "1" else many
            return f"{self.numbers.number(number)} {country}{name} "
        coins = int(hundredths)
        small = f"{self.numbers.cardinal(str(coins))} {cent if coins == 1 else cents}"
        if not int(whole or 0) and coins:
            return small
        whole_name = one if whole == "1" else many
        large = f"{self.numbers.cardinal(whole or '0')} {country}{whole_name}"
        return f"{large} and {small}" if coins else large


def _coin(letters: str, sign: str) -> tuple[Coin, str]:
    """A coin, and the country that its letters name."""
    if sign == "$" and letters in _DOLLARS:
        return _DOLLARS[letters], ""
    return _SIGNS.get(sign) or _CODES[sign], _COUNTRIES.get(letters, "")
