"""What a question finds, from images to names."""

import json

import numpy as np
import pytest
from search_parts import write

from reid_jax import search
from reid_jax.distances import squared_euclidean
from reid_jax.evaluation import k_reciprocal_rerank


@pytest.fixture
def searcher(embedder, photos, tmp_path):
    gallery = search.open_gallery(photos)
    update = search.EmbeddingStore(tmp_path / "store", embedder).update(gallery)
    return search.Searcher(embedder, gallery, update.stored)


def files(results):
    return [[hit.file for hit in found.hits] for found in results.found]


def test_find_equals_the_embedder(embedder, photos, tmp_path):
    queries = [write(tmp_path / f"q{i}.png", (180 - 50 * i, 60 * i, 90), i) for i in range(3)]
    gallery = sorted(photos.rglob("*.png"))
    names = [path.relative_to(photos).as_posix() for path in gallery]
    results = search.find(embedder, photos, queries, top=7)
    expected = embedder.distances(queries, gallery)
    for found, row in zip(results.found, expected, strict=True):
        assert [hit.file for hit in found.hits] == [names[i] for i in np.argsort(row)[:7]]
        np.testing.assert_allclose(
            [hit.distance for hit in found.hits], np.sort(row)[:7], atol=1e-5
        )
        assert all(hit.identity == hit.file.split("/")[0] for hit in found.hits)
    reranked = search.find(embedder, photos, queries, top=12, rerank=True)
    dense = k_reciprocal_rerank(embedder(queries), embedder(gallery))
    for found, row in zip(reranked.found, dense, strict=True):
        np.testing.assert_allclose([hit.distance for hit in found.hits], np.sort(row), atol=1e-5)


def test_expansion_is_the_mean_of_the_query_and_its_nearest(searcher, embedder, photos, tmp_path):
    query = write(tmp_path / "q.png", (190, 60, 50), 1)
    features = np.asarray(searcher.stored.features)
    own = embedder([query])
    near = np.argsort(np.asarray(squared_euclidean(own, features))[0])[:3]
    mean = own[0] + features[near].sum(axis=0)
    mean /= np.linalg.norm(mean)
    expected = np.asarray(squared_euclidean(mean[None], features))[0]
    results = searcher.search(searcher.queries([query]), top=12, expand=3)
    np.testing.assert_allclose(
        [hit.distance for hit in results.found[0].hits], np.sort(expected), atol=1e-5
    )
    with pytest.raises(ValueError, match="expand is -1"):
        searcher.search(searcher.queries([query]), top=1, expand=-1)


def test_a_gallery_image_is_not_found_for_itself(searcher, photos):
    by_path = searcher.search(searcher.queries([photos / "bob/1_c1_0.png"]), top=12)
    by_row = searcher.search(searcher.queries_of_rows([3]), top=12)
    assert searcher.stored.files[3] == "bob/1_c1_0.png"
    assert files(by_path) == files(by_row)
    assert len(files(by_row)[0]) == 11
    assert "bob/1_c1_0.png" not in files(by_row)[0]
    with pytest.raises(IndexError):
        searcher.queries_of_rows([12])


def test_cameras_and_names_filter(searcher, photos, tmp_path):
    queries = searcher.queries_of_rows([3])
    shown = searcher.search(queries, top=12, cameras=["2"])
    assert {hit.camera for hit in shown.found[0].hits} == {"2"}
    assert len(shown.found[0].hits) == 4
    named = searcher.search(queries, top=12, name="ANN")
    assert {hit.identity for hit in named.found[0].hits} == {"anna"}
    assert searcher.search(queries, top=12, name="nobody").found[0].hits == []


def test_the_camera_rule(searcher, tmp_path):
    # Row 3 is bob by camera 1: his other images by camera 1 go, those of other people stay.
    found = searcher.search(searcher.queries_of_rows([3]), top=12, other_cameras=True).found[0]
    assert [hit.camera for hit in found.hits if hit.identity == "bob"] == ["2"]
    assert {hit.camera for hit in found.hits if hit.identity != "bob"} == {"1", "2"}
    # A query whose name says its camera, but an identity that the gallery does not call so.
    outside = write(tmp_path / "0007_c2_5.png", (190, 60, 50), 1)
    queries = searcher.queries([outside])
    assert (queries.identities, queries.cameras) == (["7"], ["2"])
    unknown = search.Queries(queries.names, queries.features, queries.rows, [None], ["2"])
    found = searcher.search(unknown, top=12, other_cameras=True).found[0]
    assert {hit.camera for hit in found.hits} == {"1"}
    stranger = write(tmp_path / "stranger.png", (190, 60, 50), 1)
    found = searcher.search(searcher.queries([stranger]), top=12, other_cameras=True).found[0]
    assert len(found.hits) == 12


def test_json_keeps_names_of_any_script(embedder, tmp_path):
    write(tmp_path / "g" / "Żółć" / "写真.png", (1, 2, 3))
    write(tmp_path / "g" / "b" / "x.png", (200, 2, 3))
    results = search.find(embedder, tmp_path / "g", [tmp_path / "g/b/x.png"])
    told = json.loads(search.as_json(results))
    assert told["found"][0]["hits"][0]["file"] == "Żółć/写真.png"
    assert "Żółć/写真.png" in search.as_csv(results)
    page = search.as_page(results, [(tmp_path / "g/b/x.png").read_bytes()])
    assert "写真" in page
    with pytest.raises(ValueError, match="2 query images for 1 lists"):
        search.as_page(results, [b"", b""])


def test_networks_without_an_embedding_of_one_image_are_refused(embedder):
    import dataclasses

    from reid_jax import models

    pairs = dataclasses.replace(embedder, model=models.build("csn"))
    with pytest.raises(ValueError, match="scores pairs"):
        search.StreamEmbedder(pairs)


@pytest.mark.slow
def test_address_space_is_bounded(tmp_path):
    """A search through 1.6 GB of features in a process that may only have little more than JAX."""
    import subprocess
    import sys
    import textwrap

    program = textwrap.dedent(
        f"""
        import resource, numpy as np
        path = {str(tmp_path / "features.npy")!r}
        header = {{"descr": "<f2", "fortran_order": False, "shape": (400_000, 2048)}}
        with open(path, "wb") as file:
            np.lib.format.write_array_header_2_0(file, header)
            file.truncate(file.tell() + 400_000 * 4096)  # Zeros that take no space on disk.
        from reid_jax.search import nearest
        features = np.load(path, mmap_mode="r")
        nearest(np.ones((2, 2048), np.float32), features[:8192], top=3)
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 2**29, used + 2**29))
        found = nearest(np.ones((2, 2048), np.float32), features, top=3)
        assert found.rows.tolist() == [[0, 1, 2]] * 2, found.rows
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
