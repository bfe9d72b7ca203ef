"""The phones of espeak-ng's en-us by their manner of articulation."""

MANNERS = {
    "vowels": "aeiouæɐɑɒɔəɚɛɜɪʊʌᵻ",
    "plosives": "pbtdkɡʔɾ",
    "fricatives": "fvθðszʃʒhx",
    "nasals": "mnŋ",
    "approximants": "lɹjw",
}
MANNER_OF = {phone: name for name, phones in MANNERS.items() for phone in phones}
