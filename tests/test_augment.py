"""Augmentation is keyed per row: no row's result depends on the others or on its place."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reid_jax import augment
from reid_jax.keys import batch_keys

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (64, 12, 8, 3), dtype=np.uint8)
KEYS = batch_keys(0, 0, 64)

FUNCTIONS = {
    "flip": augment.random_flip,
    "crop": functools.partial(augment.random_crop, size=(9, 5)),
    "shift": functools.partial(augment.random_shift, padding=3),
    "flip_or_shift": functools.partial(augment.flip_or_shift, padding=(3, 1), fill=0),
    "erase": functools.partial(augment.random_erase, probability=0.5, fill=(1, 2, 3)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_rows_do_not_depend_on_the_batch(name):
    function = jax.jit(FUNCTIONS[name])
    whole = np.asarray(function(IMAGES, KEYS))
    order = RNG.permutation(64)[:10]
    np.testing.assert_array_equal(function(IMAGES[order], KEYS[order]), whole[order])
    typed = jax.random.wrap_key_data(jnp.asarray(KEYS))
    np.testing.assert_array_equal(function(IMAGES, typed), whole)
    assert whole.dtype == np.uint8
    assert len({row.tobytes() for row in np.asarray(function(IMAGES[:1].repeat(64, 0), KEYS))}) > 1


def test_flip_mirrors_about_half():
    flipped = np.asarray(augment.random_flip(IMAGES, KEYS))
    mirrored = (flipped == IMAGES[:, :, ::-1]).all((1, 2, 3))
    kept = (flipped == IMAGES).all((1, 2, 3))
    assert (mirrored ^ kept).all()
    assert 20 < mirrored.sum() < 44


def test_crop_is_a_window_and_all_places_occur():
    crops = np.asarray(FUNCTIONS["crop"](IMAGES, KEYS))
    places = set()
    for image, crop in zip(IMAGES, crops, strict=True):
        found = [
            (top, left)
            for top in range(4)
            for left in range(4)
            if (image[top : top + 9, left : left + 5] == crop).all()
        ]
        assert len(found) == 1
        places.add(found[0])
    assert {top for top, _ in places} == {left for _, left in places} == {0, 1, 2, 3}
    with pytest.raises(ValueError, match="does not fit"):
        augment.random_crop(IMAGES, KEYS, size=(13, 5))


def moves(image, result, vertical, horizontal, fill):
    """The (down, right) moves of an image that give a result."""
    height, width = image.shape[:2]
    found = []
    for down in range(-vertical, vertical + 1):
        for right in range(-horizontal, horizontal + 1):
            moved = np.full_like(image, fill)
            target = np.s_[max(down, 0) : height + down, max(right, 0) : width + right]
            source = np.s_[max(-down, 0) : height - down, max(-right, 0) : width - right]
            moved[target] = image[source]
            if (moved == result).all():
                found.append((down, right))
    return found


def test_shift_moves_each_way_and_fills():
    shifted = np.asarray(augment.random_shift(IMAGES, KEYS, padding=(3, 1), fill=7))
    found = [moves(*pair, 3, 1, 7) for pair in zip(IMAGES, shifted, strict=True)]
    assert all(len(places) == 1 for places in found)
    assert {down for ((down, _),) in found} == set(range(-3, 4))
    assert {right for ((_, right),) in found} == {-1, 0, 1}
    # In other units than pixels, and with the border by default.
    floats = augment.random_shift(IMAGES / 255 - 0.5, KEYS, padding=(3, 1), fill=0.25)
    assert (np.asarray(floats) == 0.25).any()
    edge = np.asarray(augment.random_shift(IMAGES, KEYS, padding=(0, 1)))
    assert all(
        (result == np.roll(image, 1, 1))[:, 1:].all() and (result[:, 0] == image[:, 0]).all()
        for image, result in zip(IMAGES, edge, strict=True)
        if (result[:, 1] == image[:, 0]).all()
    )


def test_flip_or_shift_is_one_of_five():
    keys = batch_keys(1, 0, 2000)
    image = IMAGES[:1]
    results = np.asarray(augment.flip_or_shift(image.repeat(2000, 0), keys, padding=(3, 1), fill=0))
    kinds = {"same": 0, "flipped": 0, "shifted": 0}
    places = set()
    for result in results:
        if (result == image[0]).all():
            kinds["same"] += 1
        elif (result == image[0, :, ::-1]).all():
            kinds["flipped"] += 1
        else:
            places.update(moves(image[0], result, 3, 1, 0))
            kinds["shifted"] += 1
    # One shift in 21 is by nothing.
    expected = {"same": 1 / 5 + 3 / 5 / 21, "flipped": 1 / 5, "shifted": 3 / 5 * 20 / 21}
    for kind, share in expected.items():
        assert abs(kinds[kind] / 2000 - share) < 4 * np.sqrt(share * (1 - share) / 2000)
    assert len(places) == 20


@pytest.mark.parametrize("num_shifted", [0, 2, 5])
def test_copies_of_an_image_are_equally_likely(num_shifted):
    results = np.asarray(
        augment.flip_or_shift(
            IMAGES[:1].repeat(2000, 0),
            batch_keys(2, 0, 2000),
            padding=(3, 1),
            fill=0,
            num_shifted=num_shifted,
        )
    )
    share, mirrored = 1 / (num_shifted + 2), (results == IMAGES[0, :, ::-1]).all((1, 2, 3)).mean()
    assert abs(mirrored - share) < 4 * np.sqrt(share * (1 - share) / 2000)
    if not num_shifted:
        assert mirrored + (results == IMAGES[0]).all((1, 2, 3)).mean() == 1


def test_erase_fills_one_rectangle():
    erased = np.asarray(augment.random_erase(IMAGES, KEYS, probability=1.0, fill=(1, 2, 3)))
    for image, result in zip(IMAGES, erased, strict=True):
        rows, columns = np.nonzero((result == (1, 2, 3)).all(-1))
        box = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert (result[box] == (1, 2, 3)).all()
        outside = np.ones(result.shape[:2], bool)
        outside[box] = False
        np.testing.assert_array_equal(result[outside], image[outside])
    none = augment.random_erase(IMAGES, KEYS, probability=0.0, fill=(1, 2, 3))
    np.testing.assert_array_equal(none, IMAGES)


def test_standardise():
    mean, std = np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 8.0])
    ours = augment.standardise(IMAGES, mean=mean, std=std)
    np.testing.assert_allclose(ours, (IMAGES - mean) / std, rtol=1e-6)
    image = RNG.random((12, 8, 3)) * 255
    np.testing.assert_allclose(
        augment.standardise(IMAGES, mean=image, std=std),
        (IMAGES - image) / std,
        rtol=1e-4,
        atol=1e-5,
    )
