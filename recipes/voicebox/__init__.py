"""Voicebox: masked flow matching and a duration model (arXiv 2306.15687)."""
