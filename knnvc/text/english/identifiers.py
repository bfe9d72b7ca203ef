"""What is read letter by letter and digit by digit: telephones, cards, codes, addresses, paths."""

from __future__ import annotations

import re

from knnvc.text.english.numbers import Match, Numbers, Rule, spell

_STATES = {
    "AL": "Alabama", "AK": "Alaska", "AZ": "Arizona", "AR": "Arkansas", "CA": "California",
    "CO": "Colorado", "CT": "Connecticut", "DE": "Delaware", "FL": "Florida", "GA": "Georgia",
    "HI": "Hawaii", "ID": "Idaho", "IL": "Illinois", "IN": "Indiana", "IA": "Iowa",
    "KS": "Kansas", "KY": "Kentucky", "LA": "Louisiana", "ME": "Maine", "MD": "Maryland",
    "MA": "Massachusetts", "MI": "Michigan", "MN": "Minnesota", "MS": "Mississippi",
    "MO": "Missouri", "MT": "Montana", "NE": "Nebraska", "NV": "Nevada", "NH": "New Hampshire",
    "NJ": "New Jersey", "NM": "New Mexico", "NY": "New York", "NC": "North Carolina",
    "ND": "North Dakota", "OH": "Ohio", "OK": "Oklahoma", "OR": "Oregon", "PA": "Pennsylvania",
    "RI": "Rhode Island", "SC": "South Carolina", "SD": "South Dakota", "TN": "Tennessee",
    "TX": "Texas", "UT": "Utah", "VT": "Vermont", "VA": "Virginia", "WA": "Washington",
    "WV": "West Virginia", "WI": "Wisconsin", "WY": "Wyoming", "DC": "D-C",
}  # fmt: skip
_DOMAINS = frozenset("co io me my no at in on be is it we go to us up or of".split())
_SIGNS = {
    ".": "dot", "/": "slash", "\\": "backslash", "-": "dash", "_": "underscore", "@": "at",
    ":": "colon", "?": "question mark", "=": "equals", "&": "and", "#": "hash", "%": "percent",
    "~": "tilde", "+": "plus", "*": "star", "$": "dollar",
}  # fmt: skip
_FILES = (
    r"(?:pdf|txt|html?|docx?|xlsx?|pptx?|odt|rtf|jpe?g|png|gif|svg|webp|csv|tsv|mp[34]|wav|flac|ogg|"
    r"exe|zip|tar|gz|py|js|ts|json|ya?ml|toml|ini|cfg|log|md|sh|bat|cpp|hpp|rs|go|java|css|xml|sql|"
    r"srt|vtt|epub|iso|dll|deb|rpm|apk|conf|bak|tmp|ipynb|safetensors|onnx)"
)
_ENDS = r"com|org|net|edu|gov|info|io|co\.uk|ac\.uk|gov\.uk|eu|de|fr|it|es|ch|nl|tv|ai|dev|app"
_REST = r"[^\s<>\"'()\[\]{}]"
# What is called by a number that is no quantity; the second kind needs "number" or the like.
_CALLED = (
    r"(?:account|acct\.?|routing|PIN|passcode|password|OTP|SSN|zip code|ZIP|postcode|access code|"
    r"security code|verification code|confirmation code|code|CVV|VIN|IMEI|licen[cs]e plate|"
    r"extension|ext\.)(?: numbers?| no\.?| code| ID)?"
)
_NUMBERED = (
    r"(?:account|card|case|claim|confirmation|customer|employee|invoice|license|licence|member|"
    r"membership|model|order|part|passport|patient|phone|policy|reference|registration|reservation|"
    r"serial|student|tax|telephone|ticket|tracking|transaction)s? (?:number|no\.|ID|code|#)"
)
_APART = r"(?<![\w.,$£€/-])"
_PHONE = (
    r"(?<![\w.,$£€-])(?:\+\d{1,3}[\s.-]?|1[\s.-])?(?:\(\d{2,5}\)[\s.-]?|\d{2,5}[\s-])"
    r"\d{3,4}[\s.-]\d{3,4}(?![\w-]|[.,]\d)|(?<![\w.,$£€/-])(?:1\.)?\d{3}\.\d{3}\.\d{4}(?![\w.]*\d)|"
    r"(?<![\w.,$£€-])\+\d{1,3}(?:[\s-]?\d{2,4}){2,5}(?![\w-])|"
    r"(?<![\w.,$£€/-])\d{3}-\d{4}(?![\w-])|"
    r"(?<![\w.,$£€/-])0\d{2,4} \d{5,7}(?!\w)|(?<![\w.,$£€/-])0\d(?:[ .]\d\d){4}(?!\w)"
)


def address_rules(numbers: Numbers) -> list[Rule]:
    """Addresses of mail, the web and machines, paths, hexadecimal numbers: before all others."""
    one = _Addresses(numbers)
    return [
        # "Anna <a@b.com>"
        Rule(
            r"<(?P<inner>(?:[^\s<>@]{1,64}@[^\s<>@]{1,200}|[a-z]{1,9}://[^\s<>]{1,500}))>",
            lambda m: f", {m['inner']} ",
        ),
        Rule(r"(?<![\w.])[\w.+-]+@[\w-]+(?:\.[\w-]+)+(?::[\w./-]+\.git)?", one.address, final=True),
        Rule(
            rf"(?i)(?<![\w@])(?:[a-z][a-z\d+.-]{{1,9}}://|www\.){_REST}+",
            one.address,
            final=True,
        ),
        Rule(
            rf"(?<![\w@.])(?:[A-Za-z0-9][\w-]*\.)+(?:{_ENDS})\b(?::\d+)?(?:[/?]{_REST}*)?",
            one.address,
            final=True,
        ),
        Rule(r"(?<![\w.])localhost(?::\d{2,5})?(?:/\S*)?", one.address, final=True),
        # Paths
        Rule(rf"(?<!\w)(?:[A-Za-z]:|\\)\\{_REST}*", one.address, final=True),
        Rule(
            r"(?<![\w./%)\]])(?:~|\.{1,2})?/(?:[\w.@+-]+/)*[\w.@+-]*\w/?(?![\w'])", one.path, True
        ),
        Rule(rf"(?<![\w.])(?:[\w.-]+[/\\])*[\w-]+(?:\.[\w-]+)*\.{_FILES}\b", one.address, True),
        # Numbers of machines
        Rule(
            r"(?<![\w.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)"
            r"(?:[:/]\d{1,5})?(?![\w.]*\d)",
            one.octets,
            final=True,
        ),
        Rule(r"(?<!\w)(?:[\dA-Fa-f]{2}[:-]){5}[\dA-Fa-f]{2}(?!\w)", one.codes, final=True),
        Rule(
            r"(?<![\w:.])(?=[\da-fA-F:]*::|(?:[\da-fA-F]+:){4})(?:[\da-fA-F]{0,4}:){2,7}"
            r"[\da-fA-F]{1,4}(?![\w:])(?<![A-Za-z]{5})",
            one.colons,
            final=True,
        ),
        Rule(
            r"(?<!\w)[\dA-Fa-f]{8}-(?:[\dA-Fa-f]{4}-){3}[\dA-Fa-f]{12}(?!\w)",
            one.codes,
            final=True,
        ),
        Rule(r"(?<!\w)0[xX](?P<hex>[\dA-Fa-f]+)(?!\w)", one.hexadecimal, final=True),
        Rule(
            r"(?<!\w)#(?P<hex>(?=[A-Fa-f]*\d)(?=\d*[A-Fa-f])(?:[\dA-Fa-f]{6}|[\dA-Fa-f]{8}))\b",
            lambda m: f"hash {numbers.token(m['hex'])}",
            final=True,
        ),
        Rule(
            r"(?<![\w-])(?=[a-f]*\d)(?=\d+[a-f]+\d|[a-f]+\d+[a-f])[\da-f]{7,64}(?![\w-])",
            lambda m: numbers.token(m[0]),
            final=True,
        ),
        # Names of people and subjects
        Rule(r"(?<!\w)@(?P<name>\w+)", lambda m: f"at {_camel(m['name'])}"),
        Rule(r"(?<!\w)#(?P<name>\w*[A-Za-z]\w*)", lambda m: f"hashtag {_camel(m['name'])}"),
    ]


def rules(numbers: Numbers) -> list[Rule]:
    """Numbers that count nothing, before dates and quantities are looked for."""

    return [
        # Cards, bank accounts, books, social security
        Rule(
            r"\b(?P<name>IS[BS]N)(?:-1[03])?:?\s*(?P<n>(?:\d[ -]?){7,12}[\dXx])\b",
            lambda m: f"{spell(m['name'])} {numbers.groups(m['n'])}",
            final=True,
        ),
        Rule(
            rf"{_APART}3[47]\d{{13}}(?![\w-]|[.,]\d)",
            lambda m: numbers.groups(f"{m[0][:4]} {m[0][4:10]} {m[0][10:]}"),
            final=True,
        ),
        Rule(
            rf"{_APART}\d{{12,15}}(?![\w-]|[.,]\d|\s?%)",
            lambda m: numbers.groups(re.sub(r"(\d{4})(?=\d)", r"\1 ", m[0])),
            final=True,
        ),
        Rule(
            r"\b[A-Z]{2}\d{2}(?: [A-Z0-9]{4}){2,7}(?: [A-Z0-9]{1,4})?\b",
            lambda m: numbers.groups(m[0]),
            final=True,
        ),
        Rule(
            r"(?<![\w.,$£€-])(?:\d{4}[ -]){3}\d{1,7}(?![\w-]|[ ]\d)|"
            r"(?<![\w.,$£€-])\d{4}[ -]\d{6}[ -]\d{5}(?!\w)",
            lambda m: numbers.groups(m[0]),
            final=True,
        ),
        Rule(
            r"(?<![\w.,$£€-])[3-6]\d{15}(?![\w.])",
            lambda m: numbers.groups(re.sub(r"(\d{4})", r"\1 ", m[0])),
            final=True,
        ),
        Rule(
            rf"{_APART}97[89][- ]\d{{1,5}}[- ]\d{{1,7}}[- ]\d{{1,7}}[- ][\dX](?!\w)",
            lambda m: numbers.groups(m[0]),
            final=True,
        ),
        Rule(
            rf"{_APART}(?:\d{{3}}[- ]\d\d[- ]\d{{4}}|\d\d-\d{{7}}|\d-\d{{1,7}}-\d{{1,7}}-[\dXx])"
            r"(?![\w-]|[.,]\d)",
            lambda m: numbers.groups(m[0]),
            final=True,
        ),
        # Post codes
        Rule(
            r"\b(?P<state>" + "|".join(_STATES) + r")(?P<by>,? )(?P<n>\d{5}(?:-\d{4})?)(?![\w-])",
            lambda m: f"{_STATES[m['state']]}{m['by']}{numbers.groups(m['n'])}",
            final=True,
        ),
        Rule(rf"{_APART}\d{{5}}-\d{{4}}(?![\w-])", lambda m: numbers.groups(m[0]), final=True),
        *_called_rules(numbers),
    ]


def _vanity(word: str, numbers: Numbers) -> str:
    """ "FLOWERS", "GO-FEDEX" of a telephone number, with the digits among them."""
    parts = re.findall(r"\d+|[A-Z]+", word)
    said = (
        numbers.digits(part) if part.isdigit()
        else part.capitalize() if re.search("[AEIOUY]", part) and len(part) > 1
        else spell(part)
        for part in parts
    )  # fmt: skip
    return " ".join(said)


def _called_rules(numbers: Numbers) -> list[Rule]:
    """Telephones, and what is called a number."""
    return [
        Rule(
            r"(?i)(?P<verb>\b(?:call(?:s|ed|ing)?|dial(?:s|ed|l?ing)?|phon(?:e|ed|ing)|ring|rang) )"
            r"(?P<n>911|999|112|000|411|311|211|988|101|111)(?![\w-]|[.,]\d| [a-z]+s\b)",
            lambda m: f"{m['verb']}{numbers.digits(m['n'])}",
            final=True,
        ),
        Rule(
            r"(?<![\w-])911 (?=(?:calls?|dispatch|operators?|center|emergency)\b)",
            lambda m: f"{numbers.digits('911')} ",
            final=True,
        ),
        Rule(
            r"(?<![\w-])(?P<n>(?:1-)?8(?:00|33|44|55|66|77|88))-(?P<word>[A-Z][A-Z\d-]{3,11})(?!\w)",
            lambda m: f"{numbers.groups(m['n'])}, {_vanity(m['word'], numbers)}",
            final=True,
        ),
        Rule(_PHONE, lambda m: _phone(m, numbers), final=True),
        Rule(
            rf"{_APART}1?[2-9]\d{{9}}(?![\w-]|[.,]\d|\s?%)",
            lambda m: numbers.groups(f"{m[0][:-10]} {m[0][-10:-7]} {m[0][-7:-4]} {m[0][-4:]}"),
            final=True,
        ),
        Rule(
            rf"(?P<name>\b(?:(?i:{_CALLED})|(?i:{_NUMBERED})))"
            r"(?P<is>(?::| is| was| of|,)? ?#?)(?P<n>\d[\d -]{1,20}\d)(?![\w.,]*\d|\w)",
            lambda m: f"{m['name']}{m['is'].replace('#', '')}{numbers.groups(m['n'])}",
        ),
        Rule(
            r"(?<=\d{4})(?P<by> x ?| ext\.? ?)(?P<n>\d{2,5})\b",
            lambda m: f", extension {numbers.groups(m['n'])}",
        ),
        Rule(
            rf"{_APART}\d\d-\d\d-\d\d(?![\w-])",
            lambda m: numbers.groups(m[0]),
            final=True,
        ),
    ]


def _phone(m: Match, numbers: Numbers) -> str:
    number = m[0]
    if not number.startswith(("+", "(", "1-", "0")) and len(re.sub(r"\D", "", number)) < 7:
        return number
    said = ", ".join(numbers.digits(group) for group in re.findall(r"\d+", number))
    return f"plus {said}" if number.startswith("+") else said


class _Addresses:
    """How addresses are said."""

    def __init__(self, numbers: Numbers) -> None:
        self.numbers = numbers

    def address(self, m: Match) -> str:
        """Words and numbers with the signs between them by name."""
        address = m[0].rstrip(".,;:!?…'\"/")
        rest = m[0][len(address) :].strip("/")
        plain = re.sub(r"^(?i:https?://|ftp://)?(?i:www\.)?", "", address)
        if len(plain) > 80:  # nobody wants to hear the rest
            plain = plain.split("/")[0]
        return self._by_name(plain) + rest

    def path(self, m: Match) -> str:
        """ "/usr/bin"; "/ month" and "w/o" are none."""
        steps = [step for step in re.split(r"[/~.]", m[0]) if step]
        rooted = m[0].startswith(("~/", "./", "../"))
        return self._by_name(m[0]) if rooted or len(steps) > 1 else m[0].replace("/", " slash ")

    def octets(self, m: Match) -> str:
        """ "10.0.0.1" with its dots."""
        parts = re.findall(r"\d+|[.:/]", m[0])
        return " ".join(
            self.numbers.digits(part) if part.isdigit() else _SIGNS[part] for part in parts
        )

    def colons(self, m: Match) -> str:
        """ "fe80::1" with its colons; "std::abc" is none."""
        if not re.search(r"\d", m[0]):
            return m[0]
        parts = re.findall(r"[\dA-Fa-f]+|:", m[0])
        return " ".join("colon" if part == ":" else self.numbers.token(part) for part in parts)

    def codes(self, m: Match) -> str:
        """Letters and digits in their groups."""
        return self.numbers.groups(m[0])

    def hexadecimal(self, m: Match) -> str:
        """ "0xFF"."""
        return f"zero x {self.numbers.token(m['hex'])}"

    def _by_name(self, plain: str) -> str:
        said = []
        for part in re.findall(r"[A-Za-z]+|\d+|[^\w\s]|_|[^\W\d_]+", plain):
            if part.isdigit():
                said.append(self._number(part))
            elif part.isalpha():
                vowels = re.search(r"[aeiouyAEIOUY]", part) or not part.isascii()
                known = (vowels and len(part) > 2) or part in _DOMAINS
                said.append(part if known else spell(part))
            else:
                said.append(_SIGNS.get(part, ""))
        return " ".join(word for word in said if word)

    def _number(self, digits: str) -> str:
        if len(digits) == 4 and digits[:2] in ("19", "20"):
            return self.numbers.year(digits)
        short = len(digits) <= 3 and digits[0] != "0"
        return self.numbers.cardinal(digits) if short else self.numbers.digits(digits)


def _camel(name: str) -> str:
    """ "BlackLivesMatter_now" -> "Black Lives Matter now"."""
    return re.sub(r"(?<=[a-z])(?=[A-Z\d])", " ", name).replace("_", " ")
