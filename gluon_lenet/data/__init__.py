"""Bytes on disk -> uint8 arrays -> float32 batches: sources, idx, datasets, transforms, batches, in that order."""
