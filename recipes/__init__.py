"""Recipes: one folder per paper. Imported as ``flowtts.recipes``."""

if __name__ != "flowtts.recipes":
    raise ImportError("import flowtts.recipes, not recipes")
