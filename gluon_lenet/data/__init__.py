"""Bytes on disk -> uint8 arrays -> float32 batches: transports, cache, idx, datasets, augment, transforms, batches."""
