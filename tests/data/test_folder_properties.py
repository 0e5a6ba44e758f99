"""Over generated trees: every image is where its place says, or counted in a message."""

import re
import unicodedata

import hypothesis
import hypothesis.strategies as st

from reid_jax.data.forms import read_folder
from reid_jax.data.raw import IMAGE_SUFFIXES, RawTree, is_hidden
from reid_jax.data.records import identity_of
from reid_jax.data.roles import role_of

SETTINGS = hypothesis.settings(max_examples=150, derandomize=True, deadline=None)
IDENTITIES = st.sampled_from(
    ["1", "2", "02", "7.0", "7", "-1", "-1.0", "anna", "Bea", "e\u0301", "\u00e9", "nan", "-3", "0"]
)
SUFFIXES = st.sampled_from([".jpg", ".PNG", ".webp", ".tif"])


def tree_of(files):
    """A tree in memory: paths, or paths with their text."""
    files = dict.fromkeys(files, b"") if not isinstance(files, dict) else files
    shown = {file: len(content) for file, content in files.items() if not is_hidden(file)}
    return RawTree(shown, files.__getitem__, "D", hidden=set(files) - set(shown))


def read(tree):
    """What a tree holds; None if it is refused."""
    try:
        return read_folder(tree)
    except ValueError:
        return None


def placed(contents):
    """Role, name of the identity and camera of each image."""
    names, found = contents.identity_names, {}
    splits = {**contents.splits, "": contents.unlabelled}
    for split, records in splits.items():
        for record in records:
            assert record.file not in found
            name = str(record.identity)
            if names and record.identity > 0:
                name = names[record.identity - 1]
            found[record.file] = (split, name, record.camera)
    return found


COUNTED = (
    r"not read: the images in .* \(([\d,]+)\),",
    r"(?:not read: )?([\d,]+) images? (?:are not|beside|of multi)",
)


def counted(contents):
    """Images that notes count."""
    found = [re.match(form, note) for form in COUNTED for note in contents.notes]
    return sum(int(match[1]) for match in found if match)


def check_all_counted(tree, contents):
    found = placed(contents)
    wrong = {problem.file for problem in contents.problems if problem.file}
    assert not wrong & set(found)
    # The rows of a table that cannot be used are named by their line; their images are not read.
    assert len(found) + len(wrong) + counted(contents) == len(tree.all_images())
    if tree.hidden:
        assert any("hidden" in note for note in contents.notes)
    return found


@st.composite
def any_trees(draw):
    """Folders of any names, to any depth."""
    parts = st.one_of(
        IDENTITIES,
        st.sampled_from(
            [
                "train",
                "test",
                "query",
                "Probe",
                "gallery",
                "val",
                "image_test",
                "masks",
                "cam1",
                "cam2",
                "x",
                ".git",
                "gt_bbox",
            ]
        ),
    )
    leaves = st.one_of(
        st.sampled_from(
            [
                "a",
                "b",
                "c",
                "0001_c1_0",
                "0002_c2_0",
                "-1_c1_1",
                "0_c0_1",
                ".h",
                "99999999999999999999_c1_0",
            ]
        ),
    )
    folders = draw(st.lists(st.lists(parts, max_size=3), min_size=1, max_size=5))
    files = draw(
        st.lists(
            st.tuples(
                st.sampled_from(folders), leaves, st.one_of(SUFFIXES, st.sampled_from([".txt", ""]))
            ),
            min_size=1,
            max_size=12,
        )
    )
    return sorted({"/".join([*folder, leaf + suffix]) for folder, leaf, suffix in files})


@hypothesis.given(any_trees())
@SETTINGS
def test_any_tree_is_read_whole_or_refused(files):
    tree = tree_of(files)
    contents = read(tree)
    if contents is None:
        return
    found = check_all_counted(contents.tree, contents)
    assert contents.lines()[0].startswith("form: ")
    for file, (split, name, _) in found.items():
        *folders, leaf = file.split("/")
        if "sub-folder an identity" in contents.form:
            assert name == identity_of(folders[-1])
            assert role_of(folders[-1]) is None or split == ""
        else:
            assert name == str(int(re.match(r"-?\d+", leaf)[0]))
        if contents.form.startswith("folders of splits"):
            sides = {
                "query": {"query"},
                "gallery": {"gallery", "test"},
                "train": {"train", "val"},
                "test": {"test", "gallery"},
                "val": {"val"},
                "multi_query": {"multi_query"},
            }
            assert role_of(folders[0]) in sides[split]


@st.composite
def identity_trees(draw):
    """Identity sub-folders that are right, in splits or not, below a folder or not."""
    names = ["anna", "Bea", "12", "e\u0301", "cow_12", "\u5e97"]
    splits = draw(
        st.sampled_from(
            [
                [""],
                ["train/", "test/"],
                ["Training/", "probe/", "gallery/"],
                ["query/", "bounding_box_test/"],
            ]
        )
    )
    prefix = draw(st.sampled_from(["", "crops/", "a/b/"]))
    cameras = draw(st.booleans())
    expected = {}
    for split in splits:
        for name in draw(st.lists(st.sampled_from(names), min_size=2, max_size=5, unique=True)):
            for number in range(draw(st.integers(1, 3))):
                leaf = f"1_c{number + 1}_0" if cameras else str(number)
                path = f"{split}{name}/{leaf}{draw(SUFFIXES)}"
                expected[path] = (split, name, number + 1 if cameras else -1)
    hypothesis.assume(len({file.split("/")[-2] for file in expected}) > 1)
    return prefix, expected


@hypothesis.given(identity_trees(), st.lists(st.sampled_from(["notes.txt", "meta/x.mat"])))
@SETTINGS
def test_every_image_has_the_identity_of_its_place(tree, others):
    prefix, expected = tree
    contents = read(tree_of([prefix + file for file in expected] + others))
    assert contents is not None
    assert not contents.problems
    found = placed(contents)
    assert set(found) == set(expected)
    roles = {
        "": "train",
        "train": "train",
        "training": "train",
        "test": "test",
        "probe": "query",
        "query": "query",
        "gallery": "gallery",
        "bounding_box_test": "gallery",
    }
    for file, (split, name, camera) in expected.items():
        role = roles[split.strip("/").lower()]
        assert found[file] == (role, unicodedata.normalize("NFC", name), camera)
    if others:
        assert any("of other kinds" in note for note in contents.notes)


@st.composite
def tables_of_images(draw):
    """A table in any delimiter, with rows that can and rows that cannot be used."""
    files = [f"pics/{n}{draw(SUFFIXES)}" for n in range(draw(st.integers(1, 8)))]
    split = draw(st.booleans())
    index = draw(st.booleans())
    delimiter = draw(st.sampled_from(",;\t"))
    rows, expected, lines = [], {}, 1
    for file in draw(st.permutations(files)):
        kind = draw(st.sampled_from(["good", "good", "good", "missing", "unlisted"]))
        if kind == "unlisted":
            continue
        lines += 1
        name = draw(IDENTITIES)
        role = draw(st.sampled_from(["train", "Test"])) if split else ""
        given = file + "x" if kind == "missing" else file
        cells = [given.replace("/", "\\") if draw(st.booleans()) else given, name]
        cells += [role] * split
        rows.append(delimiter.join([str(lines)] * index + cells))
        if kind == "missing" or identity_of(name) is None:
            expected[file] = f"t.csv line {lines}:"
        else:
            expected[file] = (role.lower(), identity_of(name))
    header = delimiter.join([""] * index + ["file", "Identity"] + ["split"] * split)
    return files, "\n".join([header, *rows]) + "\n", expected


@hypothesis.given(tables_of_images())
@SETTINGS
def test_every_row_of_a_table_is_read_or_named(case):
    files, text, expected = case
    tree = tree_of({**dict.fromkeys(files, b""), "t.csv": text.encode()})
    contents = read(tree)
    if contents is None:
        return
    found = placed(contents)
    wrong = [problem.what for problem in contents.problems]
    for file in files:
        said = expected.get(file)
        if isinstance(said, tuple):
            role, name = said
            split = found[file][0]
            assert found[file][1] == name
            assert split == (role or ("" if name == "-1" else "train"))
        else:
            assert file not in found
            assert said is None or any(what.startswith(said) for what in wrong)
    left = len(files) - len(found)
    assert counted(contents) == left
    assert all(file.lower().endswith(IMAGE_SUFFIXES) for file in found)
