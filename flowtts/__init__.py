"""flowtts: diffusion and flow-matching text-to-speech."""

__version__ = "0.1.0"
