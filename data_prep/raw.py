"""Raw data sets, as `reid_jax.data.raw` reads them."""

from reid_jax.data.raw import IMAGE_SUFFIXES, STAND_IN, RawTree, open_raw

__all__ = ["IMAGE_SUFFIXES", "STAND_IN", "RawTree", "open_raw"]
