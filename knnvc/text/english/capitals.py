"""Words in capitals: what is spelled, what is read, and what is only shouted."""

from __future__ import annotations

import re

from knnvc.text.english.numbers import Match, Rule, after, before, spell

# Said letter by letter though espeak-ng would read them, and the other way round.
_SPELLED = frozenset(
    "IMF UAE ITV EPA ECB OECD ICC ICU ISP IRS IRA IPO IOC IDF EEC EFTA ETA ESA ESG EMS ISBN "
    "ADHD ACLU AFL ABC AOL ATF AFP AP ANC AMD AWS UFO USB URL USSR UCLA UNHCR IAEA "
    "IBM IQ IT OK ER EU UK UN US AI PR TV PC PM MP VP HR GP GDP GPU CPU DNA RNA ATM".split()
)
_ACRONYMS = frozenset(
    "NATO NASA AIDS SARS GIF RAM ROM PIN SIM VAT LAN WAN ZIP SAT ACT OPEC UNESCO UNICEF FIFA UEFA "
    "ICE ARM ASEAN APEC".split()
)
_READ = _ACRONYMS | frozenset(
    "THE AND NOT ALL YOU CAN NOW BUT ARE WAS NEW FOR HIS HER HAS HAD HIM HOW WHO WHY ITS OUR OUT "
    "ONE TWO SIX TEN GET GOT LET PUT SAY SEE SET TOP WAY WIN WAR YES YET MAN MEN DAY OLD OFF OWN "
    "END BIG BAD BOY CAR CUT DID DIE EAT FAR FEW FUN GOD GUN HIT HOT JOB KEY LAW LAY LOT LOW MAY "
    "MOM DAD NET NOR ODD OIL PAY RED RUN SAD SEA SIT SHE SON SUN TAX TEA TOO TRY USE VAN WET ANY "
    "ASK AGO AIR ART BED BIT BOX BUS BUY CRY CUP DOG EAR EGG EYE FIT FIX FLY GAS HAT ICY ILL INK "
    "JOY KID LIE MAP MIX MUD NUT PEN PET RAT RAW ROW SKY SPY TIE TOY VIA WIT ZOO MAX AGE ADD AID "
    "AN AS AT BE BY DO GO HE IF IN IS ME MY NO OF ON OR SO TO UP WE AH OH HA HI HO LO OX AM".split()
)
# Pronouns that are spelled with the same letters as something else; said small when shouted.
_PRONOUNS = frozenset("IT US".split())
_IT_OF_COMPUTERS = re.compile(
    r"\s+(?:DEPARTMENT|MANAGER|SUPPORT|STAFF|SYSTEMS?|SECURITY|SERVICES?|SECTOR|INDUSTRY|JOBS?|"
    r"TEAM|COMPANY|COMPANIES|FIRMS?|EXPERTS?|WORKERS?|BUDGET|PROJECTS?|INFRASTRUCTURE|OUTAGE)\b"
)
_US_OF_AMERICA = re.compile(
    r"\s+(?:ARMY|NAVY|AIR FORCE|MILITARY|PRESIDENT|SENATE|SENATORS?|CONGRESS|DOLLARS?|GOVERNMENT|"
    r"ECONOMY|TREASURY|TROOPS|FORCES|CITIZENS?|ELECTIONS?|SUPREME|MARINES?|STOCKS?|MARKETS?|"
    r"OPEN|TARIFFS?|EMBASSY|SANCTIONS?|OFFICIALS?|STATES?|BANKS?|FED|JOBS?|INFLATION|SOLDIERS?)\b"
)


def rules() -> list[Rule]:
    """The rules for words in capitals, when no digits are left."""
    return [
        Rule(
            r"\b(?P<a>[A-Z]{1,3})&(?P<b>[A-Z]{1,3})\b",
            lambda m: f"{spell(m['a'])} and {spell(m['b'])}",
        ),
        Rule(r"(?<![\w'])(?P<word>[A-Z]{2,6})(?P<tail>s|['’]s)?(?!\w)", _capitals),
    ]


def _capitals(m: Match) -> str:
    word, tail = m["word"], (m["tail"] or "").replace("’", "'")
    if re.match(r"['’][A-Z]", after(m)) and not tail:  # IT'S
        return word.lower() if word in _PRONOUNS else m[0]
    shouted = _shouted(m)
    if shouted and word in _PRONOUNS and not tail and _pronoun(m):
        first = re.search(r"(?:^|[.!?]['\")]*\s+)$", before(m))
        return word.capitalize() if first else word.lower()
    spelled = word in _SPELLED or (len(word) <= 3 and word not in _READ)
    if not spelled or (shouted and word not in _SPELLED):
        return m[0]
    return spell(word) + ("'s" if tail else "")


def _pronoun(m: Match) -> bool:
    """Whether a shouted IT or US is no department and no country."""
    ahead, behind = before(m), after(m)
    if m["word"] == "IT":
        return not re.search(r"\bAN\s+$", ahead) and not _IT_OF_COMPUTERS.match(behind)
    return not (re.search(r"\b(?:THE|A)\s+$", ahead) or _US_OF_AMERICA.match(behind))


def _shouted(m: Match) -> bool:
    """Whether the sentence is in capitals: a headline, where OUR is no abbreviation."""
    string = m.string
    start = max(string.rfind(mark, max(0, m.start() - 80), m.start()) for mark in ".!?:;") + 1
    start = max(start, m.start() - 80)
    ends = [at for mark in ".!?;" if (at := string.find(mark, m.end(), m.end() + 80)) >= 0]
    sentence = string[start : min([*ends, m.end() + 80])]
    around = re.findall(r"[A-Za-z]{2,}", sentence)
    loud = [word for word in around if word.isupper()]
    # "IBM IT" is not shouted, "IT WORKS" is: a word must be there that is no abbreviation.
    real = [
        word
        for word in loud
        if word not in _SPELLED
        and word not in _ACRONYMS
        and (len(word) > 3 or (word in _READ and (word != m["word"])))
    ]
    if re.search(r"\bI\b", sentence):
        around, loud = [*around, "I"], [*loud, "I"]
    return bool(real) and len(around) > 1 and len(loud) > 0.6 * len(around)
