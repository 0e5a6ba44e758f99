"""A `cuhk-03.mat` for tests, written cell by cell as MATLAB 7.3 does, whole or broken."""

import h5py
import numpy as np
import scipy.io

GROUPS = (5, 4, 3, 2, 1)
# (group, place, column): empty in both pools, and in `labeled` alone. Identity 15 has view A only.
EMPTY = {(0, 0, 1), (0, 4, 9), (2, 1, 4), *((4, 0, column) for column in range(5, 10))}
EMPTY_LABELED = {(1, 2, 0), (1, 2, 7)}
# Two test sets of (group, place), both from 1, used in turn.
TEST_SETS = ([(2, 1), (1, 5), (3, 2)], [(1, 1), (2, 4), (1, 3)])


def pixels(pool, group, place, column):
    """uint8 [height, width, 3], different for every cell, and in height, width and colours."""
    generator = np.random.default_rng([pool == "labeled", group, place, column])
    shape = (9 + place, 4 + column % 3, 3)
    return generator.integers(0, 256, shape, dtype=np.uint8)


def images(pool, groups=GROUPS):
    """The pixels of every image by (group, place, column), all from 0."""
    empty = EMPTY | (EMPTY_LABELED if pool == "labeled" else set())
    return {
        (group, place, column): pixels(pool, group, place, column)
        for group, number in enumerate(groups)
        for place in range(number)
        for column in range(10)
        if (group, place, column) not in empty
    }


def name(group, place, column):
    return f"{group + 1}_{place + 1:03d}_{1 + column // 5}_{column + 1:02d}.png"


class Mat:
    """A file that is being written; cells are lists of references."""

    def __init__(self, path, **options):
        self.file = h5py.File(path, "w", userblock_size=512)
        self.options = options
        self.count = 0

    def put(self, content, where=None, kind="double", **attributes):
        self.count += 1
        node = self.file.create_dataset(
            where or f"#refs#/{self.count}", data=content, **(self.options if where is None else {})
        )
        node.attrs["MATLAB_class"] = np.bytes_(kind)
        for key, value in attributes.items():
            node.attrs[key] = value
        return node.ref

    def put_cell(self, references, where=None):
        """References in MATLAB's order of axes: rows, then columns."""
        content = np.empty(np.shape(references), h5py.ref_dtype)
        content[:] = references
        return self.put_as_is(content.T, where)

    def put_as_is(self, content, where):
        self.count += 1
        node = self.file.create_dataset(where or f"#refs#/{self.count}", data=content)
        node.attrs["MATLAB_class"] = np.bytes_("cell")
        return node.ref

    def put_pool(self, pool, contents, groups=GROUPS):
        cells = []
        for group, number in enumerate(groups):
            rows = np.empty((number, 10), h5py.ref_dtype)
            for place in range(number):
                for column in range(10):
                    found = contents.get((group, place, column))
                    if found is None:
                        # MATLAB writes the dimensions of an empty matrix: 0 x 0, or 0 x 0 x 3.
                        sizes = np.zeros(2 + column % 2, np.uint64)
                        rows[place, column] = self.put(sizes, MATLAB_empty=np.uint8(1))
                    else:
                        rows[place, column] = self.put(found.T, kind="uint8")
            cells.append(self.put_cell(rows))
        self.put_cell([[cell] for cell in cells], pool)

    def put_test_sets(self, test_sets):
        cells = [[self.put(np.array(rows, np.float64).T)] for rows in test_sets]
        self.put_cell(cells, "testsets")

    def close(self):
        path = self.file.filename
        self.file.close()
        with open(path, "r+b") as file:
            file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: a day".ljust(124))
            file.write(b"\x00\x02IM")


def write(folder, *, test_sets=TEST_SETS, stand_in=True, leave_out=(), change=None, **options):
    """A whole file, or one without some variables, or with other pixels (`change`)."""
    folder.mkdir(parents=True, exist_ok=True)
    mat = Mat(folder / "cuhk-03.mat", **options)
    for pool in ("detected", "labeled"):
        if pool not in leave_out:
            contents = images(pool)
            if change is not None:
                change(pool, contents)
            mat.put_pool(pool, contents)
    if "testsets" not in leave_out:
        mat.put_test_sets([test_sets[number % len(test_sets)] for number in range(20)])
    mat.close()
    if stand_in:
        (folder / "STAND_IN.json").write_text('{"seed": 3}')
    return folder


def new_protocol(pool, *, num_train=9):
    """The content of a file of the new protocol: the first identities train, views are shuffled."""
    cells = sorted(images(pool))
    before = np.concatenate([[0], np.cumsum(GROUPS)])
    labels = np.array([500 - before[group] - place for group, place, _ in cells])
    cameras = np.array([1 + column // 5 for _, _, column in cells])
    # The one-view identity, the last, trains too.
    train = (labels > 500 - num_train) | (labels == labels.min())
    query = np.zeros(len(cells), bool)
    for label in set(labels[~train].tolist()):
        for camera in (1, 2):
            query[np.flatnonzero((labels == label) & (cameras == camera))[0]] = True
    return {
        "labels": labels[:, None].astype(float),
        "camId": cameras[:, None].astype(float),
        "filelist": np.array([[name(*cell)] for cell in cells], object),
        "train_idx": 1.0 + np.flatnonzero(train)[:, None],
        "query_idx": 1.0 + np.flatnonzero(query)[:, None],
        "gallery_idx": 1.0 + np.flatnonzero(~train & ~query)[:, None],
    }


def write_new_protocol(folder, pool, **changes):
    content = {**new_protocol(pool), **changes}
    content = {key: value for key, value in content.items() if value is not None}
    scipy.io.savemat(folder / f"cuhk03_new_protocol_config_{pool}.mat", content)
