"""Takes a query and a gallery out of images, by identity."""

import numpy as np

from reid_jax import keys, schema
from reid_jax.data.source import Source

__all__ = ["TEST_DRAW", "VAL_DRAW", "carve", "carve_rows", "divide", "divide_rows"]

# Number of the use of the seed.
TEST_DRAW, VAL_DRAW = 0, 1

Blocks = dict[int, dict[int, list[int]]]


def carve(
    source: Source, *, num_test_identities: int, num_val_identities: int = 0, seed: int
) -> dict[str, Source]:
    """Divides images by identity into training, query and gallery, as `prepare.py` does.

    The query has one random image per identity and camera, the gallery has the rest; where that
    would leave a query without a match, one camera of the identity gives no query. Without cameras
    the query has one image per identity. Distractors and junk go to the gallery.

    Args:
        source: N images; their order does not matter.
        num_test_identities: how many identities to take, of those with a match in another camera
            (without cameras: with a second image); at least 1.
        num_val_identities: how many of the others to take for validation.
        seed: in [0, 2**64).

    Returns:
        Sources `train`, `query` and `gallery`, and with validation also `val_query` and
        `val_gallery`; each is sorted by file. Images are still read when indexed.

    Raises:
        ValueError: if there are not enough such identities, or none is left to train on.
    """
    for name, number, least in (
        ("num_test_identities", num_test_identities, 1),
        ("num_val_identities", num_val_identities, 0),
    ):
        if number < least:
            raise ValueError(f"{name} is {number}; expected {least} or more")
    rows = np.array(sorted(range(len(source)), key=lambda row: source.files[row]), np.int64)
    labelled = source.identities[rows] > schema.DISTRACTOR
    rest = rows[labelled]
    splits: dict[str, np.ndarray] = {}
    for name, number, draw, names in (
        ("num_test_identities", num_test_identities, TEST_DRAW, ("query", "gallery")),
        ("num_val_identities", num_val_identities, VAL_DRAW, ("val_query", "val_gallery")),
    ):
        if not number:
            continue
        identities, cameras = _columns(source, rest)
        try:
            kept, query, gallery = carve_rows(identities, cameras, number, seed=seed, draw=draw)
        except ValueError as error:
            raise ValueError(f"{source.dataset}, {name}: {error}{_way_out(cameras)}") from error
        splits |= {names[0]: rest[query], names[1]: rest[gallery]}
        rest = rest[kept]
    splits["gallery"] = np.concatenate([splits["gallery"], rows[~labelled]])
    splits["gallery"] = np.array(sorted(splits["gallery"], key=lambda row: source.files[row]))
    splits = {"train": rest, **splits}
    return {split: source.take(taken, split) for split, taken in splits.items()}


def divide(source: Source, *, seed: int, names: tuple[str, str] = ("query", "gallery")) -> dict:
    """Divides the images of a test side into query and gallery.

    Args:
        source: N images; their order does not matter.
        seed: in [0, 2**64).
        names: of the two splits.

    Returns:
        The two sources by name: the query as in `carve`, of every identity that has a match in
        another camera; the gallery has all other images.

    Raises:
        ValueError: if no identity has such a match.
    """
    rows = np.array(sorted(range(len(source)), key=lambda row: source.files[row]), np.int64)
    identities, cameras = _columns(source, rows)
    draw = TEST_DRAW if names[0] == "query" else VAL_DRAW
    try:
        query, gallery = divide_rows(identities, cameras, seed=seed, draw=draw)
    except ValueError as error:
        raise ValueError(f"{source.dataset}/{source.split}: {error}{_way_out(cameras)}") from error
    return {
        names[0]: source.take(rows[query], names[0]),
        names[1]: source.take(rows[gallery], names[1]),
    }


def carve_rows(
    identities: np.ndarray,
    cameras: np.ndarray | None,
    num_identities: int,
    *,
    seed: int,
    draw: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Takes identities out and divides their rows into query and gallery, as `carve` says.

    Args:
        identities: [N] above 0; rows in the order of their files.
        cameras: [N], or None if the camera does not count.
        num_identities: how many identities to take.
        seed: in [0, 2**64).
        draw: number of this use of the seed.

    Returns:
        The rows of the other identities, of the query and of the gallery, each in order.

    Raises:
        ValueError: if there are not enough identities with a match, or none is left.
    """
    blocks = _blocks(identities, cameras)
    eligible = _eligible(blocks)
    if num_identities > len(eligible):
        raise ValueError(
            f"{num_identities} identities were asked for, but {_only(blocks, cameras)}; "
            "ask for fewer"
        )
    if num_identities == len(blocks):
        raise ValueError(
            f"{num_identities} identities were asked for, which is all of them: none is left to "
            "train on; ask for fewer"
        )
    words = keys.random_bits(
        seed, stream=keys.SPLIT, index=draw, count=len(eligible) + len(identities)
    )
    order = np.argsort(words[: len(eligible)], kind="stable")
    chosen = [eligible[place] for place in order[:num_identities]]
    queries = _queries(blocks, chosen, words[len(eligible) :], has_cameras=cameras is not None)
    taken = np.isin(identities, chosen)
    rows = np.arange(len(identities))
    return rows[~taken], queries, np.setdiff1d(rows[taken], queries)


def divide_rows(
    identities: np.ndarray, cameras: np.ndarray | None, *, seed: int, draw: int
) -> tuple[np.ndarray, np.ndarray]:
    """Divides the rows of a test side into query and gallery, as `divide` says.

    Args:
        identities: [N], with distractors and junk; rows in the order of their files.
        cameras: [N], or None if the camera does not count.
        seed: in [0, 2**64).
        draw: number of this use of the seed.

    Returns:
        The rows of the query and of the gallery, each in order.

    Raises:
        ValueError: if no identity has a match.
    """
    blocks = _blocks(identities, cameras)
    for special in (schema.JUNK, schema.DISTRACTOR):
        blocks.pop(special, None)
    eligible = _eligible(blocks)
    if not eligible:
        raise ValueError(f"query and gallery cannot be made of it: {_only(blocks, cameras)}")
    words = keys.random_bits(seed, stream=keys.SPLIT, index=draw, count=len(identities))
    queries = _queries(blocks, eligible, words, has_cameras=cameras is not None)
    return queries, np.setdiff1d(np.arange(len(identities)), queries)


def _columns(source: Source, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    cameras = None if source.cameras is None else source.cameras[rows]
    return source.identities[rows], cameras


def _blocks(identities: np.ndarray, cameras: np.ndarray | None) -> Blocks:
    """Rows by identity and camera; without cameras each row is one of its own."""
    blocks: Blocks = {}
    for row, identity in enumerate(identities.tolist()):
        camera = row if cameras is None else int(cameras[row])
        blocks.setdefault(identity, {}).setdefault(camera, []).append(row)
    return blocks


def _eligible(blocks: Blocks) -> list[int]:
    return sorted(identity for identity, cameras in blocks.items() if len(cameras) > 1)


def _only(blocks: Blocks, cameras: np.ndarray | None) -> str:
    need = "two images" if cameras is None else "images from two cameras"
    return (
        f"only {len(_eligible(blocks))} of {len(blocks)} have {need}, which a query with a match "
        "needs"
    )


def _way_out(cameras: np.ndarray | None) -> str:
    if cameras is None or len(set(cameras.tolist())) != 1:
        return ""
    return (
        f". All images are of camera {int(cameras[0])}: dataclasses.replace(source, cameras=None) "
        "keeps them and turns the camera rule off"
    )


def _queries(
    blocks: Blocks, chosen: list[int], words: np.ndarray, *, has_cameras: bool
) -> np.ndarray:
    queries: set[int] = set()
    for identity in chosen:
        cameras = blocks[identity]
        picks = {
            camera: min(rows, key=lambda row: (words[row], row)) for camera, rows in cameras.items()
        }
        if has_cameras:
            rich = [camera for camera, rows in cameras.items() if len(rows) > 1]
            if len(rich) < 2:
                del picks[rich[0] if rich else max(picks, key=lambda camera: words[picks[camera]])]
            queries.update(picks.values())
        else:
            queries.add(min(picks.values(), key=lambda row: (words[row], row)))
    return np.array(sorted(queries), np.int64)
