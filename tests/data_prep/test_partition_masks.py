"""Partition files of KISSME (idxtrain, idxtest), and logical masks as RSL's benchmark has them."""

import numpy as np
import pytest
import scipy.io

from data_prep.listing import Record
from data_prep.partition_files import read_partition

IDENTITIES = (3, 4, 9, 10, 40, 41, 77)
POOLS = {"images": [Record(f"cam_{c}/{i:03d}.bmp", i, c) for c in (1, 2) for i in IDENTITIES]}
SPLITS = [([3, 10, 41], [4, 9, 40, 77]), ([4, 9, 77], [3, 10, 40, 41])]
EXPECTED = [{"train": train, "test": test} for train, test in SPLITS]
ORDERS = {
    "identities": IDENTITIES,
    "images by camera": IDENTITIES * 2,
    "images by identity": [identity for identity in IDENTITIES for _ in (1, 2)],
}


def save(path, structs, *, name="partition"):
    array = np.empty((1, len(structs)), [(field, object) for field in structs[0]])
    for place, struct in enumerate(structs):
        for field, value in struct.items():
            array[0, place][field] = value
    scipy.io.savemat(path, {name: array})
    return path


def masks(order, splits=SPLITS, *, dtype=bool, fields=("idx_train", "idx_test")):
    return [
        {
            field: np.isin([order], side).astype(dtype)
            for field, side in zip(fields, split, strict=True)
        }
        for split in splits
    ]


def test_kissme(tmp_path):
    structs = []
    for split in SPLITS:
        train, test = ([IDENTITIES.index(i) + 1 for i in side][::-1] for side in split)
        structs.append(
            {
                "perm": np.array([train + test], np.uint16),
                "idxtrain": np.array([train], np.uint16),
                "idxtest": np.array([test], np.uint16),
                "idxtrain_neg": np.array([train], np.uint16),
            }
        )
    partition, problems = read_partition(save(tmp_path / "runs.mat", structs, name="runs"), POOLS)
    assert (partition.splits, problems) == (EXPECTED, [])


@pytest.mark.parametrize("dtype", [bool, np.uint8, float])
@pytest.mark.parametrize("order", ORDERS)
def test_masks(tmp_path, order, dtype):
    path = save(tmp_path / "p.mat", masks(ORDERS[order], dtype=dtype))
    partition, problems = read_partition(path, POOLS)
    assert (partition.splits, problems) == (EXPECTED, [])
    fields = ("idxtrain", "idxtest")
    path = save(tmp_path / "q.mat", masks(ORDERS[order], dtype=dtype, fields=fields))
    assert read_partition(path, POOLS)[0].splits == EXPECTED


def test_masks_over_the_identities_of_each_camera(tmp_path):
    """Several images of an identity in a camera, of which a mask knows one."""
    pools = {"images": [*POOLS["images"], Record("cam_1/003_2.bmp", 3, 1)]}
    path = save(tmp_path / "p.mat", masks(ORDERS["images by camera"]))
    assert read_partition(path, pools)[0].splits == EXPECTED


@pytest.mark.parametrize(
    ("structs", "message"),
    [
        (masks((3, 4, 9)), "logical masks of 3, which fit nothing; expected one entry for each of"),
        (masks(IDENTITIES + (3,) * 6 + (4,)), "logical masks of 14, which fit nothing"),
        (
            # Whole in either order, and not the same identities.
            [{"idx_train": np.array([[1] * 7 + [0] * 7]), "idx_test": np.zeros((1, 14))}],
            "fit nothing",
        ),
    ],
)
def test_masks_that_fit_nothing(tmp_path, structs, message):
    with pytest.raises(ValueError, match=message):
        read_partition(save(tmp_path / "p.mat", structs), POOLS)


def test_masks_that_fit_in_two_orders(tmp_path):
    pools = {"images": [Record(f"{i}.bmp", i, 4 - i) for i in (1, 2, 3)]}
    path = save(tmp_path / "p.mat", masks((1, 2, 3), [([1], [2, 3])]))
    with pytest.raises(ValueError, match="of 3, which could be read in more than one order"):
        read_partition(path, pools)
