"""Files of features made elsewhere: both forms, every kind of file, and what is refused."""

import h5py
import numpy as np
import pytest
import scipy.io

from references.own_trees import folders, market, write
from reid_jax import data

PEOPLE = [1, 1, 2, 2, 3]
CAMERAS = [1, 2, 1, 3, 2]


def rows(number, dim=4, seed=0):
    return np.random.default_rng(seed).normal(size=(number, dim)).astype(np.float32)


def sided(**changed):
    """What a baseline of Market-1501 writes."""
    arrays = {
        "query_f": rows(2),
        "query_label": np.array([1, 2]),
        "query_cam": np.array([2, 1]),
        "gallery_f": rows(5, seed=1),
        "gallery_label": np.array(PEOPLE),
        "gallery_cam": np.array(CAMERAS),
    }
    return {name: array for name, array in {**arrays, **changed}.items() if array is not None}


def named(files, **changed):
    """What ``reid-jax embed`` writes of a folder whose form says nothing."""
    arrays = {
        "features": rows(len(files)),
        "files": np.array(files),
        "identities": np.array([""] * len(files)),
        "cameras": np.array([""] * len(files)),
        "model": np.array("digest"),
    }
    return {**arrays, **changed}


def saved(path, arrays):
    if path.suffix == ".mat":
        scipy.io.savemat(path, arrays)
    elif path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                text = array.dtype.kind == "U"
                file[name] = array.astype(h5py.string_dtype()) if text else array
    return path


@pytest.mark.parametrize("suffix", [".npz", ".mat", ".h5"])
def test_a_file_with_sides(tmp_path, suffix):
    arrays = sided(mquery_f=rows(3), mquery_label=np.array([1, 1, 2]), mquery_cam=np.ones(3, int))
    path = saved(tmp_path / f"features{suffix}", arrays)
    lists = data.read_features(path)
    assert list(lists) == ["query", "gallery", "multi_query"]
    np.testing.assert_array_equal(lists["gallery"].features, arrays["gallery_f"])
    sources = data.feature_sources(lists, path)
    assert sources["gallery"].identities.tolist() == PEOPLE
    assert sources["gallery"].cameras.tolist() == CAMERAS
    assert sources["query"].files == ["query/0", "query/1"]
    found = data.aligned_features(lists, sources["query"], "query", where="file")
    np.testing.assert_array_equal(found, arrays["query_f"])
    with pytest.raises(ValueError, match="has features, and no images"):
        sources["query"][0]


@pytest.mark.parametrize("suffix", [".npz", ".h5", ".mat"])
def test_a_file_with_names_is_brought_into_the_order_of_a_folder(tmp_path, suffix):
    root = write(tmp_path / "shop", *market("query/", (1, 2)), *market("gallery/", (1, 2, 3)))
    sources = data.open_splits(root)
    every = [*sources["query"].files, *sources["gallery"].files]
    files = every[::-1]
    for prefix, strip in (("", ""), ("/photos/shop/", ""), ("", "gallery/")):
        shown = [prefix + file.removeprefix(strip) for file in files]
        arrays = named(shown)
        lists = data.read_features(saved(tmp_path / f"x{suffix}", arrays))
        split = "gallery"
        found = data.aligned_features(lists, sources[split], split, where="x")
        for row, file in enumerate(sources[split].files):
            expected = arrays["features"][files.index(file)]
            np.testing.assert_array_equal(found[row], expected)


def test_names_say_who_is_on_the_images(tmp_path):
    files = [*market("query/", (1, 2)), *market("gallery/", (1, 2, 3))]
    path = saved(tmp_path / "x.npz", named(files))
    sources = data.feature_sources(data.read_features(path), path)
    opened = data.open_splits(write(tmp_path / "shop", *files))
    assert sources.keys() == opened.keys()
    for split, source in opened.items():
        assert list(sources[split].files) == list(source.files)
        np.testing.assert_array_equal(sources[split].identities, source.identities)
        np.testing.assert_array_equal(sources[split].cameras, source.cameras)
    with pytest.raises(ValueError, match="and not the image"):
        sources["query"][0]


def test_the_file_says_who_is_on_the_images(tmp_path):
    """Its identities count, and not the sub-folders, which are those of days."""
    files = [f"{split}/monday/{i}.jpg" for split in ("query", "gallery") for i in range(3)]
    people, cameras = ["eva", "ada", "eva"] * 2, ["door"] * 3 + ["hall"] * 3
    arrays = named(files, identities=np.array(people), cameras=np.array(cameras))
    path = saved(tmp_path / "x.npz", arrays)
    sources = data.feature_sources(data.read_features(path), path)
    assert list(sources) == ["query", "gallery"]
    gallery = sources["gallery"]
    assert [gallery.identity_name(row) for row in range(3)] == ["eva", "ada", "eva"]
    assert gallery.camera_name(0) == "hall"


def test_a_table_says_who_is_on_the_images(tmp_path):
    files = [f"{i}.jpg" for i in range(4)]
    path = saved(tmp_path / "x.npz", named(files))
    lists = data.read_features(path)
    table = tmp_path / "who.csv"
    table.write_text("file,identity,split\n0.jpg,eva,query\n1.jpg,eva,gallery\n2.jpg,ada,gallery\n")
    sources = data.feature_sources(lists, path, labels=table)
    assert sources["query"].files == ["0.jpg"]
    assert sources["gallery"].identity_name(1) == "ada"
    table.write_text("file,identity\n0.jpg,eva\nnowhere.jpg,eva\n")
    with pytest.raises(ValueError, match=r"who\.csv line 3: nowhere\.jpg"):
        data.feature_sources(lists, path, labels=table)
    with pytest.raises(ValueError, match="does not say who is on its images"):
        data.feature_sources(lists, path)
    other = saved(tmp_path / "sides.npz", sided())
    with pytest.raises(ValueError, match=r"says who is on its images: leave .*who\.csv out"):
        data.feature_sources(data.read_features(other), other, labels=table)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gallery_f": None}, r"lacks gallery_f; its arrays are gallery_cam, gallery_label"),
        ({"query_f": np.ones(8)}, r"query_f has the shape \(8,\).*expected floating-point"),
        ({"query_f": np.ones((2, 4), int)}, "type int64; expected floating-point numbers"),
        ({"query_label": np.arange(3)}, "query_label has 3 entries, and query_f 2 rows"),
        ({"gallery_cam": np.arange(4)}, "gallery_cam has 4 entries, and gallery_f 5 rows"),
        ({"gallery_f": rows(5) * np.nan}, "5 rows of gallery_f hold nan.* the first is row 0"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, change, message):
    path = saved(tmp_path / "x.npz", sided(**change))
    with pytest.raises(ValueError, match=message):
        data.read_features(path)


def test_files_that_are_none_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"ends in '\.txt'; known: \.npz, \.h5, \.mat"):
        data.read_features(tmp_path / "x.txt")
    with pytest.raises(FileNotFoundError, match="there is no file of features"):
        data.read_features(tmp_path / "x.npz")
    for suffix in (".npz", ".h5", ".mat"):
        path = tmp_path / f"x{suffix}"
        for content in (b"", b"no features", b"PK\x03\x04 cut"):
            path.write_bytes(content)
            with pytest.raises(ValueError, match=f"x{suffix} cannot be read"):
                data.read_features(path)
    np.savez(tmp_path / "x.npz", query_f=np.array([{}], object), gallery_f=rows(2))
    with pytest.raises(ValueError, match="cannot be read"):
        data.read_features(tmp_path / "x.npz")
    np.savez(tmp_path / "x.npz", a=rows(2))
    with pytest.raises(ValueError, match=r"lacks features and files; its arrays are a; expected"):
        data.read_features(tmp_path / "x.npz")


def test_labels_of_another_data_set_are_refused(tmp_path):
    lists = data.read_features(saved(tmp_path / "x.npz", sided()))
    own = data.feature_sources(lists, tmp_path / "x.npz")
    short = own["query"].take([0], "query")
    with pytest.raises(ValueError, match="has 2 features of query, and x has 1 such images"):
        data.aligned_features(lists, short, "query", where="x")
    swapped = own["gallery"].take([0, 2, 1, 3, 4], "gallery")
    with pytest.raises(
        ValueError, match=r"row 1 of gallery has identity 1, and image 1 .* has 2; 2"
    ):
        data.aligned_features(lists, swapped, "gallery", where="x")
    with pytest.raises(ValueError, match="has features of query, gallery, and none of test"):
        data.aligned_features(lists, short, "test", where="x")
    for change, message in (
        ({"query_label": None}, "lacks query_label"),
        ({"query_label": np.array([1.5, 2])}, "query_label holds float64, expected whole numbers"),
        ({"query_label": np.array(["a", "b"])}, "query_label holds <U1, expected whole numbers"),
    ):
        path = saved(tmp_path / "x.npz", sided(**change))
        with pytest.raises(ValueError, match=message):
            data.feature_sources(data.read_features(path), path)


def test_names_that_are_missing_or_there_twice_are_refused(tmp_path):
    sources = data.open_splits(write(tmp_path / "shop", *folders("", "ab")))
    files = list(sources["train"].files)
    lists = data.read_features(saved(tmp_path / "x.npz", named(files[1:])))
    with pytest.raises(
        ValueError, match=r"no features of 1 of 4 images of train, the first is a/0"
    ):
        data.aligned_features(lists, sources["train"], "train", where="x")
    path = saved(tmp_path / "x.npz", named([*files, files[0]]))
    lists = data.read_features(path)
    with pytest.raises(ValueError, match="names 1 of its images twice"):
        data.aligned_features(lists, sources["train"], "train", where="x")
    with pytest.raises(ValueError, match="names 1 of its images twice"):
        data.feature_sources(lists, path)


def test_an_undivided_folder_is_divided_for_a_test(tmp_path):
    sources = data.open_splits(write(tmp_path / "shop", *market("", (1, 2, 3))))
    found = data.with_test_side(sources)
    assert (
        len(found["query"]) + len(found["gallery"]) == len(sources["train"]) == len(found["test"])
    )
    with pytest.raises(ValueError, match="has the splits train, val_query, val_gallery, and no"):
        data.with_test_side(
            {**sources, "val_query": found["query"], "val_gallery": found["gallery"]}
        )
