"""A store follows its gallery, embeds what is new alone, and is whole after a kill."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
import zipfile

import jax
import numpy as np
import pytest
from search_parts import PEOPLE, make_embedder, write

import reid_jax.search.store as store_module
from reid_jax.search import EmbeddingStore, StreamEmbedder, open_gallery


@pytest.fixture
def embedded(monkeypatch):
    """Files that were embedded, in order."""
    files = []
    call = StreamEmbedder.__call__

    def counted(self, images, names):
        files.extend(names)
        return call(self, images, names)

    monkeypatch.setattr(StreamEmbedder, "__call__", counted)
    return files


def update(embedder, photos, directory, **options):
    return EmbeddingStore(directory, embedder, **options).update(open_gallery(photos))


def settle(photos):
    """Gives all files a time that is long past, as those of a real gallery have."""
    for number, path in enumerate(sorted(photos.rglob("*.*"))):
        os.utime(path, ns=(10**18 + number, 10**18 + number))


def check(found, embedder, photos):
    """Files and features are those of embedding every image of the folder by itself."""
    files = sorted(p.relative_to(photos).as_posix() for p in photos.rglob("*.png"))
    assert found.stored.files == files
    expected = embedder([photos / file for file in files])
    np.testing.assert_allclose(found.stored.features, expected, atol=1e-5)


def test_only_new_and_changed_images_are_embedded(embedder, photos, tmp_path, embedded):
    settle(photos)
    first = update(embedder, photos, tmp_path / "store")
    assert (first.embedded, first.kept, first.dropped) == (12, 0, 0)
    check(first, embedder, photos)
    embedded.clear()
    again = update(embedder, photos, tmp_path / "store")
    assert (again.embedded, again.kept, again.dropped) == (0, 12, 0)
    assert embedded == []

    (photos / "anna/0_c1_0.png").unlink()
    (photos / "bob/1_c1_0.png").rename(photos / "bob/1_c1_9.png")  # Another name, the same bytes.
    os.utime(photos / "cleo/2_c1_0.png")  # Another time, the same bytes.
    write(photos / "cleo/2_c2_1.png", (9, 9, 9), 77)
    write(photos / "eve/4_c1_0.png", (200, 30, 200), 78)
    found = update(embedder, photos, tmp_path / "store")
    assert sorted(embedded) == ["cleo/2_c2_1.png", "eve/4_c1_0.png"]
    assert (found.embedded, found.kept, found.dropped) == (2, 10, 2)
    check(found, embedder, photos)
    # The features of before are what they were, for whoever holds them.
    np.testing.assert_array_equal(again.stored.features[3], first.stored.features[3])
    names = sorted(path.name for path in (tmp_path / "store").iterdir())
    assert len([name for name in names if name.startswith("features")]) == 1


def test_a_file_written_just_now_is_read_again_though_bytes_and_time_agree(
    embedder, photos, tmp_path
):
    update(embedder, photos, tmp_path / "store")
    path = photos / "anna/0_c1_0.png"
    status, content = path.stat(), path.read_bytes()
    path.write_bytes((photos / "bob/1_c1_0.png").read_bytes())
    pad = max(0, len(content) - path.stat().st_size)
    path.write_bytes(path.read_bytes() + b"\0" * pad)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    check(update(embedder, photos, tmp_path / "store"), embedder, photos)


def test_unreadable_images_are_listed_and_the_rest_goes_on(embedder, photos, tmp_path):
    (photos / "anna/0_c1_8.png").write_bytes(b"no image")
    (photos / "anna/0_c1_9.png").write_bytes(b"")
    found = update(embedder, photos, tmp_path / "store")
    assert [u.file for u in found.unreadable] == ["anna/0_c1_8.png", "anna/0_c1_9.png"]
    assert "not a readable image" in found.unreadable[0].reason
    assert len(found.stored) == 12
    again = update(embedder, photos, tmp_path / "store")
    assert len(again.unreadable) == 2
    assert again.embedded == 0
    write(photos / "anna/0_c1_8.png", (1, 2, 3))
    assert update(embedder, photos, tmp_path / "store").embedded == 1


def test_a_gallery_that_changes_while_it_is_embedded(embedder, photos, tmp_path):
    gallery = open_gallery(photos)
    (photos / "bob/1_c1_0.png").unlink()
    write(photos / "bob/1_c2_1.png", (250, 250, 250), 5)
    write(photos / "bob/1_c1_7.png", (250, 250, 250), 6)
    found = EmbeddingStore(tmp_path / "store", embedder).update(gallery)
    assert [(u.file, u.reason) for u in found.unreadable] == [
        ("bob/1_c1_0.png", "it went away while the gallery was read")
    ]
    assert "bob/1_c1_7.png" not in found.stored.files
    check(update(embedder, photos, tmp_path / "store"), embedder, photos)


def test_no_image_at_all(embedder, photos, tmp_path):
    for path in photos.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="no image of the gallery"):
        update(embedder, photos, tmp_path / "store")
    shutil.rmtree(photos)
    photos.mkdir()
    with pytest.raises(ValueError, match="is empty: put images into it"):
        open_gallery(photos)
    (photos / "notes.txt").write_text("x")
    with pytest.raises(ValueError, match="holds no image"):
        open_gallery(photos)


def test_half_precision(embedder, photos, tmp_path):
    found = update(embedder, photos, tmp_path / "store", dtype="float16")
    assert found.stored.features.dtype == np.float16
    np.testing.assert_allclose(
        found.stored.features, embedder(sorted(photos.rglob("*.png"))), atol=1e-3
    )
    assert update(embedder, photos, tmp_path / "store").stored.features.dtype == np.float16
    with pytest.raises(ValueError, match="float32 was asked for"):
        update(embedder, photos, tmp_path / "store", dtype="float32")
    with pytest.raises(ValueError, match="known: float32, float16"):
        EmbeddingStore(tmp_path / "store", embedder, dtype="int8")


def test_other_models_galleries_and_folders_are_refused(embedder, photos, tmp_path):
    update(embedder, photos, tmp_path / "store")
    with pytest.raises(ValueError, match=r"another model .* delete this one to embed anew"):
        update(make_embedder(seed=1), photos, tmp_path / "store")
    with pytest.raises(ValueError, match="another model"):
        update(make_embedder(normalise=False), photos, tmp_path / "store")
    other = tmp_path / "other"
    shutil.copytree(photos, other)
    with pytest.raises(ValueError, match=r"holds the gallery .*photos, and the one given is"):
        update(embedder, other, tmp_path / "store")
    with pytest.raises(FileExistsError, match="no store"):
        EmbeddingStore(photos, embedder)
    # A gallery that moved is the same gallery.
    shutil.rmtree(photos)
    assert update(embedder, other, tmp_path / "store").kept == 12


def test_batch_size_and_provenance_do_not_make_another_model(embedder, photos, tmp_path):
    update(embedder, photos, tmp_path / "store")
    scoring = dataclasses.replace(embedder.scoring, batch_size=2)
    other = dataclasses.replace(embedder, scoring=scoring, provenance={"x": 1})
    assert update(other, photos, tmp_path / "store").kept == 12


def test_a_damaged_store_says_so(embedder, photos, tmp_path):
    directory = tmp_path / "store"
    update(embedder, photos, directory)
    features = next(directory.glob("features-*.npy"))
    features.write_bytes(features.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"is damaged .* delete it"):
        update(embedder, photos, directory)
    (directory / "index.json").write_text("{")
    with pytest.raises(ValueError, match="is damaged: delete the store"):
        update(embedder, photos, directory)
    (directory / "index.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(ValueError, match="format 99"):
        update(embedder, photos, directory)


def test_a_zip_file_is_a_gallery(embedder, photos, tmp_path):
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for path in sorted(photos.rglob("*.png")):
            archive.write(path, path.relative_to(photos))
    found = update(embedder, tmp_path / "photos.zip", tmp_path / "store")
    assert found.embedded == 12
    assert update(embedder, tmp_path / "photos.zip", tmp_path / "store").kept == 12


def test_embeddings_that_are_nan_are_refused(embedder, photos, tmp_path):
    broken = jax.tree.map(lambda leaf: leaf * np.nan, embedder.variables)
    with pytest.raises(ValueError, match=r"anna/0_c1_0.png holds nan"):
        update(dataclasses.replace(embedder, variables=broken), photos, tmp_path / "store")


class Stopped(BaseException):
    """What a kill is for the process that it meets, as far as files go."""


@pytest.mark.parametrize("moment", range(14))
def test_a_stop_at_any_write_leaves_a_whole_store(
    embedder, photos, tmp_path, monkeypatch, moment, embedded
):
    settle(photos)
    directory = tmp_path / "store"
    update(embedder, photos, directory)
    (photos / "anna/0_c1_0.png").unlink()
    for i in range(9):
        write(photos / f"eve/4_c1_{i}.png", (200, 30, 20 * i), 100 + i)
    settle(photos)
    writes = 0

    def stopping(function):
        def wrapped(*args, **kwargs):
            nonlocal writes
            writes += 1
            if writes > moment:
                raise Stopped
            return function(*args, **kwargs)

        return wrapped

    embedded.clear()
    with monkeypatch.context() as patched:
        patched.setattr(store_module, "write_atomically", stopping(store_module.write_atomically))
        patched.setattr(
            store_module.np.lib.format,
            "write_array_header_2_0",
            stopping(np.lib.format.write_array_header_2_0),
        )
        patched.setattr(store_module.os, "fsync", stopping(os.fsync))
        # 128 bytes an image: a part for every batch of four.
        finished = False
        try:
            update(embedder, photos, directory, bytes_per_part=1)
            finished = True
        except Stopped:
            pass
    before = len(set(embedded))
    embedded.clear()
    found = update(embedder, photos, directory)
    check(found, embedder, photos)
    names = {path.name.split("-")[0] for path in directory.iterdir()}
    assert names == {"index.json", "lock", "features", "images"}
    assert len(list(directory.iterdir())) == 4
    if finished:
        assert embedded == []
    if before == 9:
        assert len(embedded) <= 4  # All parts but the last were kept.


@pytest.mark.slow
def test_a_killed_process_leaves_a_whole_store(embedder, photos, tmp_path):
    """Kills a process between two batches, whose first parts are kept."""
    settle(photos)
    program = textwrap.dedent(
        f"""
        import sys, time
        sys.path.insert(0, {os.path.dirname(os.path.dirname(__file__))!r})
        from search_parts import make_embedder
        from reid_jax.search import EmbeddingStore, StreamEmbedder, open_gallery
        call = StreamEmbedder.__call__
        def slow(self, images, names):
            features = call(self, images, names)
            print("batch", flush=True)
            if self.seen:
                time.sleep(60)
            self.seen += 1
            return features
        StreamEmbedder.seen = 0
        StreamEmbedder.__call__ = slow
        store = EmbeddingStore({str(tmp_path / "store")!r}, make_embedder(), bytes_per_part=1)
        store.update(open_gallery({str(photos)!r}))
        """
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"batch\n"
        assert process.stdout.readline() == b"batch\n"
        process.send_signal(signal.SIGKILL)
    found = update(embedder, photos, tmp_path / "store")
    assert (found.kept, found.embedded) == (4, 8)
    check(found, embedder, photos)


def test_two_updates_wait_for_each_other(embedder, photos, tmp_path, monkeypatch, caplog):
    settle(photos)
    call = StreamEmbedder.__call__
    inside, started = [], threading.Event()

    def slow(self, images, names):
        inside.append(threading.get_ident())
        started.set()
        time.sleep(0.1)
        return call(self, images, names)

    monkeypatch.setattr(StreamEmbedder, "__call__", slow)
    found = []

    def run():
        found.append(update(embedder, photos, tmp_path / "store"))

    threads = [threading.Thread(target=run) for _ in range(2)]
    threads[0].start()
    started.wait(60)
    threads[1].start()
    for thread in threads:
        thread.join()
    assert len(set(inside)) == 1
    assert sorted(one.embedded for one in found) == [0, 12]
    assert "waiting for another process" in caplog.text


def test_names_come_from_the_form_of_the_folder(photos, tmp_path):
    gallery = open_gallery(photos)
    assert gallery.identities == [name for name in PEOPLE for _ in range(3)]
    assert gallery.cameras[:3] == ["1", "1", "2"]
    flat = tmp_path / "flat"
    for i in range(3):
        write(flat / f"holiday {i}.png", (9, 9, 9), i)
    gallery = open_gallery(flat)
    assert gallery.identities == gallery.cameras == [None] * 3
    assert "names of identities and cameras are not known" in gallery.notes[0]
