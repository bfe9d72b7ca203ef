"""The recipe of the preset `mini`: corpora, teachers, trainings; run by `vocoder/mini.py`."""
