"""Sources of several data sets as one: whose image, identity and camera each row is."""

import dataclasses

import numpy as np
import pytest

from reid_jax import data


def source(dataset, split, identities, cameras=None):
    files = [f"{split}/{row}.png" for row in range(len(identities))]
    return data.Source(
        dataset=dataset,
        split=split,
        files=files,
        identities=np.array(identities, np.int64),
        cameras=None if cameras is None else np.array(cameras, np.int64),
        images=[f"{dataset}/{file}".encode() for file in files],
    )


A_TRAIN = source("a", "train", [4, 4, 7], [1, 2, 2])
B = source("b", "images", [1, 7, 2], [2, 1, 1])
A_GALLERY = source("a", "gallery", [9, -1, 0, 7], [1, 1, 2, 2])


def test_rows_keep_their_image_and_camera():
    joined = data.join([A_TRAIN, B, A_GALLERY], "all")
    assert (joined.dataset, joined.split, len(joined)) == ("a+b", "all", 10)
    expected = [f"{s.dataset}/{file}" for s in (A_TRAIN, B, A_GALLERY) for file in s.files]
    assert list(joined.files) == expected
    assert [joined[row].decode() for row in range(10)] == expected
    assert len(joined.images) == 10
    assert joined.cameras.tolist() == [1, 2, 2, 2, 1, 1, 1, 1, 2, 2]
    with pytest.raises(IndexError, match=r"row 10 of split 'all' of a\+b"):
        joined[10]
    taken = joined.take([9, 3, 0], "some")
    assert [taken[row].decode() for row in range(3)] == [expected[row] for row in (9, 3, 0)]


def test_identities_of_a_data_set_stay_together_and_never_meet_another_sets():
    joined = data.join([A_TRAIN, B, A_GALLERY], "all")
    # The highest identity of a is 9, so that those of b begin after it.
    assert joined.identities.tolist() == [4, 4, 7, 10, 16, 11, 9, -1, 0, 7]
    reversed_ = data.join([B, A_TRAIN], "all").identities
    assert reversed_.tolist() == [1, 7, 2, 11, 11, 14]


def test_an_empty_source_and_none_with_cameras():
    empty = source("c", "train", [])
    joined = data.join([empty, source("d", "train", [3])], "all")
    assert joined.identities.tolist() == [3]
    assert joined.cameras is None
    assert joined[0] == b"d/train/0.png"


def test_what_cannot_be_joined_is_refused():
    with pytest.raises(ValueError, match="no source"):
        data.join([], "all")
    blind = dataclasses.replace(B, cameras=None)
    with pytest.raises(ValueError, match="b has no cameras"):
        data.join([A_TRAIN, blind], "all")
