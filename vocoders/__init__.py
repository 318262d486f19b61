"""Vocoders and codecs: one file or folder per paper. Imported as ``flowtts.vocoders``."""

if __name__ != "flowtts.vocoders":
    raise ImportError("import flowtts.vocoders, not vocoders")
