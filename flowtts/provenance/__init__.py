"""Where a recording comes from: a tag in the sound, a word in the file; see ``docs/provenance.md``."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowtts.provenance.metadata import comments as comments
    from flowtts.provenance.metadata import read_comments as read_comments
    from flowtts.provenance.tag import Found as Found
    from flowtts.provenance.tag import detect as detect
    from flowtts.provenance.tag import embed as embed

_WHERE = {"comments": "metadata", "read_comments": "metadata", "Found": "tag", "detect": "tag", "embed": "tag"}


def __getattr__(name: str) -> object:
    if name in _WHERE:
        from importlib import import_module

        return getattr(import_module(f"flowtts.provenance.{_WHERE[name]}"), name)
    raise AttributeError(f"module 'flowtts.provenance' has no attribute {name!r}")
