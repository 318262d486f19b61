"""Editing recordings: what changes, what stays, and how the two are joined."""
