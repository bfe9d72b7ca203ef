"""Instruments: what a conversion keeps of the words, gains of the target's voice, and sounds like.

Nothing here is needed to convert. Everything that listens is an extra, `knnvc[eval]`.
"""
