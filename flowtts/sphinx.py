"""One utterance through a pocketsphinx decoder, without traces of the one before."""

from __future__ import annotations

import warnings
from typing import Any


def decode(decoder: Any, pcm: bytes) -> None:
    """Decode one utterance; its result is read from the decoder afterwards.

    Args:
        decoder: a ``pocketsphinx.Decoder``.
        pcm: 16-bit little-endian mono samples at the decoder's rate.

    Raises:
        RuntimeError: pocketsphinx could not decode.
    """
    # Forgets the estimate of the noise. pocketsphinx calls that unnecessary, but without it the same recording is
    # decoded differently the second time.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        decoder.start_stream()
    decoder.start_utt()
    decoder.process_raw(pcm, no_search=False, full_utt=True)
    decoder.end_utt()
