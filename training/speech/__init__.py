"""Measures speech's starters and writes their cards: `python -m training.speech`.

Nothing is learned here: `sphinx-en` and `espeak` come whole from installed packages.
"""
