"""Sound: files, sampling rates, levels and mel spectrograms."""
