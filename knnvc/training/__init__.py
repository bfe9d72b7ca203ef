"""Trainings of a vocoder or a text front end for any preset. Never imported by inference."""
