"""Units: "10 mg/kg" is "ten milligrams per kilogram".

The table is made of the prefixes of the International System and the units that take them, and of
units that stand alone. Units are multiplied (N·m), raised (m/s²) and divided (mg/kg/day).
"""

from __future__ import annotations

import re

from knnvc.text.english.numbers import (
    NUMBER,
    SCALES,
    Match,
    Numbers,
    Rule,
    after,
    before,
    stop_before_capital,
)

_PREFIXES = {
    "E": "exa", "P": "peta", "T": "tera", "G": "giga", "M": "mega", "k": "kilo", "K": "kilo",
    "h": "hecto", "d": "deci", "c": "centi", "m": "milli", "µ": "micro", "u": "micro", "n": "nano",
    "p": "pico", "f": "femto",
}  # fmt: skip
# Symbol: (one, many, the prefixes it takes). Those that would make an English word are left out.
_PREFIXED = {
    "m": ("meter", "meters", "GMkhdcmµnpf"),
    "g": ("gram", "grams", "kdcmµunpf"),
    "s": ("second", "seconds", "mµnpf"),
    "A": ("amp", "amps", "kmµunp"),
    "mol": ("mole", "moles", "kmµunpf"),
    "M": ("molar", "molar", "mµunp"),
    "Hz": ("hertz", "hertz", "mkMGT"),
    "N": ("newton", "newtons", "kMmµ"),
    "Pa": ("pascal", "pascals", "hkMGmµ"),
    "J": ("joule", "joules", "kMGTmµ"),
    "W": ("watt", "watts", "kMGTmµunp"),
    "Wh": ("watt hour", "watt hours", "kMGTm"),
    "V": ("volt", "volts", "kMmµun"),
    "VA": ("volt amp", "volt amps", "kM"),
    "F": ("farad", "farads", "mµunp"),
    "H": ("henry", "henries", "mµun"),
    "Ω": ("ohm", "ohms", "kMGmµ"),
    "S": ("siemens", "siemens", "mµu"),
    "T": ("tesla", "teslas", "mµn"),
    "Wb": ("weber", "webers", "mµ"),
    "Bq": ("becquerel", "becquerels", "kMGT"),
    "Gy": ("gray", "grays", "mcµ"),
    "Sv": ("sievert", "sieverts", "mµun"),
    "Ci": ("curie", "curies", "mµn"),
    "lm": ("lumen", "lumens", "k"),
    "lx": ("lux", "lux", "k"),
    "cd": ("candela", "candelas", "m"),
    "eV": ("electronvolt", "electronvolts", "mkMGT"),
    "cal": ("calorie", "calories", "k"),
    "L": ("liter", "liters", "khdcmµunp"),
    "l": ("liter", "liters", "hdcmµu"),
    "bar": ("bar", "bars", "mk"),
    "Ah": ("amp hour", "amp hours", "mk"),
    "A·h": ("amp hour", "amp hours", "mk"),
    "B": ("byte", "bytes", "kKMGTPE"),
    "b": ("bit", "bits", "kKMG"),
    "bit": ("bit", "bits", "kKMGT"),
    "bps": ("bit per second", "bits per second", "kKMGT"),
    "t": ("tonne", "tonnes", "kMG"),
    "pc": ("parsec", "parsecs", "kMG"),
    "Eq": ("equivalent", "equivalents", "m"),
    "Osm": ("osmole", "osmoles", "m"),
    "kat": ("katal", "katals", "mµun"),
    "IU": ("international unit", "international units", "mk"),
}
_ALONE = {
    "mcg": ("microgram", "micrograms"),
    "kph": ("kilometer per hour", "kilometers per hour"),
    "kmh": ("kilometer per hour", "kilometers per hour"),
    "mph": ("mile per hour", "miles per hour"),
    "mpg": ("mile per gallon", "miles per gallon"),
    "kn": ("knot", "knots"),
    "sq ft": ("square foot", "square feet"),
    "sq m": ("square meter", "square meters"),
    "sq km": ("square kilometer", "square kilometers"),
    "sq mi": ("square mile", "square miles"),
    "sq in": ("square inch", "square inches"),
    "cu ft": ("cubic foot", "cubic feet"),
    "fl oz": ("fluid ounce", "fluid ounces"),
    "nmi": ("nautical mile", "nautical miles"),
    "mi": ("mile", "miles"),
    "yd": ("yard", "yards"),
    "ft": ("foot", "feet"),
    "lb": ("pound", "pounds"),
    "lbs": ("pound", "pounds"),
    "oz": ("ounce", "ounces"),
    "gal": ("gallon", "gallons"),
    "qt": ("quart", "quarts"),
    "tsp": ("teaspoon", "teaspoons"),
    "tbsp": ("tablespoon", "tablespoons"),
    "cc": ("cubic centimeter", "cubic centimeters"),
    "ha": ("hectare", "hectares"),
    "Å": ("angstrom", "angstroms"),
    "°C": ("degree Celsius", "degrees Celsius"),
    "°F": ("degree Fahrenheit", "degrees Fahrenheit"),
    "° C": ("degree Celsius", "degrees Celsius"),
    "° F": ("degree Fahrenheit", "degrees Fahrenheit"),
    "°": ("degree", "degrees"),
    "dB": ("decibel", "decibels"),
    "dBm": ("decibel milliwatt", "decibel milliwatts"),
    "dBA": ("decibel eigh", "decibels eigh"),
    "dBFS": ("decibel full scale", "decibels full scale"),
    "dBTP": ("decibel true peak", "decibels true peak"),
    "dB(A)": ("decibel eigh", "decibels eigh"),
    "dBc": ("decibel C", "decibels C"),
    "dBV": ("decibel volt", "decibels volt"),
    "dBi": ("decibel I", "decibels I"),
    "LUFS": ("luffs", "luffs"),
    "LU": ("loudness unit", "loudness units"),
    "ly": ("light year", "light years"),
    "AU": ("astronomical unit", "astronomical units"),
    "mos": ("month", "months"),
    "pts": ("point", "points"),
    "pcs": ("piece", "pieces"),
    "doz": ("dozen", "dozen"),
    "sqft": ("square foot", "square feet"),
    "sqm": ("square meter", "square meters"),
    "sq. ft": ("square foot", "square feet"),
    "sq. mi": ("square mile", "square miles"),
    "sq. m": ("square meter", "square meters"),
    "sq. in": ("square inch", "square inches"),
    "sq yd": ("square yard", "square yards"),
    "cu. ft": ("cubic foot", "cubic feet"),
    "cu in": ("cubic inch", "cubic inches"),
    "cu. in": ("cubic inch", "cubic inches"),
    "cu m": ("cubic meter", "cubic meters"),
    "fl. oz": ("fluid ounce", "fluid ounces"),
    "ft-lb": ("foot pound", "foot pounds"),
    "ft-lbs": ("foot pound", "foot pounds"),
    "ft·lb": ("foot pound", "foot pounds"),
    "lb-ft": ("pound foot", "pound feet"),
    "kt": ("knot", "knots"),
    "kts": ("knot", "knots"),
    "inHg": ("inch of mercury", "inches of mercury"),
    "mpge": ("mile per gallon equivalent", "miles per gallon equivalent"),
    "MPG": ("mile per gallon", "miles per gallon"),
    "MPH": ("mile per hour", "miles per hour"),
    "RPM": ("revolution per minute", "revolutions per minute"),
    "BPM": ("beat per minute", "beats per minute"),
    "FPS": ("frame per second", "frames per second"),
    "DPI": ("dot per inch", "dots per inch"),
    "PSI": ("pound per square inch", "pounds per square inch"),
    "msec": ("millisecond", "milliseconds"),
    "usec": ("microsecond", "microseconds"),
    "µsec": ("microsecond", "microseconds"),
    "cfm": ("cubic foot per minute", "cubic feet per minute"),
    "gpm": ("gallon per minute", "gallons per minute"),
    "hp": ("horsepower", "horsepower"),
    "BTU": ("B-T-U", "B-T-U's"),
    "atm": ("atmosphere", "atmospheres"),
    "mmHg": ("millimeter of mercury", "millimeters of mercury"),
    "cmH2O": ("centimeter of water", "centimeters of water"),
    "KiB": ("kibibyte", "kibibytes"),
    "MiB": ("mebibyte", "mebibytes"),
    "GiB": ("gibibyte", "gibibytes"),
    "TiB": ("tebibyte", "tebibytes"),
    "kbit": ("kilobit", "kilobits"),
    "sec": ("second", "seconds"),
    "secs": ("second", "seconds"),
    "min": ("minute", "minutes"),
    "mins": ("minute", "minutes"),
    "hr": ("hour", "hours"),
    "hrs": ("hour", "hours"),
    "h": ("hour", "hours"),
    "wk": ("week", "weeks"),
    "wks": ("week", "weeks"),
    "yr": ("year", "years"),
    "yrs": ("year", "years"),
    "rpm": ("revolution per minute", "revolutions per minute"),
    "bpm": ("beat per minute", "beats per minute"),
    "fps": ("frame per second", "frames per second"),
    "psi": ("pound per square inch", "pounds per square inch"),
    "ppm": ("part per million", "parts per million"),
    "ppb": ("part per billion", "parts per billion"),
    "dpi": ("dot per inch", "dots per inch"),
    "ppi": ("pixel per inch", "pixels per inch"),
    "px": ("pixel", "pixels"),
    "rad": ("radian", "radians"),
    "Nm": ("newton meter", "newton meters"),
    "kNm": ("kilonewton meter", "kilonewton meters"),
    "kWp": ("kilowatt peak", "kilowatts peak"),
    "kgf": ("kilogram force", "kilograms force"),
    "lbf": ("pound force", "pounds force"),
}
# Units without a prefix that stand close to a number like the others.
_BARE = "m g L l W V Hz mol Pa Wh VA Ω Bq Gy Sv lm lx cd eV cal bar Ah A·h bps kat IU Wb bit"
# These are said only after a space, as "5N" may be anything.
_APART = "s J N t"
# Of a divisor only: "5 mg/d".
_DIVISORS = {
    "d": "day", "wk": "week", "mo": "month", "y": "year", "a": "year", "s": "second", "h": "hour",
    "A": "amp", "J": "joule", "N": "newton", "K": "kelvin", "T": "tesla", "C": "coulomb",
    "F": "farad", "U": "unit", "t": "tonne", "in": "inch", "ac": "acre", "sr": "steradian",
}  # fmt: skip
_WORDY = {"um": "µm", "us": "µs"}  # said only where they touch the number


def _table() -> dict[str, tuple[str, str]]:
    table = {}
    for symbol, (one, many, prefixes) in _PREFIXED.items():
        for prefix in prefixes:
            name = _PREFIXES[prefix]
            if symbol == "Ω" and prefix in "kM":  # kilohm, megohm
                name = name[:-1]
            table[prefix + symbol] = (name + one, name + many)
    for symbol in _BARE.split():
        table[symbol] = _PREFIXED[symbol][:2]
    return table | _ALONE


UNITS = _table()
"""Symbol: (one, many), of all that may follow a number directly or after a space."""
_FURTHER = {symbol: _PREFIXED[symbol][:2] for symbol in ("s", "J", "N", "A", "T", "t", "M", "B")}
_FURTHER |= {symbol: (name, name + "s") for symbol, name in _DIVISORS.items()} | {
    short: UNITS[long] for short, long in _WORDY.items()
}


def _one_of(symbols: object) -> str:
    listed = [str(symbol) for symbol in symbols]  # type: ignore[attr-defined]
    return "|".join(re.escape(each) for each in sorted(listed, key=len, reverse=True))


UNIT = _one_of(UNITS)
_POWER = r"(?:[²³]|\^?-?[23](?!\d)|\^-1)"
_FACTOR = rf"(?:{_one_of({*UNITS, *_FURTHER})}){_POWER}?"
_PER = r"(?:(?:100|10|1,?000|1\.73|24) ?)?"
_BELOW = (
    rf"/{_PER}(?:\({_FACTOR}(?:[·⋅* ]{_FACTOR})+\)|{_FACTOR}(?:[·⋅]{_FACTOR})*(?![\w²³])|"
    r"[a-z]{3,}(?![\w²³]))"
)
_FIRST = rf"(?:{UNIT}){_POWER}?"
_RATIO = rf"(?:[·⋅*]{_FACTOR}(?![\w²³]))*(?:{_BELOW})*"
# Read out without a number, because they are no words.
_LONE = (
    "kg mg cm mm km ml mL dL kHz MHz GHz kW kWh MWh mW mV kV mA mAh kPa hPa MPa kΩ MΩ GΩ mΩ mcg dB "
    "mmHg mmol keV MeV GeV TeV Mbps Gbps Mbit mSv"
)
_ELECTRIC = re.compile(
    r"(?i)\b(?:fuse|current|charge[rs]?|charging|circuit|breaker|amps?|socket|plug|batter(?:y|ies)|"
    r"power|supply|supplies|cable|USB|draws?|rated|volts?|adapter|outlet|wire|load|relay|motor)\b|"
    r"\d\s?[km]?[VWΩ]\b|\d\s?mAh?\b"
)

_SINGLE = re.compile(r"\b(?:per|a|an|one|each) $")
_TIMES = "second|minute|hour|day|night|week|month|year|person|head|unit|piece|mile|litre|liter"


def rules(numbers: Numbers) -> list[Rule]:
    """The rules for units, after those for ranges."""
    units = _Units(numbers)
    number = rf"(?<![\w.,])(?P<n>{NUMBER})"
    inched = r"(?<![\w.,])(?P<m>\d{1,3}(?:\.\d+)?)"
    return [
        Rule(r"(?<=\d)\s?%", lambda m: " percent"),
        Rule(r"(?<=\d)\s?‰", lambda m: " per thousand"),
        Rule(
            r"(?<![\w.])(?:(?P<feet>[4-8])['’′](?P<inches>1[01]|\d)(?:[\"”″]|'')?|"
            r"(?P<many>\d{1,2})['’′]\s?(?P<more>1[01]|\d)(?:[\"”″]|''))(?!\w)",
            units.feet,
        ),
        *_spelled_rules(units),
        Rule(
            r"(?<![\w.,])(?P<feet>\d)\s?ft\.?\s(?P<inches>1[01]|\d)\s?in\b\.?",
            units.feet,
        ),
        Rule(
            rf"{number}\s?in(?P<power>[²³]|\^[23])(?!\w)|{inched}[ -]?in\."
            rf"(?=(?P<stop>\s[A-Z]|$)|[,;:)]|\s(?:{_MEASURED}|or|and|x|×)\b)",
            units.inches,
        ),
        Rule(r"(?<![\w.,])(?P<n>\d+\.\d+)s\b", lambda m: f"{m['n']} seconds"),
        Rule(
            r"(?<![\w.,])(?P<n>\d+(?:\.\d+)?)m(?=\s(?:[a-z]+s|people|men|women|children|more)\b)",
            lambda m: numbers.number(m["n"]) + " million",
        ),
        Rule(
            rf"{number}(?P<gap>\s?-?)(?P<unit>{_FIRST}{_RATIO})(?![\w²³])(?P<stop>\.?)",
            units.measure,
        ),
        Rule(
            rf"{number}(?P<gap>)(?P<unit>(?:{_one_of(_WORDY)}){_POWER}?{_RATIO})"
            r"(?![\w²³])(?P<stop>\.?)",
            units.measure,
        ),
        Rule(
            rf"{number}(?P<gap> )(?P<unit>(?:{_one_of(_APART.split())}){_POWER}?{_RATIO})"
            r"(?![\w²³'’-]| [A-Z][a-z])(?P<stop>\.?)",
            units.measure,
        ),
        Rule(
            rf"{number}(?P<gap>\s?)(?P<unit>A{_RATIO})(?![\w²³'’-]| [A-Z])(?P<stop>\.?)",
            units.amps,
        ),
        Rule(
            r"(?<![\w.,])(?P<n>\d+\.\d+)(?P<gap>\s?)(?P<unit>T)(?!\w)(?P<stop>\.?)", units.measure
        ),
        Rule(
            rf"(?<![\w.,])(?P<n>{NUMBER})"
            r"(?:(?P<scale>bn|tn|trn|mn|mln|k)| (?P<apart>bn|trn|mln))\b",
            lambda m: f"{numbers.number(m['n'])} {SCALES[m['scale'] or m['apart']]}",
        ),
        *_numberless_rules(units),
    ]


def _spelled_rules(units: _Units) -> list[Rule]:
    """Feet and inches by their signs, degrees by letters, and what follows percent."""
    return [
        Rule(
            rf"(?<=percent)\s?/\s?(?P<unit>{_TIMES}|yr|mo|wk|hr|min|s)\b",
            lambda m: f" per {_PERIODS.get(m['unit'], m['unit'])}",
        ),
        Rule(
            r"(?<![\w.,])(?P<n>\d+(?:\.\d+)?)\s?(?P<sign>[\"”″]|''|['’′])(?=\s?[x×]\s?\d|"
            rf"\s(?:{_MEASURED})\b|(?:(?<=[″′])(?!\s?\d)))",
            units.length,
        ),
        Rule(
            r"(?<=[x×] )(?P<n>\d+(?:\.\d+)?)(?P<sign>[\"”″]|''|['’′])(?!\w)|"
            r"(?<=[x×])(?P<m>\d+(?:\.\d+)?)(?P<also>[\"”″]|''|['’′])(?!\w)",
            units.length,
        ),
        Rule(
            r"(?i:(?<=\bfever of )|(?<=temperature of )|(?<=temperature is )|(?<=temperature was )|"
            r"(?<=oven to )|(?<=heat to )|(?<=bake at )|(?<=high of )|(?<=low of ))"
            r"(?P<n>-?\d+(?:\.\d+)?)\s?(?P<scale>[FC])\b|"
            r"(?<![\w.])(?P<warm>(?:9\d|10\d)\.\d)(?P<also>F)\b",
            units.temperature,
        ),
    ]


def _numberless_rules(units: _Units) -> list[Rule]:
    """ "in mg/kg", "beats/min", "20/day"."""
    return [
        Rule(
            rf"(?<![\w./'’-])(?P<unit>{_FACTOR}(?:[·⋅]{_FACTOR})*(?:/{_PER}{_FACTOR})+)"
            r"(?![\w²³/])",
            units.without_number,
        ),
        Rule(
            rf"(?<![\w./'’-])(?P<unit>(?:{_one_of(_LONE.split())}|µ(?:g|m|s|L|l|A|V|F|W|mol|M))"
            rf"{_POWER}?|(?<=per )m[²³])(?![\w²³/'’]|\.\w)",
            lambda m: units.name(
                m["unit"], many=not re.search(r"\b(?:per|a|an|one|each) $", before(m))
            ),
        ),
        Rule(
            rf"(?<=[a-z]s)/(?P<unit>{_FACTOR}|{_TIMES})(?![\w/²³])",
            lambda m: f" per {units.name(m['unit'], many=False, below=True)}",
        ),
        Rule(
            r"(?<=[\w)])\s?/\s?(?P<unit>(?:mL|ml|µL|dL|L|kg|mg|km|cm|mm|hr|mol|kWh)[²³]?)(?![\w/²³])",
            lambda m: f" per {units.name(m['unit'], many=False, below=True)}",
        ),
        Rule(rf"(?<=\d)/(?P<unit>{_TIMES})\b", lambda m: f" per {m['unit']}"),
        Rule(r"µ(?=\w)", lambda m: " micro "),
        Rule(r"µ", lambda m: " mu "),
        Rule(r"Ω", lambda m: " ohms " if re.search(r"\d\s?$", before(m)) else " omega "),
    ]


_PERIODS = {
    "yr": "year", "mo": "month", "wk": "week", "hr": "hour", "min": "minute", "s": "second",
}  # fmt: skip
_MEASURED = (
    "tall|high|long|wide|deep|thick|across|square|in (?:diameter|length|height|width)|screen|"
    "display|monitor|TV|pipe|nails?|boards?|by|laptop|tablet|wheels?|pizza|ceilings?"
)


class _Units:
    """How units are said."""

    def __init__(self, numbers: Numbers) -> None:
        self.numbers = numbers

    def measure(self, m: Match) -> str:
        """A number and its unit."""
        single = m["n"] == "1" or m["gap"].endswith("-")
        said = f"{self.numbers.number(m['n'])} {self.name(m['unit'], many=not single)}"
        if not m["stop"]:
            return said
        stop = stop_before_capital(m)
        return said + (stop or ("" if re.match(r"\s*[a-z\d,;:]", after(m)) else "."))

    def amps(self, m: Match) -> str:
        """ "1.5A", "a 10 A fuse"; "Flat 5A" stays."""
        sentence = m.string[max(0, m.start() - 60) : m.end() + 60]
        if "." in m["n"] or "/" in m["unit"] or _ELECTRIC.search(sentence):
            return self.measure(m)
        return m[0]

    def without_number(self, m: Match) -> str:
        """ "in mg/kg", but not "a/b"."""
        factors = re.split(r"[/·⋅]", m["unit"])
        if m["unit"] in ("m/s", "g/L", "g/l", "V/m", "N/m", "W/m", "J/K") or (
            re.fullmatch(r"[mg]/[a-zA-Z][²³]|\w+/m[²³]", m["unit"])
        ):
            return self.name(m["unit"], many=True)
        # Words that look like symbols ("min/max", "cal/fat") have a neighbour that is none.
        if any(len(factor) > 1 and factor in UNITS for factor in factors) and all(
            factor.rstrip("²³") in UNITS or factor in _FURTHER or factor[:1].isdigit()
            for factor in factors
        ):
            return self.name(m["unit"], many=True)
        return m[0]

    def feet(self, m: Match) -> str:
        """ "6'2" is "six foot two"."""
        parts = m.groupdict()
        feet, inches = parts["feet"] or parts["many"], parts["inches"] or parts["more"]
        return f"{self.numbers.number(feet)} foot {self.numbers.number(inches)}"

    def inches(self, m: Match) -> str:
        """ "2 in³", and "6 in. wide", whose stop shows that it is no "in"."""
        number, power = m["n"] or m["m"], m["power"] or ""
        size = {"": "", "2": "square ", "²": "square ", "3": "cubic ", "³": "cubic "}[power[-1:]]
        said = f"{self.numbers.number(number)} {size}{'inch' if number == '1' else 'inches'}"
        return said + ("." if m["stop"] else "")

    def length(self, m: Match) -> str:
        """ "5' tall" is "five feet tall", "a 27\\" screen" has "twenty-seven inch"."""
        values = m.groupdict()
        number, sign = values["n"] or values["m"], values["sign"] or values["also"]
        one, many = ("foot", "feet") if sign in "'’′" else ("inch", "inches")
        noun = re.match(
            r"\s(?:screen|display|monitor|TV|pipe|nail|board|laptop|tablet|wheel|pizza|ceil)",
            after(m),
        )
        return f"{self.numbers.number(number)} {one if number == '1' or noun else many}"

    def temperature(self, m: Match) -> str:
        """ "a fever of 101 F"."""
        number, scale = m["n"] or m["warm"], m["scale"] or m["also"]
        said = self.numbers.number(number.lstrip("-"))
        minus = "minus " if number.startswith("-") else ""
        return f"{minus}{said} degrees {'Celsius' if scale == 'C' else 'Fahrenheit'}"

    def name(self, unit: str, many: bool, below: bool = False) -> str:
        """The words for an expression of units; `below` a stroke, d is a day."""
        above, *divisors = unit.split("/")
        factors = re.split(r"[·⋅*]", above)
        said = [self._factor(each, many and each is factors[-1], below) for each in factors]
        for divisor in divisors:
            count = re.match(r"[\d.,]+", divisor)
            symbols = divisor[count.end() :] if count else divisor
            said.append("per")
            if count:
                said.append(self.numbers.number(count[0]))
            parts = re.split(r"[·⋅* ]", symbols.strip(" ()"))
            said += [
                self._factor(each, many=bool(count) and each is parts[-1], below=True)
                for each in parts
            ]
        spoken = " ".join(said)
        if not self.numbers.american:
            spoken = spoken.replace("meter", "metre").replace("liter", "litre")
        return spoken

    def _factor(self, factor: str, many: bool, below: bool = False) -> str:
        found = re.fullmatch(rf"(?P<symbol>.+?)(?P<power>{_POWER})?", factor)
        assert found is not None
        symbol, power = found["symbol"], found["power"] or ""
        if factor in UNITS:  # "cmH2O" ends in no power
            symbol, power = factor, ""
        if below and symbol in _DIVISORS:
            one = _DIVISORS[symbol]
            many_ = one + "s"
        else:
            one, many_ = UNITS.get(symbol) or _FURTHER.get(symbol) or (symbol, symbol)
        name = many_ if many else one
        size = "square" if power[-1:] in ("2", "²") else "cubic"
        if not power:
            return name
        if "-" in power:
            return f"{name} to the minus {self.numbers.cardinal(power[-1])}"
        long = one.endswith(("meter", "foot", "inch", "mile", "yard"))
        return f"{size} {name}" if long else f"{name} {'squared' if size == 'square' else 'cubed'}"
