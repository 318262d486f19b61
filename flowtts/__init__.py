"""flowtts: diffusion and flow-matching text-to-speech: speak, edit, compare.

``flowtts.load("voicebox").say("Hello.", voice="ref.wav").save("out.wav")``
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowtts.pipeline import Pipeline as Pipeline
    from flowtts.pipeline import load as load
    from flowtts.pipeline import replay as replay
    from flowtts.speech import Speech as Speech
    from flowtts.types import Audio as Audio
    from flowtts.types import UserError as UserError

__version__ = "0.1.0"
__all__ = ["Audio", "Pipeline", "Speech", "UserError", "__version__", "load", "replay"]

_WHERE = {
    "Pipeline": "flowtts.pipeline",
    "load": "flowtts.pipeline",
    "replay": "flowtts.pipeline",
    "Speech": "flowtts.speech",
    "Audio": "flowtts.types",
    "UserError": "flowtts.types",
}


def __getattr__(name: str) -> object:
    # Importing flowtts must not import torch: the command line answers --help at once.
    if name in _WHERE:
        from importlib import import_module

        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'flowtts' has no attribute {name!r}")
