"""Abbreviations and initials, and the sentences that end with one."""

from __future__ import annotations

import re

from knnvc.text.english.numbers import (
    BEGINNING,
    STARTERS,
    SURNAMES,
    Match,
    Rule,
    after,
    at_the_end,
    before,
    next_word,
    spell,
    stop_before_capital,
    stop_before_clause,
    stop_before_starter,
)

# Before a name they never end a sentence.
_TITLES = {
    "Mr": "Mister", "Mrs": "Missus", "Ms": "Miz", "Dr": "Doctor", "Prof": "Professor",
    "Gen": "General", "Col": "Colonel", "Sgt": "Sergeant", "Lt": "Lieutenant", "Capt": "Captain",
    "Cmdr": "Commander", "Adm": "Admiral", "Maj": "Major", "Cpl": "Corporal", "Pvt": "Private",
    "Rev": "Reverend", "Hon": "Honorable", "Gov": "Governor", "Sen": "Senator",
    "Sens": "Senators", "Rep": "Representative", "Reps": "Representatives", "Pres": "President",
    "Supt": "Superintendent", "Insp": "Inspector", "Det": "Detective", "Msgr": "Monsignor",
    "Messrs": "Messrs", "Mx": "Mix", "Mme": "Madam", "Fr": "Father", "Cdr": "Commander",
    "Brig": "Brigadier", "Amb": "Ambassador", "Atty": "Attorney", "Drs": "Doctors",
    "Profs": "Professors", "Pt": "Point",
    "Wm": "William", "Chas": "Charles", "Geo": "George", "Thos": "Thomas", "Jas": "James",
    "Jos": "Joseph", "Robt": "Robert", "Benj": "Benjamin",
    "Mt": "Mount", "Ft": "Fort", "St": "Saint",
}  # fmt: skip
_WITHOUT_STOP = ("Mr", "Mrs", "Ms", "Dr", "Prof", "St", "Mt", "Lt", "Col", "Sgt", "Capt")
# Before a capital letter these go on: "approx. London".
_OPEN = {
    "vs": "versus", "cf": "compare", "viz": "namely", "Univ": "University", "approx":
    "approximately", "ca": "circa", "incl": "including", "asst": "assistant", "Assn": "Association",
}  # fmt: skip
# These end a sentence where one begins after them.
_ABBREVIATIONS = {
    "Jr": "Junior", "Sr": "Senior", "Inc": "Incorporated", "Ltd": "Limited", "Co": "Company",
    "Corp": "Corporation", "Bros": "Brothers", "Ave": "Avenue", "Blvd": "Boulevard", "Rd": "Road",
    "Hwy": "Highway", "Pkwy": "Parkway", "Sq": "Square", "Dept": "Department",
    "Govt": "Government", "al": "al", "Tel": "Telephone", "tel": "telephone", "ext": "extension",
    "Calif": "California", "Conn": "Connecticut", "Fla": "Florida", "Mass": "Massachusetts",
    "Mich": "Michigan", "Minn": "Minnesota", "Okla": "Oklahoma", "Ariz": "Arizona",
    "Tenn": "Tennessee", "Tex": "Texas", "Wis": "Wisconsin", "Penn": "Pennsylvania",
    "Colo": "Colorado", "Ind": "Indiana", "Kan": "Kansas", "Neb": "Nebraska", "Nev": "Nevada",
    "Va": "Virginia", "Wash": "Washington", "Esq": "Esquire", "Ln": "Lane", "Pl": "Place",
    "Ct": "Court", "Cir": "Circle", "Expy": "Expressway", "Tpke": "Turnpike", "Bldg": "Building",
    "Mfg": "Manufacturing", "Intl": "International", "Natl": "National", "Rte": "Route",
    "Mgr": "Manager", "Assoc": "Associates", "Attn": "Attention", "Acct": "Account",
}  # fmt: skip
# These end one wherever a capital follows.
_CLOSED = {
    "etc": "et cetera", "est": "estimated", "dept": "department", "govt": "government",
    "max": "maximum", "min": "minimum", "misc": "miscellaneous", "temp": "temperature",
    "avg": "average", "hrs": "hours", "mins": "minutes", "secs": "seconds", "yrs": "years",
    "lbs": "pounds", "apt": "apartment", "ave": "avenue", "blvd": "boulevard",
    "prof": "professor", "capt": "captain", "assoc": "associate", "mgr": "manager",
    "mgmt": "management", "acct": "account", "appt": "appointment", "attn": "attention",
    "bldg": "building", "cert": "certificate", "encl": "enclosed", "esp": "especially",
    "intl": "international", "mfg": "manufacturing", "natl": "national", "orig": "original",
    "pkg": "package", "qty": "quantity", "resp": "respectively", "std": "standard",
    "usu": "usually", "amt": "amount", "abbr": "abbreviation", "hosp": "hospital",
    "univ": "university", "sgt": "sergeant", "gov": "governor", "sen": "senator",
    "vol": "volume", "vols": "volumes", "tsp": "teaspoon", "tbsp": "tablespoon",
}  # fmt: skip
_OPEN |= {word.capitalize(): said.capitalize() for word, said in _OPEN.items()}
_CLOSED |= {
    word.capitalize(): _CLOSED[word].capitalize()
    for word in "mgmt pkg qty orig esp encl appt amt std misc avg".split()
}
_WORDS = _OPEN | _ABBREVIATIONS | _CLOSED
_NUMBERED = {
    "No": "number", "no": "number", "NO": "NUMBER", "Nos": "numbers", "nos": "numbers",
    "Fig": "figure", "fig": "figure", "Figs": "figures", "figs": "figures",
    "Eq": "equation", "eq": "equation",
    "Vol": "volume", "vol": "volume", "Vols": "volumes", "Ch": "chapter", "ch": "chapter",
    "p": "page", "pp": "pages", "Pp": "pages", "Sec": "section", "c": "circa", "ca": "circa",
    "Art": "article", "art": "article", "v": "version", "Op": "opus", "op": "opus",
    "para": "paragraph", "Para": "paragraph", "Ex": "example", "Nr": "number",
    "Apt": "apartment", "apt": "apartment", "Ste": "suite",
    "ste": "suite", "Rm": "room", "rm": "room", "Bldg": "building", "bldg": "building",
    "Rte": "route", "rte": "route", "Hwy": "highway", "hwy": "highway", "Fl": "floor",
    "Ver": "version", "ver": "version", "Tab": "table", "Pt": "part", "pt": "part",
    "Sect": "section", "sect": "section", "sec": "section", "Chap": "chapter",
    "chap": "chapter", "App": "appendix", "app": "appendix", "Pg": "page", "pg": "page",
    "pgs": "pages", "Ep": "episode", "ep": "episode", "Bk": "book", "bk": "book",
    "Sc": "scene", "sc": "scene", "Ln": "line", "ln": "line", "lns": "lines", "Ext": "extension",
    "ext": "extension", "Col": "column", "col": "column", "vols": "volumes", "Ser": "series",
    "Iss": "issue", "iss": "issue", "Eqs": "equations", "eqs": "equations", "Secs": "sections",
    "Chs": "chapters", "chs": "chapters",
}  # fmt: skip
# "He said no. 5 people left", "I like art. 5 of us paint"
_ANSWERS = re.compile(
    r"(?i)\b(?:sa(?:y|ys|id|ying)|answer(?:s|ed)?|repl(?:y|ies|ied)|vot(?:e|es|ed)|shout(?:s|ed)?|"
    r"mean(?:s|t)|(?:answer|response|reply) (?:is|was)|a|yes or|told (?:me|him|her|us|them))\s+$"
)
_ARTS = re.compile(r"(?i)(?:\b(?:under|see|per|of|cf\.|and|with|to|in)|[(,;:]|^)\s*$")
_TAKEN_AS_ART = frozenset(("art", "op", "ex"))
# A letter after one of these names a thing, and is nobody's initial: "plan B. Sarah left".
_LETTERED = frozenset(
    "plan group team vitamin vitamins hepatitis type class grade section option part exhibit "
    "appendix room building block gate terminal channel model series formula figure table level "
    "phase question point line row column seat zone bus route flat apartment unit side hall lot "
    "schedule rule letter answer letters grades form step case category schedule street avenue "
    "platform house wing file entry key note item version layer set size generation drive "
    "language article chapter volume book episode season problem test sample product "
    "exit track floor lane dock pier deck tower site sector "
    "district region quadrant station pin drawer shelf box slot port cell patient suspect witness "
    "victim subject person company player".split()
)
# And one after these is: "by J. Smith".
_BEFORE_NAMES = frozenset(
    "by and with from to for of said says judge author per et named called for about against "
    "between president poet painter composer writer actor director".split()
)
_INSTITUTIONS = frozenset(
    "Senate Senator House Congress Congressman Army Navy Air Marine Marines Coast President "
    "Supreme Department Treasury Government Embassy Ambassador Attorney Court Constitution Capitol "
    "Virgin Open Steel Bank Federal Secretary State Space Postal Census Representative "
    "Representatives Geological Food Fish Forest Secret Customs Central Military Olympic "
    "Vice Dollar Grand Central Civil National Chamber Citizenship Immigration Soccer".split()
)
_STREETS = (
    "St|Ave?|Blvd|Rd|Dr|Ln|Pl|Ct|Hwy|Pkwy|Sq|Street|Avenue|Boulevard|Road|Drive|Lane|Place|Court|"
    "Highway|Parkway|Square|Way"
)
_DIRECTIONS = {
    "N": "North", "S": "South", "E": "East", "W": "West", "NE": "Northeast", "NW": "Northwest",
    "SE": "Southeast", "SW": "Southwest",
}  # fmt: skip


def rules() -> list[Rule]:
    """The rules for abbreviations, before those for numbers."""
    numbered = "|".join(sorted(_NUMBERED, key=len, reverse=True))
    return [
        *_place_rules(),
        Rule(r"\b(?:e\.\s?g\.|eg\.)", lambda m: "for example"),
        Rule(r"\b(?:i\.\s?e\.|ie\.)", lambda m: "that is"),
        Rule(r"\b[Ww]/o(?:ut)?\b", lambda m: "without"),
        Rule(r"\b[Ww]/in\b", lambda m: "within"),
        Rule(r"(?<=\d)[ -]?y/o\b", lambda m: " years old"),
        Rule(r"\bVS\b\.?(?=\s)", lambda m: "VERSUS"),
        Rule(r"(?<!\d)(?<!\d )\bw/(?=\s|[a-z]{2})", lambda m: "with "),
        Rule(r"\bb/c\b", lambda m: "because"),
        Rule(r"\bc/o\b", lambda m: "care of"),
        Rule(r"\b[Nn]/[Aa]\b", lambda m: "N-eigh"),
        Rule(
            r"\bPh\.?\s?D\b(?P<stop>\.?)",
            lambda m: "P-H-D" + (stop_before_capital(m) if m["stop"] else ""),
        ),
        Rule(
            rf"(?<![\w'’])(?P<name>{numbered})\.\s?#?(?P<which>\d[\w-]*|(?-i:[A-Z]{{1,3}}-?\d[\w-]*)|"
            r"[IVXLC]{2,}\b|[IVXLC](?=[,;:)\]]|\.?$|\.\s|\s(?:of|and|in|to|is|was)\b))",
            _numbered,
        ),
        Rule(
            r"\b(?P<name>[Ff]igs?|Eqs?|Rm|Ste|Sect|Tab|[Pp]t)\.\s(?P<which>[A-HJ-Z])"
            r"(?=[.,;:)]|$|\s(?:is|are|and|shows?|of|to|in)\b)",
            lambda m: f"{_NUMBERED[m['name']]} {m['which']}",
        ),
        Rule(
            # "Main St. was closed" and "5th Ave."; a saint stands before a name.
            r"(?P<name>(?:[A-Z][\w'’]+|\b[JS]r\.|\d(?:st|nd|rd|th)) )(?P<way>St|Dr)\b"
            r"(?P<stop>\.)(?=$|[,;:)?!]|\s+(?:[a-z\d(]|[NSEW]\b|(?:North|South|East|West|"
            + "|".join(STARTERS)
            + r")\b))",
            lambda m: m["name"] + _WAYS[m["way"]] + stop_before_starter(m),
        ),
        Rule(
            # "on Elm St. Tom lives", "12 Elm St. Tom lives"
            r"(?P<name>(?:\b(?:on|along|off|down|up|across) |\b\d+[A-Za-z]? )"
            r"(?:[A-Z][\w'’]+ ){1,2})(?P<way>St|Dr)\.(?=\s+[A-Z])",
            lambda m: m["name"] + _WAYS[m["way"]] + stop_before_capital(m),
        ),
        Rule(
            r"\b(?P<title>" + "|".join(_TITLES) + r")\.(?=\s*[A-Z]|\s+(?:and|or|&) [A-Z]|\s*$)",
            _title,
        ),
        Rule(
            r"\b(?P<title>Mr|Mrs|Dr|Prof|Sgt|Capt|Cmdr|Cpl|Pvt|Rev|Gov|Sen|Supt|Msgr)\.(?=\s+[a-z])",
            lambda m: _TITLES[m["title"]],
        ),
        Rule(
            r"\b(?P<title>" + "|".join(_WITHOUT_STOP) + r") (?=[A-Z][a-z'])",
            lambda m: _TITLES[m["title"]] + " ",
        ),
        Rule(r"\b(?P<word>" + "|".join(_WORDS) + r")\.", _abbreviation),
        *_initial_rules(),
    ]


def _place_rules() -> list[Rule]:
    """Directions in addresses, and editions of books."""
    return [
        Rule(
            # "123 N. Main St.", "E 45th St."
            r"(?<![\w.])(?P<way>N|S|E|W|NE|NW|SE|SW)\.?"
            rf"(?= (?:[A-Z][\w'’]+ |\d+(?:st|nd|rd|th) ){{1,3}}(?:{_STREETS})\b)",
            lambda m: _DIRECTIONS[m["way"]],
        ),
        Rule(
            r"(?<= (?:St|Rd|Ln|Pl|Ct|Dr)\. )(?P<way>N|S|E|W|NE|NW|SE|SW)\b\.?(?=[,;)]|$)|"
            r"(?<= (?:Ave)\. )(?P<also>N|S|E|W|NE|NW|SE|SW)\b\.?(?=[,;)]|$)",
            lambda m: _DIRECTIONS[m["way"] or m["also"]],
        ),
        Rule(
            r"(?P<n>\d(?:st|nd|rd|th)|[Rr]ev(?:ised)?\.?|[Ss]econd|[Ff]irst|[Tt]hird) eds?\.",
            lambda m: m["n"] + " edition",
        ),
    ]


def _initial_rules() -> list[Rule]:
    """ "U.S.", "J. K. Rowling", "George W. Bush"; and sentences that begin with a number."""
    return [
        Rule(r"(?<=[\w)%\"'’”][.!?])(?P<gap>[\"'”’)]*\s+)(?=[$£€#(+-]{0,2}\d)", _begin),
        Rule(r"\bvs?\b(?=\s)(?<!\w\W)", lambda m: "versus"),
        Rule(r"\b(?P<word>Jr|Sr)\b", lambda m: _WORDS[m["word"]]),
        Rule(r"\b(?P<letters>(?:[A-Za-z]\.){2,})(?P<owner>['’]s)?(?!\w)", _dotted),
        Rule(
            r"(?<![\w.])(?P<letters>(?:[A-Za-z]\.)+[A-Za-z])(?![\w.])",
            lambda m: spell(m["letters"].replace(".", "")),
        ),
        Rule(
            r"(?<![\w'-])(?P<letters>(?:[A-Z]\.\s?){1,3})(?=\s*[A-Z][a-zA-Z'])",
            _initials,
        ),
    ]


_WAYS = {"St": "Street", "Dr": "Drive"}


def _numbered(m: Match) -> str:
    """ "No. 5" is a number; "He said no. 5 people left" is an answer and a sentence."""
    ahead, behind = before(m), after(m)
    name, which = m["name"], m["which"]
    gap = re.match(r"\w+\.(\s?)", m[0])
    counted = (
        r" (?!(?:is|was|has|does|its|this)\b)[a-z]+s\b| (?:people|men|women|of (?:us|them|you))\b"
    )
    people = bool(gap and gap[1] and re.match(counted, behind))
    if (
        name in ("no", "No")
        and _ANSWERS.search(ahead)
        and (people or len(which) == 1 > which.isdigit())
    ):
        return m[0]
    if name == "NO" and (
        _ANSWERS.search(ahead)
        or re.match(r" (?:PEOPLE|MEN|WOMEN|OF|[A-Z]+S\b(?<! IS)(?<!S))", behind)
    ):
        return m[0]
    if name.lower() in _TAKEN_AS_ART and (
        people or (name.islower() and not _ARTS.search(ahead)) or which == "I"
    ):
        return m[0]
    if which == "I" and name.islower() and not re.match(r"[,;:)\]]|\.?$", behind):
        return m[0]
    if name == "No" and people and (not ahead.strip() or ahead.rstrip()[-1] in ".!?\"'“"):
        return m[0]  # "No. 5 people left."
    return f"{_NUMBERED[name]} {which}"


def _title(m: Match) -> str:
    """A title before a name, or one that ends a sentence: "I saw the Dr. He was kind"."""
    said = _TITLES[m["title"]]
    word = next_word(m).split("'")[0]
    if at_the_end(m):
        return said + "."
    words = before(m).split()
    owned = bool(words) and words[-1].lower() in (
        "the a an my his her our your their this that no".split()
    )
    follows = after(m).lstrip()[len(word) : len(word) + 1]
    if (
        word in STARTERS
        and (owned or word not in SURNAMES)
        and not (word in SURNAMES and follows in (".", ",", "'"))
    ):
        return said + "."
    return said + (" " if not m.string[m.end()].isspace() else "")


_DATED = re.compile(
    r"(?:\b(?:Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec|Mon|Tues?|Wed|Thu|Thurs?|Fri|Sat|Sun|Rs|Re|Fr|SFr|Kr|kr|Bs|KSh|Ksh|"
    r"[A-Za-z])|\b\d+(?:\.\d+)?\s?[A-Za-z]{1,4})\.$"
)


def _begin(m: Match) -> str:
    """The mark of a beginning before a number, but not after "Jan." and "5 ft."."""
    dated = _DATED.search(before(m))
    return m["gap"] if dated else m["gap"] + BEGINNING


def _abbreviation(m: Match) -> str:
    word = m["word"]
    ahead = before(m)
    if re.search(r"(?:\d\s?|/)$", ahead):  # a unit
        return m[0]
    if word == "min" and re.search(r"\bper $", ahead):
        return "minute" + stop_before_capital(m)
    if word == "est" and re.match(r"\s?(?:in )?(?:1\d|20)\d\d\b", after(m)):
        return "established"
    if word in _OPEN:
        stop = "." if at_the_end(m) else ""
    elif word in _CLOSED:
        stop = stop_before_capital(m)
    else:
        stop = stop_before_clause(m)
    return _WORDS[word] + stop


def _dotted(m: Match) -> str:
    """ "U.S." and the like."""
    said = spell(m["letters"].replace(".", ""))
    if m["owner"]:
        return said + "'s"
    word = next_word(m)
    place = m["letters"] in ("U.S.", "U.K.", "D.C.", "U.N.", "E.U.", "L.A.", "U.S.A.")
    whole = re.search(
        r"\b(?:in|to|from|of|across|outside|inside|within|throughout|leave|left|and|visit(?:ed)?)"
        r"(?: the)? (?:Washington,? )?$",
        before(m),
    )
    if place and whole and word[:1].isupper() and word[1:].islower():
        return said + ("" if word in _INSTITUTIONS else ".")
    return said + stop_before_starter(m)


def _initials(m: Match) -> str:
    """ "J. K. Rowling", but not "He got an A. She left" or "plan B. Sarah left"."""
    letters = re.sub(r"[.\s]", "", m["letters"])
    word = next_word_inside(m)
    ahead = before(m).rstrip()
    last = re.sub(r"\W", "", ahead.split()[-1]) if ahead else ""
    lettered = last.lower() in _LETTERED
    # "vitamin A and C. Dogs need it": a pair of letters.
    paired = bool(re.search(r"\b[A-Z],? (?:and|or|to)$", ahead))
    named = (
        not ahead
        or ahead[-1] in ".,;:!?\"'“("
        or (last[:1].isupper() and last != "I")
        or (last.lower() in _BEFORE_NAMES and letters != "I")
    )
    if len(letters) == 1 and (word in STARTERS or not named or lettered or paired):
        return m[0]
    return spell(letters) + " "


def next_word_inside(m: Match) -> str:
    """The word right after initials, whose match takes the space."""
    found = re.match(r"\s*([A-Za-z']*)", after(m))
    return found[1] if found else ""
