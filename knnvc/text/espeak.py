"""Text to phonemes (IPA) with espeak-ng, for every language that it speaks.

The library and its dictionaries come with the package `espeakng-loader`; this is a thin binding of
the four functions of `speak_lib.h` that are needed. The strings are those of `phonemizer`
(https://github.com/bootphon/phonemizer) with punctuation and stress kept, which is what published
text front ends were trained on; flags of a switch of language, like "(fr)", are left out.

espeak-ng keeps its state in global variables, so one lock guards all calls.
"""

from __future__ import annotations

import ctypes
import difflib
import re
import threading
from functools import lru_cache
from pathlib import Path
from typing import Any

from knnvc.errors import KnnvcError, UsageError

PUNCTUATION = ';:,.!?¡¿—…"«»“”(){}[]'
"""What is kept as it is and never shown to espeak-ng, which would drop it."""

_MARKS = re.compile(rf"\s*[{re.escape(PUNCTUATION)}](?:[{re.escape(PUNCTUATION)}]|\s)*")
_SWITCH = re.compile(r"\([a-z]{2,3}(?:-[a-z0-9]+)*\)")
_SYNCHRONOUS, _DO_NOT_EXIT = 0x02, 0x8000  # espeak_Initialize
_UTF8 = 1  # espeak_TextToPhonemes: encoding of the text
_IPA = 0x02 | ord("_") << 8  # IPA, phonemes separated by "_"; without, some would be tied
_MOST_BYTES = 4000  # of one call; espeak-ng cuts a longer clause anyway
_USUAL = {"en": "en-us", "fr": "fr-fr", "zh": "cmn"}  # codes that espeak-ng has only with a country
_LOCK = threading.Lock()
_current: list[bytes] = []  # the voice that espeak-ng has been told


class _Voice(ctypes.Structure):
    """espeak_VOICE of speak_lib.h."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_char_p),
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("reserved", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    )


@lru_cache(maxsize=1)
def _library() -> Any:
    """The library, initialised.

    Raises:
        KnnvcError: it is not there or does not find its dictionaries.
    """
    try:
        import espeakng_loader

        library = ctypes.CDLL(str(espeakng_loader.get_library_path()))
        data = str(espeakng_loader.get_data_path())
    except (ImportError, OSError, RuntimeError) as error:
        raise KnnvcError(
            f"espeak-ng cannot be loaded ({error}): run `pip install --force-reinstall "
            "espeakng-loader`"
        ) from error
    library.espeak_Initialize.argtypes = [
        *(ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_int)
    ]
    library.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(_Voice))
    library.espeak_ListVoices.argtypes = [ctypes.c_void_p]
    library.espeak_SetVoiceByName.argtypes = [ctypes.c_char_p]
    library.espeak_TextToPhonemes.restype = ctypes.c_char_p
    library.espeak_TextToPhonemes.argtypes = [
        *(ctypes.POINTER(ctypes.c_void_p), ctypes.c_int, ctypes.c_int)
    ]
    if library.espeak_Initialize(_SYNCHRONOUS, 0, data.encode(), _DO_NOT_EXIT) <= 0:
        raise KnnvcError(
            f"espeak-ng does not find its dictionaries in {data}: reinstall espeakng-loader, in a "
            "folder whose path has less than 150 characters"
        )
    return library


@lru_cache(maxsize=1)
def _voices() -> dict[str, tuple[str, str]]:
    """(identifier, name) of a voice for every language."""
    found: dict[str, tuple[str, str]] = {}
    with _LOCK:
        listed = _library().espeak_ListVoices(None)
        number = 0
        while listed[number]:
            voice = listed[number].contents
            number += 1
            identifier = (voice.identifier or b"").decode()
            # The first byte is the priority of the first of a voice's languages.
            language = (voice.languages or b"\0")[1:].decode()
            # Voices of MBROLA need data of its own; some others' dictionaries are not packaged.
            if language and not identifier.startswith("mb/") and _has_words(language, identifier):
                found.setdefault(language, (identifier, (voice.name or b"").decode()))
    return found


def _has_words(language: str, identifier: str) -> bool:
    """Whether the dictionary of a voice is there; most are named after the language."""
    import espeakng_loader

    data = Path(espeakng_loader.get_data_path())
    if (data / f"{language.split('-')[0]}_dict").is_file():
        return True
    voice = data / "lang" / identifier
    named = (
        re.search(r"^dictionary +(\S+)", voice.read_text("utf-8"), re.M)
        if voice.is_file()
        else None
    )
    return named is not None and (data / f"{named[1]}_dict").is_file()


@lru_cache(maxsize=1)
def languages() -> dict[str, str]:
    """Every language that espeak-ng speaks: its code, like "en-us", and its name, sorted."""
    return {code: name for code, (_, name) in sorted(_voices().items())}


@lru_cache(maxsize=64)
def find_language(language: str) -> str:
    """The code of a language, whatever its spelling: "en_US" is "en-us", "German" is "de".

    Raises:
        UsageError: espeak-ng does not speak it; the message names close matches.
    """
    known = languages()
    wanted = language.strip().lower().replace("_", "-")
    by_code = {code.lower(): code for code in known}
    if code := by_code.get(wanted) or by_code.get(_USUAL.get(wanted, "")):
        return code
    by_name = {name.lower(): code for code, name in known.items()}
    if wanted in by_name:
        return by_name[wanted]
    alike = [code for name, code in by_name.items() if len(wanted) > 2 and wanted in name]
    alike += difflib.get_close_matches(wanted, known, n=3)
    alike += [code for code in known if len(code) < 4 and wanted.startswith(code)]
    alike += [by_name[name] for name in difflib.get_close_matches(wanted, by_name, n=3)]
    codes = list(dict.fromkeys(alike))[:3] or ["en-us", "en-gb"]
    hint = ", ".join(f"{code} ({known[code]})" for code in codes)
    raise UsageError(
        f"espeak-ng does not speak {language!r}; close matches are {hint}, and "
        "`knnvc speak --languages` lists all"
    )


def phonemize(text: str, language: str = "en-us") -> str:
    """Phonemes of one line of text, as IPA with stress marks, words separated by a space.

    Punctuation stays where it is. The result is empty if nothing in `text` is spoken.

    Raises:
        UsageError: espeak-ng does not speak the language.
        KnnvcError: espeak-ng cannot be loaded.
    """
    identifier = _voices()[find_language(language)][0].encode()
    text = text.replace("\0", "").encode("utf-8", "ignore").decode()
    made, at = [], 0
    with _LOCK:
        _choose(identifier, language)
        for mark in _MARKS.finditer(text):
            made += [_spoken(text[at : mark.start()]), mark.group()]
            at = mark.end()
        made.append(_spoken(text[at:]))
    return "".join(made).strip()


def _choose(identifier: bytes, language: str) -> None:
    """Make a voice the current one, which takes longer than a short sentence; the lock is held."""
    if _current == [identifier]:
        return
    _current.clear()
    if _library().espeak_SetVoiceByName(identifier) != 0:
        raise KnnvcError(f"espeak-ng cannot speak {language!r}: choose another language")
    _current.append(identifier)


def _spoken(text: str) -> str:
    """Phonemes of `text`, which has no punctuation; the lock is held."""
    if not text.strip():
        return ""
    found = []
    for piece in _pieces(text):
        buffer = ctypes.create_string_buffer(piece)
        pointer = ctypes.c_void_p(ctypes.addressof(buffer))
        while pointer.value:  # espeak-ng moves it on, clause by clause, and sets it to 0 at the end
            phonemes = _library().espeak_TextToPhonemes(ctypes.byref(pointer), _UTF8, _IPA)
            found.append((phonemes or b"").decode("utf-8", "ignore"))
    joined = _SWITCH.sub("", " ".join(found)).replace("_", "")
    return " ".join(joined.split())


def _pieces(text: str) -> list[bytes]:
    """`text` in UTF-8, cut at spaces (or anywhere, where there are none) into what a call takes."""
    pieces, current = [], b""
    for word in text.split():
        encoded = word.encode()
        while len(encoded) > _MOST_BYTES:
            cut = encoded[:_MOST_BYTES].decode("utf-8", "ignore").encode()
            pieces += [current] if current else []
            pieces.append(cut)
            current, encoded = b"", encoded[len(cut) :]
        if current and len(current) + len(encoded) >= _MOST_BYTES:
            pieces.append(current)
            current = b""
        current = current + b" " + encoded if current else encoded
    return [*pieces, current] if current else pieces
