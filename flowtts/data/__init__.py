"""Corpora to manifests, manifests to batches."""

from __future__ import annotations

from flowtts.data.dataset import Corpus, Item, batches, collate, corpus_batches, crop, join
from flowtts.data.prepare import Report, prepare
from flowtts.data.rows import KINDS

__all__ = ["KINDS", "Corpus", "Item", "Report", "batches", "collate", "corpus_batches", "crop", "join", "prepare"]
