"""`reid-jax evaluate` as it is typed, on a folder of coloured crops."""

import dataclasses
import json

import numpy as np
import pytest
from search_parts import PEOPLE, make_embedder, write

from reid_jax import data, decide
from reid_jax.cli import main
from reid_jax.embedder import Embedder
from reid_jax.protocols import PROTOCOLS, Refinement


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    directory = tmp_path_factory.mktemp("model")
    make_embedder().save(directory)
    return directory


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Query and gallery of four people, seen by two cameras."""
    root = tmp_path_factory.mktemp("photos")
    for person, colour in enumerate(PEOPLE.values(), 1):
        # Much noise, so that not all is found.
        near = tuple(int(0.2 * value + 90) for value in colour)
        for split, camera, number in (("query", 1, 2), ("gallery", 2, 3)):
            for i in range(number):
                name = f"{person:04d}_c{camera}_{i}.png"
                write(root / split / name, near, 100 * person + 10 * camera + i)
    return root


def run(*arguments):
    return main(["evaluate", *(str(argument) for argument in arguments)])


def found(capsys, *arguments):
    """What the command says as JSON."""
    assert run(*arguments, "--json", "-") == 0
    return json.loads(capsys.readouterr().out)


def subsets(photos):
    return data.with_test_side(data.open_splits(photos))


@pytest.mark.parametrize(
    ("options", "name", "scoring", "refinement"),
    [
        ((), "single-query", {}, Refinement()),
        (("--rerank",), "single-query+rerank", {}, Refinement(rerank=True)),
        (
            ("--flip", "--expand", 2),
            "single-query+flip+expand2",
            {"test_mode": "flip"},
            Refinement(expand=2),
        ),
    ],
    ids=["plain", "rerank", "flip and expand"],
)
def test_the_command_is_the_function(model, photos, capsys, options, name, scoring, refinement):
    told = found(capsys, model, photos, *options)
    assert (told["model"], told["data"], told["features"]) == (str(model), str(photos), None)
    embedder = Embedder.load(model)
    embedder = dataclasses.replace(
        embedder, scoring=dataclasses.replace(embedder.scoring, **scoring)
    )
    protocol = dataclasses.replace(PROTOCOLS["single-query"], refinement=refinement)
    expected = protocol.evaluate(embedder, subsets(photos))
    (one,) = told["evaluations"]
    assert one["protocol"] == name == expected.protocol
    assert one["metrics"] == expected.metrics
    assert one["intervals"] == {k: list(ends) for k, ends in expected.intervals.items()}
    assert one["fingerprint"] == expected.fingerprint
    assert (one["num_query"], one["num_gallery"], one["num_valid_queries"]) == (8, 12, 8)


def test_several_protocols_and_a_table(model, photos, tmp_path, capsys):
    file = tmp_path / "found.json"
    names = "single-query,single-query-swapped"
    asked = ("--protocol", names, "--protocol", "multi-shot", "--json", file)
    assert run(model, photos, *asked) == 0
    out, err = capsys.readouterr()
    told = json.loads(file.read_text())["evaluations"]
    assert [one["protocol"] for one in told] == [*names.split(","), "multi-shot"]
    lines = out.splitlines()
    assert lines[1].split() == [
        *("rank-1", "rank-5", "rank-10", "rank-20", "mAP", "(step)", "mAP", "(trapezoid)", "mINP")
    ]
    assert lines[2].startswith(f"single-query  {' ' * 14}")
    assert f"{100 * told[0]['metrics']['map_step']:.2f}" in lines[2]
    assert lines[3].startswith("  95 % of resampled queries")
    assert "multi-shot: 20 queries, 20 of them with a match" in out
    assert err.count("embedding query: 100%") == 1
    assert err.count("embedding gallery: 100%") == 1


def test_a_folder_that_is_not_divided(model, tmp_path, capsys):
    for name, colour in PEOPLE.items():
        for i in range(3):
            write(tmp_path / "shop" / name / f"{i}.png", colour, i)
    (one,) = found(capsys, model, tmp_path / "shop")["evaluations"]
    assert one["protocol"] == "single-query-no-cameras"
    assert (one["num_query"], one["num_gallery"]) == (4, 8)


@pytest.mark.parametrize("suffix", ["npz", "h5"])
def test_features_that_embed_wrote(model, photos, tmp_path, capsys, suffix):
    file = tmp_path / f"features.{suffix}"
    assert main(["embed", str(model), str(photos), "-o", str(file)]) == 0
    capsys.readouterr()
    (plain,) = found(capsys, model, photos)["evaluations"]
    for images in ((), (photos,)):
        told = found(capsys, "--features", file, *images)
        (given,) = told["evaluations"]
        assert told["model"] is None
        assert given["metrics"] == plain["metrics"]
        assert given["num_query"] == plain["num_query"]
    assert given["fingerprint"] == plain["fingerprint"]
    (swapped,) = found(
        capsys, "--features", file, "--protocol", "single-query-swapped", "--rerank"
    )["evaluations"]
    assert swapped["protocol"] == "single-query-swapped+rerank"
    pool = found(capsys, "--features", file, photos, "--protocol", "multi-shot")["evaluations"]
    assert pool == found(capsys, model, photos, "--protocol", "multi-shot")["evaluations"]


def test_features_of_a_baseline(model, photos, tmp_path, capsys):
    """The form with sides, alone and with the images, and named by a table."""
    embedder, parts = Embedder.load(model), subsets(photos)
    arrays = {}
    for split in ("query", "gallery"):
        arrays[f"{split}_f"] = 3 * embedder(parts[split])
        arrays[f"{split}_label"] = parts[split].identities
        arrays[f"{split}_cam"] = parts[split].cameras
    file = tmp_path / "x.npz"
    np.savez(file, **arrays)
    (plain,) = found(capsys, model, photos)["evaluations"]
    (alone,) = found(capsys, "--features", file)["evaluations"]
    (beside,) = found(capsys, "--features", file, photos)["evaluations"]
    assert alone["metrics"] == beside["metrics"] == plain["metrics"]
    assert beside["fingerprint"] == plain["fingerprint"] != alone["fingerprint"]
    (raw,) = found(capsys, "--features", file, "--no_normalise")["evaluations"]
    assert raw["distance"] == "squared Euclidean distance"

    sides = {split: range(len(parts[split])) for split in ("query", "gallery")}
    files = [f"{split}-{row}.png" for split, rows in sides.items() for row in rows]
    np.savez(file, features=np.concatenate([arrays["query_f"], arrays["gallery_f"]]), files=files)
    table = tmp_path / "who.csv"
    lines = [
        f"{split}-{row}.png,{parts[split].identities[row]},{parts[split].cameras[row]},{split}"
        for split, rows in sides.items()
        for row in rows
    ]
    table.write_text("\n".join(["file,identity,camera,split", *lines]))
    (named,) = found(capsys, "--features", file, table)["evaluations"]
    assert named["metrics"] == plain["metrics"]


def test_wrong_input_is_one_message(model, photos, tmp_path, capsys):
    def error(*arguments):
        assert run(*arguments) == 1
        told = capsys.readouterr().err
        assert "Traceback" not in told
        return told

    features = tmp_path / "x.npz"
    np.savez(features, query_f=np.ones((2, 3)), query_label=[1, 2])
    assert "expected MODEL DATA, or --features FILE" in error(model)
    assert "got none" in error()
    assert "expected MODEL DATA" in error("--features", features, model, photos)
    assert "lacks gallery_f" in error("--features", features)
    assert "there is no file of features" in error("--features", tmp_path / "no.npz")
    assert "is no saved model" in error(photos, photos)
    assert "does not exist" in error(model, tmp_path / "nowhere")
    assert "there is no protocol 'double'" in error(model, photos, "--protocol", "double")
    assert "does not fit single-shot-per-query" in error(
        *(model, photos, "--protocol", "single-query,single-shot-per-query", "--rerank")
    )
    assert "multi_query is missing" in error(model, photos, "--protocol", "multi-query-average")
    columns = {"query_label": [1], "gallery_label": [1, 1]}
    np.savez(features, query_f=np.ones((1, 3)), gallery_f=np.ones((2, 4)), **columns)
    assert "different numbers of columns" in error("--features", features)
    assert "--flip embeds images" in error("--features", features, "--flip")
    other = tmp_path / "other"
    make_embedder().save(other)
    record = json.loads((other / "embedder.json").read_text())
    (other / "embedder.json").write_text(json.dumps({**record, "format": 99}))
    assert "is of format 99" in error(other, photos)
    flat = write(tmp_path / "flat" / "train" / "a" / "0.png", (9, 9, 9)).parents[2]
    write(flat / "val" / "b" / "0.png", (9, 9, 9))
    write(flat / "val" / "b" / "1.png", (9, 9, 9))
    assert "no query and gallery to test on" in error(model, flat)


def test_people_that_were_trained_on_are_refused(photos, tmp_path, capsys):
    parts = data.open_splits(photos)
    provenance = {"data": data.fingerprint_of_training(parts["gallery"])}
    dataclasses.replace(make_embedder(), provenance=provenance).save(tmp_path / "model")
    assert run(tmp_path / "model", photos) == 1
    assert "--allow_overlap" in capsys.readouterr().err
    (one,) = found(capsys, tmp_path / "model", photos, "--allow_overlap")["evaluations"]
    assert one["overlap"]["people"] == 4
    assert run(tmp_path / "model", photos, "--allow_overlap") == 0
    assert "not a fair test: 4 of 4 people" in capsys.readouterr().out
    assert run(tmp_path / "model", photos, "--allow_overlap", "--save") == 1
    assert "people were trained on, whose" in capsys.readouterr().err


def test_thresholds_are_kept_in_the_model(photos, tmp_path, capsys):
    make_embedder().save(tmp_path / "model")
    assert Embedder.load(tmp_path / "model").decision is None
    assert run(tmp_path / "model", photos, "--rerank", "--save") == 0
    kept = Embedder.load(tmp_path / "model").decision
    assert kept == decide.measure(make_embedder(), subsets(photos))
    assert f"keeps the threshold {kept.threshold(None):.4f}" in capsys.readouterr().out
    for option in ("--flip", "--no_normalise"):
        assert run(tmp_path / "model", photos, "--save", option) == 1
        assert "leave out --features, --flip and" in capsys.readouterr().err
