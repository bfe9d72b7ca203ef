"""English as written in newspapers to English as read out."""

from knnvc.text.english.numbers import number_in_words
from knnvc.text.english.rules import English, english

__all__ = ["English", "english", "number_in_words"]
