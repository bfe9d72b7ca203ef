"""English as written in newspapers to English as read out: numbers, dates, money and the like.

`verbalize` is a list of rules, applied in order; each rewrites what one regular expression finds,
and no rule finds what an earlier one wrote out in words. Numbers become words with `num2words`.
A full stop that ended both an abbreviation and its sentence is kept.

American English reads 3/4/2026 as March 4, British as 3 April, and says "and" in 105.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

Match = re.Match[str]

_MONTHS = (
    "January February March April May June July August September October November December".split()
)
_MONTH = (
    r"(?P<month>Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|"
    r"Sept?(?:ember)?|Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?)\b\.?"
)
_WEEKDAYS = {
    "Mon": "Monday", "Tue": "Tuesday", "Tues": "Tuesday", "Wed": "Wednesday", "Thu": "Thursday",
    "Thur": "Thursday", "Thurs": "Thursday", "Fri": "Friday", "Sat": "Saturday", "Sun": "Sunday",
}  # fmt: skip
_NUM = r"(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
_SCALES = {
    "hundred": "hundred", "thousand": "thousand", "million": "million", "billion": "billion",
    "trillion": "trillion", "k": "thousand", "K": "thousand", "m": "million", "mn": "million",
    "mln": "million", "M": "million", "bn": "billion", "B": "billion", "b": "billion",
    "tn": "trillion", "trn": "trillion", "T": "trillion",
}  # fmt: skip
_SCALE = r"(?:\s?-?(?P<scale>hundred|thousand|million|billion|trillion|mln|trn|bn|tn|mn|[kKmMbBT]))"

# (one, many, hundredth, hundredths)
_COINS: dict[str, tuple[str, str, str, str]] = {
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
}
_COUNTRIES = {
    "US": "U-S ", "A": "Australian ", "AU": "Australian ", "C": "Canadian ", "CA": "Canadian ",
    "NZ": "New Zealand ", "HK": "Hong Kong ", "S": "Singapore ", "NT": "Taiwan ",
}  # fmt: skip
_CODES: dict[str, tuple[str, str, str, str]] = {
    "USD": ("U-S dollar", "U-S dollars", "cent", "cents"),
    "EUR": _COINS["€"],
    "GBP": _COINS["£"],
    "JPY": _COINS["¥"],
    "INR": _COINS["₹"],
    "Rs": _COINS["₹"],
    "CHF": ("Swiss franc", "Swiss francs", "centime", "centimes"),
    "AUD": ("Australian dollar", "Australian dollars", "cent", "cents"),
    "CAD": ("Canadian dollar", "Canadian dollars", "cent", "cents"),
    "CNY": ("yuan", "yuan", "", ""),
    "RMB": ("yuan", "yuan", "", ""),
    "SEK": ("Swedish krona", "Swedish kronor", "", ""),
    "NOK": ("Norwegian krone", "Norwegian kroner", "", ""),
    "DKK": ("Danish krone", "Danish kroner", "", ""),
}
_COIN = "[" + "".join(_COINS) + "]"

_UNITS: dict[str, tuple[str, str]] = {
    "km/h": ("kilometer per hour", "kilometers per hour"),
    "kph": ("kilometer per hour", "kilometers per hour"),
    "mph": ("mile per hour", "miles per hour"),
    "m/s": ("meter per second", "meters per second"),
    "kWh": ("kilowatt hour", "kilowatt hours"),
    "MWh": ("megawatt hour", "megawatt hours"),
    "GWh": ("gigawatt hour", "gigawatt hours"),
    "TWh": ("terawatt hour", "terawatt hours"),
    "km²": ("square kilometer", "square kilometers"),
    "m²": ("square meter", "square meters"),
    "cm²": ("square centimeter", "square centimeters"),
    "m³": ("cubic meter", "cubic meters"),
    "cm³": ("cubic centimeter", "cubic centimeters"),
    "sq ft": ("square foot", "square feet"),
    "sq km": ("square kilometer", "square kilometers"),
    "sq mi": ("square mile", "square miles"),
    "km": ("kilometer", "kilometers"),
    "cm": ("centimeter", "centimeters"),
    "mm": ("millimeter", "millimeters"),
    "µm": ("micrometer", "micrometers"),
    "nm": ("nanometer", "nanometers"),
    "m": ("meter", "meters"),
    "mi": ("mile", "miles"),
    "yd": ("yard", "yards"),
    "ft": ("foot", "feet"),
    "kg": ("kilogram", "kilograms"),
    "mg": ("milligram", "milligrams"),
    "µg": ("microgram", "micrograms"),
    "g": ("gram", "grams"),
    "lb": ("pound", "pounds"),
    "lbs": ("pound", "pounds"),
    "oz": ("ounce", "ounces"),
    "ml": ("milliliter", "milliliters"),
    "mL": ("milliliter", "milliliters"),
    "cl": ("centiliter", "centiliters"),
    "l": ("liter", "liters"),
    "L": ("liter", "liters"),
    "ha": ("hectare", "hectares"),
    "°C": ("degree Celsius", "degrees Celsius"),
    "°F": ("degree Fahrenheit", "degrees Fahrenheit"),
    "° C": ("degree Celsius", "degrees Celsius"),
    "° F": ("degree Fahrenheit", "degrees Fahrenheit"),
    "°": ("degree", "degrees"),
    "kHz": ("kilohertz", "kilohertz"),
    "MHz": ("megahertz", "megahertz"),
    "GHz": ("gigahertz", "gigahertz"),
    "Hz": ("hertz", "hertz"),
    "dB": ("decibel", "decibels"),
    "kW": ("kilowatt", "kilowatts"),
    "MW": ("megawatt", "megawatts"),
    "GW": ("gigawatt", "gigawatts"),
    "W": ("watt", "watts"),
    "kV": ("kilovolt", "kilovolts"),
    "V": ("volt", "volts"),
    "hp": ("horsepower", "horsepower"),
    "kcal": ("kilocalorie", "kilocalories"),
    "kJ": ("kilojoule", "kilojoules"),
    "kB": ("kilobyte", "kilobytes"),
    "KB": ("kilobyte", "kilobytes"),
    "MB": ("megabyte", "megabytes"),
    "GB": ("gigabyte", "gigabytes"),
    "TB": ("terabyte", "terabytes"),
    "kbps": ("kilobit per second", "kilobits per second"),
    "Mbps": ("megabit per second", "megabits per second"),
    "Mbit/s": ("megabit per second", "megabits per second"),
    "Gbps": ("gigabit per second", "gigabits per second"),
    "ms": ("millisecond", "milliseconds"),
    "sec": ("second", "seconds"),
    "min": ("minute", "minutes"),
    "mins": ("minute", "minutes"),
    "hr": ("hour", "hours"),
    "hrs": ("hour", "hours"),
    "h": ("hour", "hours"),
    "rpm": ("revolution per minute", "revolutions per minute"),
    "psi": ("pound per square inch", "pounds per square inch"),
    "ppm": ("part per million", "parts per million"),
}
_UNIT = "|".join(re.escape(unit) for unit in sorted(_UNITS, key=len, reverse=True))

# Before a capital letter they never end a sentence.
_TITLES = {
    "Mr": "Mister", "Mrs": "Missus", "Ms": "Miz", "Dr": "Doctor", "Prof": "Professor",
    "Gen": "General", "Col": "Colonel", "Sgt": "Sergeant", "Lt": "Lieutenant", "Capt": "Captain",
    "Cmdr": "Commander", "Adm": "Admiral", "Maj": "Major", "Cpl": "Corporal", "Pvt": "Private",
    "Rev": "Reverend", "Hon": "Honorable", "Gov": "Governor", "Sen": "Senator",
    "Sens": "Senators", "Rep": "Representative", "Reps": "Representatives", "Pres": "President",
    "Supt": "Superintendent", "Insp": "Inspector", "Det": "Detective", "Msgr": "Monsignor",
    "Messrs": "Messrs", "Mt": "Mount", "Ft": "Fort", "St": "Saint",
}  # fmt: skip
_WITHOUT_STOP = ("Mr", "Mrs", "Ms", "Dr", "Prof", "St", "Mt", "Lt", "Col", "Sgt", "Capt")
# These may end one.
_ABBREVIATIONS = {
    "Jr": "Junior", "Sr": "Senior", "vs": "versus", "etc": "et cetera", "cf": "compare",
    "viz": "namely", "Inc": "Incorporated", "Ltd": "Limited", "Co": "Company",
    "Corp": "Corporation", "Bros": "Brothers", "Assn": "Association", "Univ": "University",
    "Ave": "Avenue", "Blvd": "Boulevard", "Rd": "Road", "Hwy": "Highway", "Pkwy": "Parkway",
    "Sq": "Square", "approx": "approximately", "est": "estimated", "dept": "department",
    "Dept": "Department", "govt": "government", "Govt": "Government", "ca": "circa",
    "al": "al", "incl": "including", "max": "maximum", "min": "minimum", "misc": "miscellaneous",
    "tel": "telephone", "Tel": "Telephone", "ext": "extension", "asst": "assistant",
    "Calif": "California", "Conn": "Connecticut", "Fla": "Florida", "Mass": "Massachusetts",
    "Mich": "Michigan", "Minn": "Minnesota", "Okla": "Oklahoma", "Ariz": "Arizona",
    "Tenn": "Tennessee", "Tex": "Texas", "Wis": "Wisconsin", "Penn": "Pennsylvania",
    "Colo": "Colorado", "Ind": "Indiana", "Kan": "Kansas", "Neb": "Nebraska", "Nev": "Nevada",
    "Va": "Virginia", "Wash": "Washington",
}  # fmt: skip
_NUMBERED = {
    "No": "number", "no": "number", "Nos": "numbers", "nos": "numbers", "Fig": "figure",
    "fig": "figure", "Figs": "figures", "Eq": "equation", "Vol": "volume", "vol": "volume",
    "Ch": "chapter", "ch": "chapter", "p": "page", "pp": "pages", "Sec": "section",
    "c": "circa", "ca": "circa", "Art": "article", "art": "article", "v": "version",
}  # fmt: skip
# Words that a sentence often begins with, and names hardly ever do.
_STARTERS = frozenset(
    "The A An In On At It He She They We You I This That These Those There But And Or So If When "
    "While After Before Its His Her Their Our My As For From By With Now Then Not No Yes What Who "
    "Why How Where Some Many Most More Last Next Once Also However Meanwhile Still Yet Since "
    "Although Though Because Until During Under Both Each Every One Two Three".split()
)

_MONARCHS = (
    "Henry Edward Elizabeth Charles James George William Richard Louis Philip Francis Frederick "
    "Napoleon Nicholas Alexander Catherine Peter Ivan Leopold Ferdinand Alfonso Carlos Juan Felipe "
    "Gustav Gustaf Christian Haakon Harald Olav Margrethe Beatrix Wilhelm Rudolf Otto Ramses "
    "Ramesses Ptolemy Darius Xerxes Cyrus Mehmed Selim Murad Pius Leo Benedict Gregory Innocent "
    "Clement Urban Paul John Mary Anne Victoria Umberto Vittorio Emmanuel Emanuel Albert Baudouin "
    "Abdullah Mohammed Hassan Rama Constantine Theodosius Justinian Clovis Stephen Boniface "
    "Celestine Sixtus Alexios Basil Amenhotep Thutmose Mithridates Antiochus Ludwig Maximilian "
    "Pedro Afonso Sancho Robert David Kenneth Donald Simeon Boris Carol Zog Faisal Farouk".split()
)
_RANKS = (
    r"King|Queen|Pope|Emperor|Empress|Tsar|Tsarina|Czar|Kaiser|Sultan|Prince|Princess|Shah|Saint|"
    r"Duke|Archduke|Patriarch|Pharaoh"
)
# "King Charles I think" is not about a king.
_I_VERBS = frozenset(
    "think know believe guess suppose mean am have will would can could should do did say said saw "
    "met love like want hope need remember told tell".split()
)
_PARTS = (
    r"[Cc]hapter|[Pp]art|[Vv]olume|[Bb]ook|[Aa]ct|[Ss]cene|[Aa]rticle|[Ss]ection|[Pp]hase|"
    r"[Tt]ype|[Cc]lass|[Ss]tage|[Tt]itle|[Aa]ppendix|[Ff]igure|[Tt]able|[Ll]evel|[Mm]ark|"
    r"World War|Super Bowl|Vatican|Rocky|Episode|Apollo|Gemini|Saturn|Final Fantasy|Olympiad"
)
_ROMAN = r"(?=[IVXLC])(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})"

# Said letter by letter though espeak-ng would read them, and the other way round.
_SPELLED = frozenset(
    "IMF UAE ITV EPA ECB OECD ASEAN ICC ICU ISP IRS IRA IPO IOC IDF ICE EEC EFTA ETA ESA ESG EMS "
    "ADHD ACLU AFL ABC AOL APEC ATF AFP AP ANC AMD ARM AWS UFO USB URL USSR UCLA UEFA UNHCR IAEA "
    "IBM IQ IT OK ER EU UK UN US AI PR TV PC PM MP VP HR GP GDP GPU CPU DNA RNA ATM".split()
) - frozenset({"ASEAN", "APEC", "UEFA", "ICE", "ARM"})
_READ = frozenset(
    "NATO NASA AIDS SARS GIF RAM ROM PIN SIM VAT LAN WAN ZIP SAT ACT OPEC UNESCO UNICEF FIFA UEFA "
    "ICE ARM ASEAN RAF-free LED-free "
    "THE AND NOT ALL YOU CAN NOW BUT ARE WAS NEW FOR HIS HER HAS HAD HIM HOW WHO WHY ITS OUR OUT "
    "ONE TWO SIX TEN GET GOT LET PUT SAY SEE SET TOP WAY WIN WAR YES YET MAN MEN DAY OLD OFF OWN "
    "END BIG BAD BOY CAR CUT DID DIE EAT FAR FEW FUN GOD GUN HIT HOT JOB KEY LAW LAY LOT LOW MAY "
    "MOM DAD NET NOR ODD OIL PAY RED RUN SAD SEA SIT SHE SON SUN TAX TEA TOO TRY USE VAN WET ANY "
    "ASK AGO AIR ART BED BIT BOX BUS BUY CRY CUP DOG EAR EGG EYE FIT FIX FLY GAS HAT ICY ILL INK "
    "JOY KID LIE MAP MIX MUD NUT PEN PET RAT RAW ROW SKY SPY TIE TOY VIA WIT ZOO MAX AGE ADD AID "
    "AN AS AT BE BY DO GO HE IF IN IS ME MY NO OF ON OR SO TO UP WE AH OH HA HI HO LO OX AM".split()
)


# Numbers ------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def number_in_words(number: str, kind: str) -> str:
    """What num2words says of `number`; `kind` is one of its kinds, "cardinal" for one."""
    from num2words import num2words

    value: Any = float(number) if "." in number else int(number)
    return str(num2words(value, to=kind)).replace(",", "")


class English:
    """The rules, for American English or another one."""

    def __init__(self, american: bool) -> None:
        self.american = american
        self.rules: list[tuple[re.Pattern[str], Callable[[Match], str]]] = [
            (re.compile(pattern), rewrite) for pattern, rewrite in self._rules()
        ]

    def verbalize(self, text: str) -> str:
        """`text`, one paragraph in one line, with nothing but words and punctuation in it."""
        for pattern, rewrite in self.rules:
            text = pattern.sub(rewrite, text)
        return text

    def _rules(self) -> list[tuple[str, Callable[[Match], str]]]:
        stop = r"(?P<stop>\.?)"
        range_ = r"\s?[-–—]\s?"
        return [
            # Addresses
            (r"(?<![\w.])[\w.+-]+@[\w-]+(?:\.[\w-]+)+", self._address),
            (r"(?i)(?<![\w@])(?:https?://|ftp://|www\.)[^\s<>\"'()\[\]{}]+", self._address),
            (
                r"(?<![\w@.])(?:[A-Za-z0-9][\w-]*\.)+(?:com|org|net|edu|gov|info|io|co\.uk|"
                r"ac\.uk|gov\.uk|eu|de|fr|it|es|ch|nl|tv|ai|dev|app)\b(?:/[^\s<>\"'()]*)?",
                self._address,
            ),
            (
                r"(?<![\w.])[\w-]+\.(?:pdf|txt|html?|docx?|xlsx?|jpe?g|png|csv|mp3|mp4|wav|exe|zip)\b",
                self._address,
            ),
            (r"(?<!\w)@(?P<name>\w+)", lambda m: f"at {_camel(m['name'])}"),
            (r"(?<!\w)#(?P<name>\w*[A-Za-z]\w*)", lambda m: f"hashtag {_camel(m['name'])}"),
            # Times that carry a.m. or p.m., before abbreviations take these
            (
                r"\b(?P<hour>\d{1,2})(?:[:.](?P<minute>[0-5]\d))?(?P<and>" + range_ + r")"
                r"(?=\d{1,2}(?:[:.]\d\d)?\s?[ap]\.?m\b)",
                lambda m: self._clock(m["hour"], m["minute"] or "") + " to ",
            ),
            (
                r"\b(?P<hour>\d{1,2})(?:[:.](?P<minute>[0-5]\d))?\s?(?P<half>[AaPp])"
                r"(?:\.\s?[Mm]\b" + stop + r"|[Mm]\b)",
                lambda m: (
                    f"{self._clock(m['hour'], m['minute'] or '')} {m['half'].upper()}-M"
                    + _ending(m)
                ),
            ),
            (r"(?<=[AP]-M)\s?[-–—]\s?(?=[a-z])", lambda m: " to "),
            # Abbreviations
            (r"\b(?:e\.\s?g\.|eg\.)", lambda m: "for example"),
            (r"\b(?:i\.\s?e\.|ie\.)", lambda m: "that is"),
            (r"\bPh\.?\s?D\b" + stop, lambda m: "P-H-D" + _ending(m)),
            (
                r"\b(?P<name>" + "|".join(_NUMBERED) + r")\.\s?(?=\d|[IVXLC]+\b)",
                lambda m: _NUMBERED[m["name"]] + " ",
            ),
            (
                # "Main St. was closed" and "5th Ave."; a saint stands before a name.
                r"(?P<name>(?:[A-Z]\w+|\d(?:st|nd|rd|th)) )(?P<way>St|Dr)\b"
                r"(?P<stop>\.)(?=$|[,;:)]|\s+(?:[a-z\d]|(?:" + "|".join(_STARTERS) + r")\b))",
                lambda m: (
                    m["name"]
                    + {"St": "Street", "Dr": "Drive"}[m["way"]]
                    + _ending(m, starters=True)
                ),
            ),
            (
                r"\b(?P<title>" + "|".join(_TITLES) + r")\.\s*(?=[A-Z]|(?:and|or|&) [A-Z])",
                lambda m: _TITLES[m["title"]] + " ",
            ),
            (
                r"\b(?P<title>" + "|".join(_WITHOUT_STOP) + r") (?=[A-Z][a-z'])",
                lambda m: _TITLES[m["title"]] + " ",
            ),
            (r"\b(?P<day>" + "|".join(_WEEKDAYS) + r")\.(?=\W)", lambda m: _WEEKDAYS[m["day"]]),
            (
                r"\b(?P<word>" + "|".join(_ABBREVIATIONS) + r")(?P<stop>\.)",
                lambda m: _ABBREVIATIONS[m["word"]] + _ending(m, starters=m["word"] != "etc"),
            ),
            (r"\bvs?\b(?=\s)(?<!\w\W)", lambda m: "versus"),
            (r"\b(?P<word>Jr|Sr)\b", lambda m: _ABBREVIATIONS[m["word"]]),
            # Initials: "U.S.", "J. K. Rowling", "George W. Bush"
            (
                r"\b(?P<letters>(?:[A-Za-z]\.){2,})(?P<owner>'s)?",
                lambda m: (
                    _spell(m["letters"].replace(".", ""))
                    + (m["owner"] or "")
                    + ("" if m["owner"] else _ending(m, starters=True, stop=True))
                ),
            ),
            (
                r"(?<![\w'])(?P<letters>(?:[A-Z]\.\s?){1,3})(?=\s*[A-Z][a-zA-Z'])",
                self._initials,
            ),
            # Phone numbers
            (
                r"(?<![\w.,$£€-])(?:\+\d{1,3}[\s.-]?)?(?:\(\d{2,5}\)[\s.-]?|\d{2,5}[\s.-])"
                r"\d{3,4}[\s.-]\d{3,4}(?![\w-])|(?<![\w.,$£€-])\+\d{1,3}(?:[\s-]?\d{2,4}){2,5}"
                r"(?![\w-])|(?<![\w.,$£€-])1-\d{3}-\d{3}-\d{4}\b|(?<![\w.,$£€/-])\d{3}-\d{4}\b",
                self._phone,
            ),
            # Dates
            (
                r"\b(?P<year>1\d{3}|20\d\d)-(?P<m>0[1-9]|1[0-2])-(?P<d>[0-2]\d|3[01])\b",
                lambda m: self._date(int(m["d"]), int(m["m"]), m["year"]),
            ),
            (
                r"(?<![\w/.])(?P<a>\d{1,2})(?P<by>[/.])(?P<b>\d{1,2})(?P=by)(?P<year>\d{4}|\d\d)"
                r"(?![\w/]|\.\d)",
                self._numeric_date,
            ),
            (
                r"\b" + _MONTH + r" (?P<day>[0-2]?\d|3[01])(?:st|nd|rd|th)?"
                r"(?:" + range_ + r"(?P<last>[0-2]?\d|3[01])(?:st|nd|rd|th)?)?"
                r"(?![\d:%]|[.,]\d)(?:(?P<comma>,?) (?P<year>1\d{3}|20\d\d)\b(?!\.\d))?",
                self._month_day,
            ),
            (
                r"\b(?P<the>[Tt]he )?(?P<day>[0-2]?\d|3[01])(?:st|nd|rd|th)?"
                r"(?:"
                + range_
                + r"(?P<last>[0-2]?\d|3[01])(?:st|nd|rd|th)?)?(?: of)? "
                + _MONTH
                + r"(?:,? (?P<year>1\d{3}|20\d\d)\b)?",
                self._day_month,
            ),
            (
                r"\b" + _MONTH + r"(?=,? (?:1\d{3}|20\d\d)\b)",
                lambda m: _month(m["month"]),
            ),
            (r"\b(?P<month>Jan|Feb|Aug|Sept|Oct|Nov|Dec)\.", lambda m: _month(m["month"])),
            (
                r"\b(?P<from>1[1-9]\d\d|20\d\d)\s?[-–—/]\s?(?P<to>(?:1[1-9]|20)?\d\d)\b"
                r"(?![\d%]|[.,:]\d)",
                self._years,
            ),
            (r"(?P<tens>(?<![\d.,])\d{3}0)['’]?s\b", lambda m: _plural(self._year(m["tens"]))),
            (r"(?:(?<!\w)['’]|(?<![\w.,:]))(?P<ten>[1-9]0)['’]?s\b", self._tens),
            (r"(?<!\w)['’](?P<year>\d\d)\b", lambda m: self._two_digits(m["year"])),
            # Times of day, ratios
            (
                r"(?<![\w:.,])(?P<hour>[01]?\d|2[0-4]):(?P<minute>[0-5]\d)"
                r"(?::(?P<second>[0-5]\d))?(?![\d:])",
                lambda m: (
                    self._clock(m["hour"], m["minute"], exact=not m["second"])
                    + (f" and {self._cardinal(m['second'])} seconds" if m["second"] else "")
                ),
            ),
            (
                r"(?<![\w:.,])(?P<a>\d{1,3}):(?P<b>\d{1,3})(?![\w:])",
                lambda m: f"{self._number(m['a'])} to {self._number(m['b'])}",
            ),
            # Money
            (
                r"(?P<coin>(?:\b(?:US|AU|CA|NZ|HK|NT|[ACS]))?"
                + _COIN
                + r")\s?(?P<n>"
                + _NUM
                + r")"
                + _SCALE
                + r"?"
                + range_
                + r"(?:US|AU|CA|NZ|HK|[ACS])?"
                + _COIN
                + r"?\s?(?P<n2>"
                + _NUM
                + r")(?:(?P<scale2>"
                + _SCALE.replace("scale", "s2")
                + r")\b)?",
                self._money_range,
            ),
            (
                r"(?P<minus>[-−])?(?:\b(?P<country>US|AU|CA|NZ|HK|NT|[ACS]))?(?P<coin>"
                + _COIN
                + r")\s?(?P<n>"
                + _NUM
                + r")(?:"
                + _SCALE
                + r"\b)?(?P<per>-(?=[a-z]))?",
                self._money,
            ),
            (
                r"\b(?P<coin>"
                + "|".join(_CODES)
                + r")\.?\s?(?P<n>"
                + _NUM
                + r")(?:"
                + _SCALE
                + r"\b)?",
                self._money,
            ),
            (
                r"(?<![\w.,])(?P<n>" + _NUM + r"|\d+,\d\d)(?:" + _SCALE + r")?\s?"
                r"(?P<coin>" + _COIN + r"|\b(?:" + "|".join(_CODES) + r")\b)",
                self._money,
            ),
            (
                r"(?<![\w.,])(?P<n>\d{1,3})(?P<coin>p|c|¢)\b|(?<![\w.,])(?P<n2>\d{1,3})¢",
                self._pence,
            ),
            # Ranges, scores; what follows the second number is for the rules below
            (
                r"(?<![\w.,/–-])(?P<a>" + _NUM + r")(?P<unit>%|°|" + _UNIT + r"|bn|tn|k)?"
                r"\s?(?P<dash>[-–—−])\s?(?P<b>" + _NUM + r")(?![\d/]|[-–]\d)",
                self._range,
            ),
            (r"(?<![\w)\d.%°])(?:[-−])(?=\.?\d)", lambda m: "minus "),
            (r"(?<!\w)[+](?=\.?\d)", lambda m: "plus "),
            (r"±\s?", lambda m: " plus or minus "),
            (r"[≈~]\s?(?=\d)", lambda m: "about "),
            # Fractions
            (
                r"(?<![\w.,/])(?:(?P<whole>\d+)[\s-])?(?P<n>\d{1,3})/(?P<d>\d{1,4})(?P<th>ths?|rds?)?"
                r"(?![\w/]|[.,]\d)",
                self._fraction,
            ),
            # Per cent, units
            (r"(?<=\d)\s?%", lambda m: " percent"),
            (r"(?<=\d)\s?‰", lambda m: " per thousand"),
            (
                r"(?<![\w.])(?P<feet>[4-8])['’′](?P<inches>1[01]|\d)(?:[\"”″]|'')?(?!\w)",
                lambda m: f"{self._number(m['feet'])} foot {self._number(m['inches'])}",
            ),
            (
                r"(?<![\w.,])(?P<feet>\d)\s?ft\.?\s(?P<inches>1[01]|\d)\s?in\b\.?",
                lambda m: f"{self._number(m['feet'])} foot {self._number(m['inches'])}",
            ),
            (
                r"(?<![\w.,])(?P<n>\d+(?:\.\d+)?)m(?=\s(?:[a-z]+s|people|men|women|children|more)\b)",
                lambda m: self._number(m["n"]) + " million",
            ),
            (
                r"(?<![\w.,])(?P<n>" + _NUM + r")(?P<gap>\s?-?)(?P<unit>" + _UNIT + r")(?![\w²³/])"
                r"(?P<stop>\.?)",
                self._unit,
            ),
            (
                r"(?<![\w.,])(?P<n>" + _NUM + r")(?P<scale>bn|tn|trn|mn|mln|k)\b",
                lambda m: f"{self._number(m['n'])} {_SCALES[m['scale']]}",
            ),
            # Roman numerals
            (
                r"(?P<part>\b(?:" + _PARTS + r")s? )(?P<roman>" + _ROMAN + r")\b(?!['’]\w)",
                lambda m: m["part"] + self._cardinal(str(_roman(m["roman"]))),
            ),
            (
                r"(?P<part>\b(?:[Cc]hapter|[Pp]art|[Aa]ct|[Ss]cene|[Bb]ook|[Pp]age) )"
                r"(?P<roman>(?:x{0,3})(?:ix|iv|v?i{0,3}))(?<! )\b",
                lambda m: m["part"] + self._cardinal(str(_roman(m["roman"].upper()))),
            ),
            (
                r"(?P<name>\b(?:(?P<rank>"
                + _RANKS
                + r") )?(?:[A-Z][a-z]+ )?(?P<last>[A-Z][a-zé]+) )"
                r"(?P<roman>" + _ROMAN + r")\b(?P<after>(?:['’]s\b|[.,;:!?)]|$|\s+[\w'’]+)?)",
                self._monarch,
            ),
            # Letters and digits mixed, ordinals
            (
                r"(?<![\w.])(?P<n>\d+(?:,\d{3})*)(?:st|nd|rd|th)\b",
                lambda m: self._ordinal(m["n"]),
            ),
            (r"(?<=\d)\s?[×x]\s?(?=\d)", lambda m: " by "),
            (r"\bCO2\b", lambda m: "C-O-two"),
            (r"\b(?P<n>\d)x\b", lambda m: self._number(m["n"]) + " times"),
            (
                r"\b(?P<a>[A-Z]{1,5})-(?P<n>\d{1,4})(?P<tail>[A-Z]?)\b(?![.,]\d)",
                lambda m: self._mixed(m["a"] + m["n"] + m["tail"]),
            ),
            (r"\b(?=[A-Za-z]*\d)(?=\d*[A-Za-z])[A-Za-z\d]+\b", lambda m: self._mixed(m[0])),
            # What is left of numbers
            (r"#\s?(?=\d)|№\s?(?=\d)", lambda m: "number "),
            (
                r"\d+(?:\.\d+){2,}",
                lambda m: " point ".join(self._number(part) for part in m[0].split(".")),
            ),
            (
                r"(?<![\d.,])(?P<year>1[1-9]\d\d|20\d\d)(?![\d]|[.,]\d)",
                lambda m: self._year(m["year"]),
            ),
            (_NUM, lambda m: self._number(m[0])),
            # Words
            (
                r"\b(?P<a>[A-Z]{1,3})&(?P<b>[A-Z]{1,3})\b",
                lambda m: f"{_spell(m['a'])} and {_spell(m['b'])}",
            ),
            (r"(?<![\w'])(?P<word>[A-Z]{2,6})(?P<tail>s|['’]s)?(?!\w)", self._capitals),
            (r"\b(?P<a>[Aa]nd)/(?P<b>or)\b", lambda m: f"{m['a']} {m['b']}"),
            (r"(?<=[a-z])/(?=[a-z])", lambda m: " or "),
            (r"\bw/o\b", lambda m: "without"),
            (r"\bw/(?=\s)", lambda m: "with"),
            (r"\s?&\s?", lambda m: " and "),
            (r"\b(?P<name>C|F)#", lambda m: m["name"] + " sharp"),
            (r"\bC\+\+", lambda m: "C plus plus"),
            (r"(?<=\w)\s?\+\s?(?=\w)", lambda m: " plus "),
            (r"(?<=\w)\+", lambda m: " plus"),
            (r"\s=\s|(?<=\w)=(?=\w)", lambda m: " equals "),
            (r"\s?÷\s?", lambda m: " divided by "),
            (r"\s×\s", lambda m: " times "),
            (r"\s?≤\s?", lambda m: " at most "),
            (r"\s?≥\s?", lambda m: " at least "),
            (r"\s<\s?", lambda m: " less than "),
            (r"\s>\s?", lambda m: " more than "),
            (r"§\s?", lambda m: "section "),
            (r"%", lambda m: " percent "),
            (r"\s@\s", lambda m: " at "),
            (r"(?P<coin>" + _COIN + r")", lambda m: f" {_COINS[m['coin']][1]} "),
        ]

    # Numbers in words

    def _and(self, words: str) -> str:
        return words.replace(" and ", " ") if self.american else words

    def _digits(self, digits: str) -> str:
        return " ".join(number_in_words(digit, "cardinal") for digit in digits if digit.isdigit())

    def _cardinal(self, digits: str) -> str:
        digits = re.sub(r"\D", "", digits)
        if len(digits) > 15 or (len(digits) > 1 and digits[0] == "0"):
            return self._digits(digits)
        return self._and(number_in_words(digits, "cardinal")) if digits else ""

    def _ordinal(self, digits: str) -> str:
        digits = re.sub(r"\D", "", digits)
        if len(digits) > 15:
            return self._digits(digits)
        return self._and(number_in_words(str(int(digits)), "ordinal"))

    def _number(self, number: str) -> str:
        """A whole or decimal number, with or without commas."""
        whole, point, decimals = number.partition(".")
        said = self._cardinal(whole) if whole else "zero"
        return f"{said} point {self._digits(decimals)}" if point and decimals else said

    def _year(self, digits: str) -> str:
        year = int(digits)
        if 1100 <= year <= 2099 and not 2000 <= year <= 2009:
            return number_in_words(str(year), "year")
        return self._cardinal(digits)

    def _two_digits(self, digits: str) -> str:
        """The last two of a year: '05 is "oh five"."""
        return f"oh {self._cardinal(digits[1])}" if digits[0] == "0" else self._cardinal(digits)

    def _clock(self, hour: str, minute: str, exact: bool = False) -> str:
        said = self._cardinal(str(int(hour)))
        if not minute:
            return said
        if minute == "00":
            whole = 1 <= int(hour) <= 12
            if not exact:
                return said
            return f"{said} o'clock" if whole else f"{said} hundred hours"
        return f"{said} {self._two_digits(minute)}"

    # Dates

    def _date(self, day: int, month: int, year: str) -> str:
        if not (1 <= month <= 12 and 1 <= day <= 31):
            return ""
        if len(year) == 2:
            year = ("20" if int(year) < 70 else "19") + year
        name, which = _MONTHS[month - 1], self._ordinal(str(day))
        said = f"{name} {which}" if self.american else f"the {which} of {name}"
        return f"{said}, {self._year(year)}"

    def _numeric_date(self, m: Match) -> str:
        first, second = int(m["a"]), int(m["b"])
        month_first = m["by"] == "/" and self.american
        if (first > 12) is not (second > 12):  # only one order is possible
            month_first = second > 12
        day, month = (second, first) if month_first else (first, second)
        said = self._date(day, month, m["year"])
        return said or " ".join(self._number(m[part]) for part in ("a", "b", "year"))

    def _month_day(self, m: Match) -> str:
        said = f"{_month(m['month'])} {self._ordinal(m['day'])}"
        if m["last"]:
            said += f" to {self._ordinal(m['last'])}"
        return f"{said}, {self._year(m['year'])}" if m["year"] else said

    def _day_month(self, m: Match) -> str:
        said = ("The " if m["the"] == "The " else "the ") + self._ordinal(m["day"])
        if m["last"]:
            said += f" to {self._ordinal(m['last'])}"
        said += f" of {_month(m['month'])}"
        return f"{said}, {self._year(m['year'])}" if m["year"] else said

    def _years(self, m: Match) -> str:
        first, last = m["from"], m["to"]
        if len(last) == 2 and int(last) <= int(first[2:]):
            return f"{self._year(first)} {self._two_digits(last)}"
        said = self._year(last) if len(last) == 4 else self._two_digits(last)
        return f"{self._year(first)} to {said}"

    def _tens(self, m: Match) -> str:
        return _plural(self._cardinal(m["ten"]))

    # Money, measures

    def _money(self, m: Match) -> str:
        values = m.groupdict()
        coin = _COINS.get(m["coin"]) or _CODES[m["coin"]]
        country = _COUNTRIES.get(values.get("country") or "", "")
        # "a $5 bill", but "for $5 a head".
        before, after = m.string[max(0, m.start() - 3) : m.start()], m.string[m.end() :]
        single = bool(re.search(r"\b[Aa]n? $", before) and re.match(r"[ -][a-z]", after))
        number, scale = m["n"], values.get("scale")
        if re.fullmatch(r"\d+,\d\d", number):  # 5,50 €
            number = number.replace(",", ".")
        per = "-" if values.get("per") else ""
        said = self._amount(number, scale, coin, country, single or bool(per)).rstrip() + per
        return ("minus " if values.get("minus") else "") + said

    def _amount(
        self,
        number: str,
        scale: str | None,
        coin: tuple[str, str, str, str],
        country: str = "",
        adjective: bool = False,
    ) -> str:
        one, many, cent, cents = coin
        if scale:
            name = one if adjective else many
            return f"{self._number(number)} {_SCALES[scale]} {country}{name}"
        whole, _, hundredths = number.replace(",", "").partition(".")
        if len(hundredths) != 2 or not cent:
            name = one if adjective or number == "1" else many
            return f"{self._number(number)} {country}{name} "
        coins = int(hundredths)
        small = f"{self._cardinal(str(coins))} {cent if coins == 1 else cents}" if coins else ""
        if not int(whole or 0) and small:
            return small
        large = f"{self._cardinal(whole or '0')} {country}{one if whole == '1' else many}"
        return f"{large} and {small}" if small else large

    def _money_range(self, m: Match) -> str:
        sign = m["coin"][-1]
        country = _COUNTRIES.get(m["coin"][:-1], "")
        first = self._number(m["n"])
        if m["scale"] and m["scale"] != m["s2"]:
            first += f" {_SCALES[m['scale']]}"
        return f"{first} to {self._amount(m['n2'], m['s2'], _COINS[sign], country)}"

    def _pence(self, m: Match) -> str:
        number = m["n"] or m["n2"]
        if m["coin"] == "p":
            return f"{self._cardinal(number)} pence"
        return f"{self._cardinal(number)} {'cent' if number == '1' else 'cents'}"

    def _range(self, m: Match) -> str:
        first = self._number(m["a"])
        if m["unit"] in ("bn", "tn", "k"):
            first += f" {_SCALES[m['unit']]}"
        elif m["unit"] and m["unit"] in _UNITS:
            first += f" {_UNITS[m['unit']][1]}"
        elif m["unit"] == "%":
            first += " percent"
        rising = float(m["b"].replace(",", "")) > float(m["a"].replace(",", ""))
        if (m["a"], m["b"]) == ("9", "5"):
            rising = True
        if m["dash"] == "-" and not rising and not m["unit"]:  # a score
            return f"{first} {m['b']}"
        return f"{first} to {m['b']}"

    def _fraction(self, m: Match) -> str:
        above, below = int(m["n"]), int(m["d"])
        if (above, below) in ((9, 11), (24, 7), (50, 50), (7, 7)):
            return f"{self._cardinal(m['n'])} {self._cardinal(m['d'])}"
        before = f"{self._cardinal(m['whole'])} and " if m["whole"] else ""
        usual = below in (2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 16, 20, 32, 64, 100, 1000)
        if not (1 <= above < below and usual):
            over = f"{self._cardinal(m['n'])} over {self._cardinal(m['d'])}"
            return f"{self._cardinal(m['whole'])} {over}" if m["whole"] else over
        names = {2: ("half", "halves"), 4: ("quarter", "quarters")}
        one, many = names.get(below) or (self._ordinal(m["d"]), _plural(self._ordinal(m["d"])))
        count = "a" if above == 1 and before else self._cardinal(m["n"])
        return f"{before}{count} {one if above == 1 else many}"

    def _unit(self, m: Match) -> str:
        one, many = _UNITS[m["unit"]]
        single = m["n"] == "1" or m["gap"].endswith("-")
        if not self.american:
            one, many = (
                name.replace("meter", "metre").replace("liter", "litre") for name in (one, many)
            )
        said = f"{self._number(m['n'])} {one if single else many}"
        return said + _ending(m, starters=True)

    # Names

    def _monarch(self, m: Match) -> str:
        value, after = _roman(m["roman"]), m["after"] or ""
        known = m["last"] in _MONARCHS or bool(m["rank"])
        if m["roman"] in ("I", "V", "X", "C", "L"):
            owned = bool(re.match(r"['’]s|[.,;:!?)]|$", after)) or after.strip() in (
                "of was had died reigned became ruled and who in to".split()
            )
            if not known or not (m["rank"] or owned):
                return m[0]
            if m["roman"] == "I" and (
                after.strip() in _I_VERBS
                or (not m["rank"] and after.strip() in ("had", "was", "and"))
            ):
                return m[0]
        if not 1 <= value <= 30:
            return m[0]
        said = f"the {self._ordinal(str(value))}" if known else self._cardinal(str(value))
        return f"{m['name']}{said}{after}"

    def _initials(self, m: Match) -> str:
        letters = re.sub(r"[.\s]", "", m["letters"])
        after = m.string[m.end() :].split(maxsplit=1)
        before = m.string[: m.start()].rstrip()
        next_word = re.match(r"[A-Za-z']*", after[0])[0] if after else ""  # type: ignore[index]
        named = not before or before[-1] in ".,;:!?\"'“(" or before.split()[-1][0].isupper()
        if len(letters) == 1 and (next_word in _STARTERS or not named):
            return m[0]
        return _spell(letters) + " "

    def _mixed(self, token: str) -> str:
        said: list[str] = []
        for part in re.findall(r"\d+|[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[A-Z]", token):
            if part == "s" and said:
                said[-1] = _plural(said[-1])
            elif not part.isdigit():
                known = (len(part) > 3 and part.isupper()) or not part.isupper()
                said.append(part if known and len(part) > 1 else _spell(part.upper()))
            elif len(part) <= 2 or (len(part) <= 4 and part.endswith("00")):
                said.append(self._cardinal(part))
            elif len(part) == 3 and part[1] != "0" and part[0] != "0":
                said.append(f"{self._cardinal(part[0])} {self._cardinal(part[1:])}")
            elif len(part) == 4 and part[0] != "0" and part[2] != "0":
                said.append(f"{self._cardinal(part[:2])} {self._cardinal(part[2:])}")
            else:
                said.append(self._digits(part))
        return " ".join(said)

    def _capitals(self, m: Match) -> str:
        word, tail = m["word"], (m["tail"] or "").replace("’", "'")
        shouted = self._shouted(m)
        spelled = word in _SPELLED or (len(word) <= 3 and word not in _READ)
        if not spelled or (shouted and word not in _SPELLED):
            return m[0]
        return _spell(word) + ("'s" if tail else "")

    @staticmethod
    def _shouted(m: Match) -> bool:
        """Whether the words around are capitals, too: a headline, where OUR is no abbreviation."""
        around = re.findall(r"[A-Za-z]{2,}", m.string[max(0, m.start() - 40) : m.end() + 40])
        return len(around) > 2 and sum(word.isupper() for word in around) > 0.6 * len(around)

    # Addresses, telephones

    def _phone(self, m: Match) -> str:
        number = m[0]
        if not number.startswith(("+", "(", "1-", "0")) and len(re.sub(r"\D", "", number)) < 7:
            return number
        groups = re.findall(r"\d+", number)
        said = ", ".join(self._digits(group) for group in groups)
        return f"plus {said}" if number.startswith("+") else said

    def _address(self, m: Match) -> str:
        address = m[0].rstrip(".,;:!?…'\"/")
        rest = m[0][len(address) :].strip("/")
        plain = re.sub(r"^(?i:https?://|ftp://)?(?i:www\.)?", "", address)
        if len(plain) > 80:  # nobody wants to hear the rest
            plain = plain.split("/")[0]
        said = []
        for part in re.findall(r"[A-Za-z]+|\d+|[^\w\s]|_", plain):
            if part.isdigit():
                short = len(part) <= 4 and part[0] != "0"
                said.append(self._cardinal(part) if short else self._digits(part))
            elif part.isalpha():
                vowels = re.search(r"[aeiouyAEIOUY]", part)
                said.append(
                    part if (vowels and len(part) > 2) or part in _DOMAINS else _spell(part.upper())
                )
            else:
                said.append(_ADDRESS_SIGNS.get(part, ""))
        return " ".join(word for word in said if word) + rest


_DOMAINS = frozenset("co io me my no at in on be is it we go to us up or of".split())
_ADDRESS_SIGNS = {
    ".": "dot", "/": "slash", "-": "dash", "_": "underscore", "@": "at", ":": "colon",
    "?": "question mark", "=": "equals", "&": "and", "#": "hash", "%": "percent", "~": "tilde",
    "+": "plus",
}  # fmt: skip


def _spell(letters: str) -> str:
    """Letter by letter, so that espeak-ng reads letters: it takes an A that does not come first
    for the article."""
    named = [
        "eigh" if letter == "A" and at else letter for at, letter in enumerate(letters.upper())
    ]
    return "eigh" if letters.upper() == "A" else "-".join(named)


def _camel(name: str) -> str:
    """ "BlackLivesMatter_now" -> "Black Lives Matter now"."""
    return re.sub(r"(?<=[a-z])(?=[A-Z\d])", " ", name).replace("_", " ")


def _month(name: str) -> str:
    return next(month for month in _MONTHS if month.startswith(name[:3]))


def _plural(words: str) -> str:
    """ "nineteen ninety" -> "nineteen nineties"."""
    if words.endswith("y"):
        return words[:-1] + "ies"
    return words + ("es" if words.endswith("x") else "s")


def _roman(numeral: str) -> int:
    values = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100}
    digits = [values[letter] for letter in numeral]
    return sum(-digit if digit < max(digits[at:]) else digit for at, digit in enumerate(digits))


def _ending(m: Match, starters: bool = False, stop: bool = False) -> str:
    """The full stop after an abbreviation, where it ends the sentence as well.

    That is at the end of the text and before a capital letter; with `starters`, only before a word
    that usually begins a sentence.
    """
    if not stop and not m.groupdict().get("stop"):
        return ""
    after = m.string[m.end() :].lstrip(" \"'”’)")
    if not after:
        return "."
    word = re.match(r"[A-Za-z]+", after)
    if not word or not word[0][0].isupper() or not m.string[m.end() :][:1].isspace():
        return ""
    if starters:
        return "." if word[0] in _STARTERS else ""
    named = word[0].startswith((*_MONTHS, *_WEEKDAYS)) or (len(word[0]) > 1 and word[0].isupper())
    return "" if named else "."


@lru_cache(maxsize=2)
def english(american: bool) -> English:
    """The rules of one kind of English, compiled once."""
    return English(american)
