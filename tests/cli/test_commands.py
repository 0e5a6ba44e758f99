"""Every command as it is typed, on a folder of coloured crops."""

import csv
import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import h5py
import numpy as np
import pytest
from search_parts import make_embedder, people_source, write

from reid_jax import decide
from reid_jax.cli import COMMANDS, main

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    directory = tmp_path_factory.mktemp("model")
    make_embedder().save(directory)
    return str(directory)


@pytest.fixture(scope="module")
def deciding(tmp_path_factory):
    """A saved model that knows where one person ends."""
    directory = tmp_path_factory.mktemp("deciding")
    made = make_embedder()
    decision = decide.measure(made, {"val": people_source()}, data_source="stand-in")
    made.with_decision(decision).save(directory)
    return str(directory)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def run(*arguments):
    return main([str(argument) for argument in arguments])


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in COMMANDS)])
def test_help_answers_without_jax(arguments):
    program = (
        "import sys\nfrom reid_jax.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit as done:\n"
        "    assert not done.code, done.code\n"
        "assert 'jax' not in sys.modules and 'numpy' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    assert "usage: reid-jax" in done.stdout
    if len(arguments) == 1:
        assert all(name in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("arguments", [[], ["fnd"], ["find"], ["find", "m", "--top", "0"]])
def test_wrong_arguments_are_errors_of_status_1(arguments, capsys):
    known = ["--gallery", "g", "--query", "q"] if "--top" in arguments else []
    with pytest.raises(SystemExit) as done:
        main(arguments + known)
    assert done.value.code == 1
    assert "usage: reid-jax" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".npz", ".h5", ".csv"])
def test_embed(model, embedder, photos, tmp_path, suffix, capsys):
    output = tmp_path / "new" / f"photos{suffix}"
    assert run("embed", model, photos, "-o", output) == 0
    assert "12 embeddings" in capsys.readouterr().out
    files = sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.png"))
    expected = embedder([photos / file for file in files])
    if suffix == ".npz":
        with np.load(output) as found:
            columns = {name: found[name] for name in ("features", "files", "identities", "cameras")}
    elif suffix == ".h5":
        with h5py.File(output) as found:
            columns = {name: found[name][:] for name in found}
            columns |= {
                name: columns[name].astype(str) for name in ("files", "identities", "cameras")
            }
    else:
        with open(output, newline="") as file:
            rows = list(csv.DictReader(file))
        names = [f"f{i}" for i in range(expected.shape[1])]
        columns = {
            "features": np.array([[float(row[name]) for name in names] for row in rows]),
            "files": [row["file"] for row in rows],
            "identities": [row["identity"] for row in rows],
            "cameras": [row["camera"] for row in rows],
        }
    np.testing.assert_allclose(columns["features"], expected, atol=1e-5)
    assert list(columns["files"]) == files
    assert list(columns["identities"][:4]) == ["anna"] * 3 + ["bob"]
    assert list(columns["cameras"][:3]) == ["1", "1", "2"]
    assert [path.name for path in output.parent.iterdir()] == [output.name]


def test_embed_takes_files_and_several_folders(model, photos, tmp_path):
    other = tmp_path / "other"
    write(other / "x.png", (1, 2, 3))
    alone = write(tmp_path / "alone.png", (3, 2, 1))
    output = tmp_path / "all.npz"
    assert run("embed", model, photos, other, alone, "-o", output, "--float16") == 0
    with np.load(output) as found:
        assert found["features"].dtype == np.float16
        assert len(found["files"]) == 14
        assert list(found["files"][-2:]) == [str(other / "x.png"), str(alone)]


def test_embed_in_constant_memory(model, tmp_path):
    """400 images of 0.4 MB each, decoded, in fewer megabytes than all of them take."""
    for i in range(400):
        write(tmp_path / "many" / f"{i:04d}.png", (i % 256, 0, 0), i % 7, size=(33, 32))
    import tracemalloc

    peaks = []
    for number in (100, 400):
        chosen = tmp_path / f"chosen{number}"
        chosen.mkdir()
        for path in sorted((tmp_path / "many").iterdir())[:number]:
            os.link(path, chosen / path.name)
        run("embed", model, chosen, "-o", tmp_path / "x.npz")
        tracemalloc.start()
        assert run("embed", model, chosen, "-o", tmp_path / "x.npz") == 0
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 300 * 1200  # Names and listings, but no pixels (3 kB an image).


def test_embed_lists_what_cannot_be_read(model, photos, tmp_path, capsys):
    (photos / "anna" / "0_c1_7.png").write_bytes(b"text")
    assert run("embed", model, photos, "-o", tmp_path / "x.npz") == 2
    assert "1 image cannot be read and were left out:\n  anna/0_c1_7.png" in capsys.readouterr().err
    with np.load(tmp_path / "x.npz") as found:
        assert len(found["files"]) == 12


def test_embed_leaves_the_old_file_after_an_error(model, tmp_path, capsys):
    output = tmp_path / "x.npz"
    output.write_bytes(b"old")
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"")
    assert run("embed", model, bad, "-o", output) == 1
    assert "none of 1 images can be read" in capsys.readouterr().err
    assert output.read_bytes() == b"old"
    assert run("embed", model, bad, "-o", tmp_path / "x.mat") == 1
    assert "known: .npz, .h5, .csv" in capsys.readouterr().err


def test_find(model, photos, tmp_path, capsys, cache):
    query = write(tmp_path / "q.png", (198, 44, 41), 99)
    made = {kind: tmp_path / f"found.{kind}" for kind in ("json", "csv", "html")}
    asked = ["find", model, "--gallery", photos, "--query", query, "--top", 5]
    for kind, path in made.items():
        asked += [f"--{kind}", path]
    assert run(*asked) == 0
    out, err = capsys.readouterr()
    assert "12 embedded now" in err
    found = json.loads(made["json"].read_text())
    hits = found["found"][0]["hits"]
    assert [hit["identity"] for hit in hits[:3]] == ["anna"] * 3
    assert hits[0].keys() == {"file", "distance", "probability", "identity", "camera"}
    assert hits[0]["probability"] is None
    assert [hit["distance"] for hit in hits] == sorted(hit["distance"] for hit in hits)
    assert f"   1    {hits[0]['distance']:.4f}  {hits[0]['file']}" in out
    with open(made["csv"], newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == [hit["file"] for hit in hits]
    assert rows[0]["rank"] == "1"
    page = made["html"].read_text()
    assert page.count("data:image/jpeg;base64,") == 6
    assert "anna" in page
    assert "http" not in page
    assert 'src="/' not in page
    assert len(list((cache / "reid_jax" / "stores").iterdir())) == 1
    assert run(*asked) == 0
    assert "0 embedded now, 12 from" in capsys.readouterr().err


def test_find_with_all_options(model, photos, tmp_path, capsys):
    store = tmp_path / "store"
    asked = ["find", model, "--gallery", photos, "--store", store, "--float16", "--top", 4]
    queries = [photos / "anna/0_c1_0.png", photos / "bob/1_c2_1.png"]
    for query in queries:
        asked += ["--query", query]
    assert run(*asked, "--json", "-") == 0
    plain = json.loads(capsys.readouterr().out)["found"]
    assert [one["query"] for one in plain] == list(map(str, queries))
    # A query that is in the gallery is not found for itself.
    assert all(hit["file"] != "anna/0_c1_0.png" for hit in plain[0]["hits"])
    assert {hit["camera"] for hit in plain[0]["hits"] if hit["identity"] == "anna"} == {"1", "2"}
    assert run(*asked, "--other_cameras", "--json", "-") == 0
    ruled = json.loads(capsys.readouterr().out)["found"]
    assert {hit["camera"] for hit in ruled[0]["hits"] if hit["identity"] == "anna"} == {"2"}
    assert run(*asked, "--rerank", "--expand", 2, "--json", "-") == 0
    reranked = json.loads(capsys.readouterr().out)
    assert "re-ranked" in reranked["distance"]
    assert "averaged with their 2" in reranked["distance"]
    assert (store / "index.json").exists()


def test_find_in_a_graph_of_neighbours_says_what_it_misses(model, photos, tmp_path, capsys):
    pytest.importorskip("usearch")
    query = write(tmp_path / "q.png", (198, 44, 41), 99)
    store = tmp_path / "store"
    asked = ["find", model, "--gallery", photos, "--query", query, "--store", store, "--top", 4]
    assert run(*asked, "--json", "-") == 0
    exact = capsys.readouterr().out
    for _ in range(2):  # Built, then opened.
        assert run(*asked, "--index", "--json", "-") == 0
        said = capsys.readouterr()
        assert "the index finds 100.0% of the exact lists of 4" in said.err
        wanted, found = (json.loads(text)["found"][0]["hits"] for text in (exact, said.out))
        assert [hit["file"] for hit in found] == [hit["file"] for hit in wanted]
    assert len(list(store.glob("graph-*.usearch"))) == 1
    assert run(*asked, "--index", "--rerank") == 1
    assert "leave --index out" in capsys.readouterr().err


def test_find_with_unreadable_gallery_files(model, photos, tmp_path, capsys):
    (photos / "anna" / "0_c1_7.png").write_bytes(b"text")
    page = tmp_path / "page.html"
    query = photos / "anna/0_c1_0.png"
    assert run("find", model, "--gallery", photos, "--query", query, "--html", page) == 2
    assert "anna/0_c1_7.png" in capsys.readouterr().err
    assert "cannot be read and were not searched" in page.read_text()


def test_errors_are_one_message(model, photos, tmp_path, capsys):
    query = photos / "anna/0_c1_0.png"
    text = tmp_path / "no.png"
    text.write_text("no image")
    (tmp_path / "empty").mkdir()

    def error(*arguments):
        assert run(*arguments) == 1
        told = capsys.readouterr().err
        assert told.startswith(f"reid-jax {arguments[0]}: ")
        assert "Traceback" not in told
        return told

    found = error("find", model, "--gallery", photos, "--query", query, "--query", text)
    assert "1 of 2 queries cannot be read" in found
    assert "no.png" in found
    found = error("find", model, "--gallery", photos, "--query", tmp_path / "absent.png")
    assert "No such file" in found
    assert "is empty" in error("find", model, "--gallery", tmp_path / "empty", "--query", query)
    assert "does not exist" in error("find", model, "--gallery", "/no/where", "--query", query)
    assert "no saved model" in error("find", photos, "--gallery", photos, "--query", query)
    flat = write(tmp_path / "flat" / "x.png", (1, 2, 3)).parent
    asked = ["find", model, "--gallery", flat, "--query", query]
    assert run(*asked) == 0
    capsys.readouterr()
    assert run(*asked, "--other_cameras") == 1
    assert "does not say its cameras" in capsys.readouterr().err
    other = tmp_path / "other_model"
    make_embedder(seed=3).save(other)
    store = tmp_path / "store"
    assert run("find", model, "--gallery", photos, "--query", query, "--store", store) == 0
    capsys.readouterr()
    assert run("find", other, "--gallery", photos, "--query", query, "--store", store) == 1
    assert "another model" in capsys.readouterr().err


def test_same(deciding, photos, tmp_path, capsys):
    anna, again = photos / "anna/0_c1_0.png", photos / "anna/0_c2_1.png"
    dan = photos / "dan/3_c1_0.png"
    assert run("same", deciding, anna, again) == 0
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("same person       distance 0.")
    assert "probability  " in first
    assert "where both errors are" in last
    assert "measured on 8 validation people of rendered, rendered" in last
    assert run("same", deciding, anna, dan, "--far", "0.1") == 0
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("different people  distance ")
    assert "which accepts 10 % of pairs of two persons and" in last
    pairs = tmp_path / "pairs.csv"
    pairs.write_text(f"a,b\n{anna},{again}\n\n{anna}, {dan}\n")
    assert run("same", deciding, "--pairs", pairs) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines[:2]] == ["same person", "different people"]
    assert lines[1].endswith(f"  {anna}  {dan}")
    assert run("same", deciding, "--pairs", pairs, "--far", "1e-1", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert [pair["same"] for pair in told["pairs"]] == [True, False]
    assert told["pairs"][0].keys() == {"a", "b", "distance", "probability", "same"}
    assert told["pairs"][0]["probability"] > 0.5 > told["pairs"][1]["probability"]
    assert (told["false_accept_rate"], told["measured_on"]) == (0.1, "validation")
    assert told["pairs"][0]["distance"] <= told["threshold"] < told["pairs"][1]["distance"]


def test_same_errors_are_one_message(model, deciding, photos, tmp_path, capsys):
    anna = photos / "anna/0_c1_0.png"
    text = tmp_path / "no.png"
    text.write_text("no image")

    def error(*arguments):
        assert run("same", *arguments) == 1
        told = capsys.readouterr().err
        assert told.startswith("reid-jax same: ")
        assert "Traceback" not in told
        return told

    assert "no threshold and no probability" in error(model, anna, anna)
    assert "1 of 2 images cannot be read" in error(deciding, anna, text)
    assert "No such file" in error(deciding, anna, tmp_path / "absent.png")
    assert "at a false accept rate of 0.001: there are 0.1," in error(
        *(deciding, anna, anna, "--far", "0.001")
    )
    assert "got 1 images, expected two" in error(deciding, anna)
    assert "no saved model" in error(photos, anna, anna)
    pairs = tmp_path / "pairs.csv"
    assert "No such file" in error(deciding, "--pairs", pairs)
    pairs.write_text(f"{anna},{anna}\n{anna}\n")
    assert "pairs.csv: line 2 has " in error(deciding, "--pairs", pairs)
    pairs.write_bytes(b"\xff\xfe\x00")
    assert "pairs.csv: " in error(deciding, "--pairs", pairs)
    pairs.write_text("a,b\n")
    assert "has no pair" in error(deciding, "--pairs", pairs)
    assert "give one or the other" in error(deciding, anna, "--pairs", pairs)


def test_find_says_probability_and_where_the_threshold_falls(deciding, photos, tmp_path, capsys):
    query = write(tmp_path / "q.png", (198, 44, 41), 99)
    page = tmp_path / "page.html"
    asked = ["find", deciding, "--gallery", photos, "--query", query]
    assert run(*asked, "--html", page) == 0
    lines = capsys.readouterr().out.splitlines()
    place = next(n for n, line in enumerate(lines) if "same person above" in line)
    assert 1 < place < 12
    assert all(" %  " in line for line in lines[1:place])
    assert "measured on 8 validation people" in lines[-1]
    shown = page.read_text()
    assert shown.count('<li class="line">') == 1
    assert shown.count('<b class="sure">') == 12
    assert run(*asked, "--json", "-") == 0
    told = json.loads(capsys.readouterr().out)
    hits = told["found"][0]["hits"]
    within = [hit["distance"] <= told["threshold"] for hit in hits]
    assert within == [True] * (place - 1) + [False] * (13 - place)
    chances = [hit["probability"] for hit in hits]
    assert chances == sorted(chances, reverse=True)
    assert run(*asked, "--rerank") == 0
    out = capsys.readouterr().out
    assert " %  " not in out
    assert "re-ranked distances have no probability" in out


def test_hostile_names_are_text(model, tmp_path, capsys):
    photos = tmp_path / "<script>alert(1)<"
    name = '"><img src=x onerror=alert(1)>.png'
    write(photos / name, (1, 2, 3))
    write(photos / "b.png", (200, 2, 3))
    page = tmp_path / "page.html"
    query = photos / "b.png"
    assert run("find", model, "--gallery", photos, "--query", query, "--html", page) == 0
    assert "<script>alert" not in page.read_text()
    assert "<img src=x" not in page.read_text()


def test_serve(model, photos, tmp_path):
    (photos / "anna" / "0_c1_7.png").write_bytes(b"text")
    # A program that was started in the background ignores Ctrl-C, and so would what it starts.
    program = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from reid_jax.cli import main; sys.exit(main())"
    )
    command = [sys.executable, "-c", program, "serve", model, "--gallery", str(photos)]
    with subprocess.Popen(
        [*command, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        told = process.stdout.readline()
        address = told.removeprefix("the page is ").split()[0]
        with urllib.request.urlopen(address + "gallery", timeout=60) as answer:
            assert json.load(answer)["images"] == 12
        port = address.rsplit(":", 1)[1].strip("/")
        taken = subprocess.run(
            [*command, "--port", port], capture_output=True, text=True, check=False, cwd=ROOT
        )
        assert taken.returncode == 1
        assert taken.stderr.startswith(f"reid-jax serve: port {port} of 127.0.0.1 cannot be taken")
        assert "Traceback" not in taken.stderr
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 2  # An image was left out.
    assert "0_c1_7.png" in errors
    assert "Traceback" not in errors
