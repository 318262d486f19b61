"""Evaluation: one metric per file. Imported as ``flowtts.eval``."""

if __name__ != "flowtts.eval":
    raise ImportError("import flowtts.eval, not eval")
