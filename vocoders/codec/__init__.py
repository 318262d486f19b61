"""The codec that comes with flowtts: see ``network``."""
