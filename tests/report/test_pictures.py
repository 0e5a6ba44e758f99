"""What a report shows of the images: names, crops and who is confused with whom."""

import cv2
import numpy as np

from reid_jax import data, report
from reid_jax.report.pictures import caption, confused


def source(identities, cameras=None, *, size=(96, 48), **names):
    png = cv2.imencode(".png", np.full((*size, 3), 99, np.uint8))[1].tobytes()
    return data.Source(
        dataset="shop",
        split="query",
        files=[f"{row}.png" for row in range(len(identities))],
        identities=np.array(identities),
        cameras=None if cameras is None else np.array(cameras),
        images=[png] * len(identities),
        **names,
    )


def test_a_caption_has_names_where_there_are_names():
    named = source([1, 2], [1, 2], identity_names={1: "Anna", 2: "Bert"}, camera_names={1: "yard"})
    assert caption(named, 0) == "Anna, yard"
    assert caption(source([7], [3]), 0) == "id 7, c3"
    assert caption(source([7]), 0) == "id 7"
    assert caption(source([0], [3]), 0) == "distractor"
    assert caption(named, -1) == ""


def test_people_confused_more_than_once_are_told_by_name():
    query = source([1, 1, 1, 2, 2, 3], identity_names={1: "Anna", 2: "Bert", 3: "Cleo"})
    gallery = source([2, 3, 0, 1], identity_names={1: "Anna", 2: "Bert", 3: "Cleo"})
    # Anna twice for Bert, Bert once for Cleo and once right, Cleo for a distractor.
    arrays = {
        "nearest_query": np.arange(6),
        "nearest_gallery": np.array([0, 0, 3, 1, 0, 2]),
    }
    assert confused(query, gallery, arrays) == [("Anna", "Bert", 2, 3)]
    arrays["nearest_gallery"] = np.array([-1, 0, 0, 0, 0, 0])
    assert confused(query, gallery, arrays) == [("Anna", "Bert", 2, 3)]


def test_crops_have_the_proportions_of_the_images_and_a_first_match_of_its_own():
    query, gallery = source([1, 2], [1, 1], size=(40, 80)), source([1, 2, 0], [2, 2, 1])
    arrays = {
        "ranked_queries": np.array([1, 0]),
        "ranked_gallery": np.array([[2, -1], [0, 1]]),
        "ranked_first_gallery": np.array([1, -1]),
    }
    shown = report.pictures_of(query, gallery, arrays)
    assert shown.query_images.shape == (2, 32, 64, 3)
    assert shown.gallery_images.shape == (2, 2, 32, 64, 3)
    assert not shown.gallery_images[0, 1].any()
    assert shown.gallery_captions == [["distractor", ""], ["id 1, c2", "id 2, c2"]]
    assert shown.query_cameras == ["c1", "c1"]
    assert shown.first_images[0].any()
    assert shown.first_captions == ["id 2, c2", ""]
    # An evaluation by an earlier version knows no first matches.
    del arrays["ranked_first_gallery"]
    shown = report.pictures_of(query, gallery, arrays)
    assert not shown.first_images.any()


def test_what_is_found_for_a_window_of_a_building_has_no_name():
    """Images of Oxford5k have no identity, and are no distractors for that."""
    gallery = source([0, 0])
    rows = np.array([1])
    asked = [data.LandmarkQuery("balliol_1", 0, (0.0, 0.0, 48.0, 96.0), rows, rows[:0], rows[:0])]
    arrays = {"ranked_queries": np.array([0]), "ranked_gallery": np.array([[1, -1]])}
    shown = report.pictures_of(gallery, gallery, arrays, queries=asked)
    assert shown.query_captions == ["balliol_1"]
    assert shown.gallery_captions == [["", ""]]
    assert shown.first_captions == [""]
