"""Names and special values of the records, the splits and the batches.

A record has `image` (encoded bytes), `identity` and `camera` (int64, as the data set numbers them)
and `file` (path from the root of the raw data set, with '/'). Splits are `train`, `query`,
`gallery`, `multi_query` (more images of the query identities), `val_query` and `val_gallery`.
"""

JUNK = -1
"""Identity of an image that never counts, right or wrong."""

DISTRACTOR = 0
"""Identity of a gallery image that is wrong for every query."""

NO_CAMERA = -1
"""Camera of every image of a data set without cameras."""

BATCH_KEYS = ("image", "identity", "camera", "row", "key")
"""Keys of a batch; a pair batch has each with `_a` and `_b`, and `same`."""

__all__ = ["BATCH_KEYS", "DISTRACTOR", "JUNK", "NO_CAMERA"]
