"""The TFDS builder that all data sets share; it never needs TensorFlow."""

import errno
import io
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stdout

import numpy as np
import tensorflow_datasets as tfds
import tqdm
from etils import epath

from data_prep.listing import Record
from data_prep.raw import RawTree

__all__ = ["ReidBuilder"]


class ReidBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Writes records as they are listed, in that order, with the card as metadata.

    A data set's own class has its `name`; the package of `data_prep` has to be importable.
    """

    VERSION = tfds.core.Version("1.0.0")
    # TFDS looks beside the source file for check sums of downloads, which there are none of; with
    # etils 1.15 that search needs a package that TFDS 4.9.10 does not declare.
    code_path = None

    def __init__(
        self,
        *,
        data_dir: epath.PathLike,
        tree: RawTree,
        splits: dict[str, list[Record]],
        card: dict,
        progress: bool = True,
    ):
        """Makes the builder.

        Args:
            data_dir: where data sets are prepared; may be a bucket.
            tree: the raw files.
            splits: records of each split, in the order in which they are stored.
            card: what `reid_jax.data.dataset_card` returns later.
            progress: show a progress bar.
        """
        self._tree, self._splits, self._card, self._progress = tree, splits, card, progress
        super().__init__(data_dir=data_dir, file_format="array_record")

    def prepare(self) -> None:
        """Writes the data set; nothing that looks prepared is left if it fails.

        Raises:
            OSError: if the disk is full.
        """
        tfds.disable_progress_bar()
        try:
            # TFDS speaks of downloading.
            with tempfile.TemporaryDirectory() as downloads, redirect_stdout(io.StringIO()):
                self.download_and_prepare(download_dir=downloads)
        except Exception as error:
            # The record writer reports a full disk as its own exception, with this text.
            text = os.strerror(errno.ENOSPC)
            chain = (error, error.__cause__, error.__context__)
            full = any(getattr(e, "errno", None) == errno.ENOSPC or text in str(e) for e in chain)
            if full:
                raise OSError(
                    errno.ENOSPC,
                    f"{text}; free some, and run the same command again",
                    str(self._data_dir),
                ) from error
            raise

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"{self.name}, prepared for person re-identification.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3)),
                    "identity": np.int64,
                    "camera": np.int64,
                    "file": tfds.features.Text(),
                }
            ),
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(self._card),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        del dl_manager
        return {split: self._generate_examples(split) for split in self._splits}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict]]:
        records = tqdm.tqdm(
            self._splits[split],
            desc=f"writing {split}",
            unit="image",
            disable=not self._progress,
            file=sys.stderr,
        )
        for key, record in enumerate(records):
            yield (
                key,
                {
                    # Encoded bytes: an array would make TFDS import TensorFlow to encode it.
                    "image": self._tree.read(record.file),
                    "identity": record.identity,
                    "camera": record.camera,
                    "file": record.file,
                },
            )
