"""Text to lines that a front end speaks: words, phonemes, pauses, times."""
