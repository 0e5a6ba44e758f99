"""Small raw data sets for tests: noise images in the official layouts."""

import json
import zipfile

import cv2
import numpy as np

MARKET = "Market-1501-v15.09.15"
FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}


def noise(name: str, *, suffix: str = ".jpg", size: tuple[int, int] = (16, 8)) -> bytes:
    """An encoded noise image that depends on its name only."""
    generator = np.random.default_rng(list(name.encode()))
    pixels = generator.integers(0, 256, (*size, 3), dtype=np.uint8)
    return cv2.imencode(suffix, pixels)[1].tobytes()


def market_name(identity: int, camera: int, number: int) -> str:
    text = "-1" if identity < 0 else f"{identity:04d}"
    return f"{text}_c{camera}s1_{number:06d}_01.jpg"


def market_files(*, num_train: int = 4, num_test: int = 3) -> list[str]:
    """Names of a valid small tree; identities of the test begin after those of train."""
    files = []
    for identity in range(2, 2 + num_train):
        for camera in (1, 2, 5):
            for number in range(identity % 3 + 1):
                files.append(f"bounding_box_train/{market_name(identity, camera, number)}")
    for identity in range(100, 100 + num_test):
        for camera in (1, 3, 6):
            files.append(f"query/{market_name(identity, camera, 7)}")
            files.append(f"bounding_box_test/{market_name(identity, camera, 8)}")
            files.append(f"gt_bbox/{market_name(identity, camera, 7)}")
            files.append(f"gt_bbox/{market_name(identity, camera, 9)}")
    files += [f"bounding_box_test/{market_name(0, camera, 20)}" for camera in (1, 2)]
    files += [f"bounding_box_test/{market_name(-1, camera, 30)}" for camera in (3, 4, 5)]
    files.append(f"gt_bbox/{market_name(2, 1, 3)}")
    return files


def write_tree(root, files, *, stand_in: bool = True, order=sorted):
    """Writes noise images at the paths, and a `STAND_IN.json` so that counts are free."""
    for file in order(files):
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(noise(file, suffix="." + file.rsplit(".", 1)[-1]))
    root.mkdir(parents=True, exist_ok=True)
    if stand_in:
        (root / "STAND_IN.json").write_text(json.dumps({"seed": 3}))
    return root


def zip_tree(root, path, *, top: str = MARKET):
    """Packs a tree below one top folder, with what macOS adds."""
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(root.rglob("*"), reverse=True):
            if file.is_file():
                name = file.relative_to(root).as_posix()
                archive.write(file, f"{top}/{name}")
        archive.writestr(f"__MACOSX/{top}/query/._{market_name(100, 1, 7)}", b"x")
        archive.writestr(f"{top}/query/Thumbs.db", b"x")
    return path
