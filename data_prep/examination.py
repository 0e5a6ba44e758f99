"""Examines what a raw data set holds, leaves bad images out, and carves the splits."""

from collections.abc import Callable

from data_prep import doctor
from data_prep.carving import carve, divide
from data_prep.listing import Listing, Problem, without_files
from data_prep.raw import RawTree
from reid_jax.data.carving import TEST_DRAW, VAL_DRAW
from reid_jax.data.records import told

__all__ = ["examine"]


def examine(
    dataset: str,
    tree: RawTree,
    listing: Listing,
    options: dict,
    *,
    skip_bad_images: bool,
    progress: bool,
    hint: Callable[[Listing, list[Problem]], str],
) -> dict[str, list[str]]:
    """Checks everything, leaves bad images out of the listing, and carves the splits.

    Args:
        dataset: name of the data set, for messages.
        tree: the raw files.
        listing: what they hold; changed.
        options: `num_test_identities`, `num_val_identities` and `seed`.
        skip_bad_images: leave bad images out, where otherwise there is an error.
        progress: show a progress bar.
        hint: what more to say of problems.

    Returns:
        The files of the bad images that were left out, by cause.

    Raises:
        ValueError: with all that is wrong.
    """
    files = sorted(
        {r.file for records in (*listing.splits.values(), listing.unlabelled) for r in records}
    )
    problems = listing.problems + doctor.image_problems(tree, files, progress=progress)
    _leave_out(listing, problems)
    if problems and not any([*listing.splits.values(), listing.unlabelled]):
        # What else there would be to say follows from these.
        raise ValueError(_report(dataset, tree, listing, problems, hint))

    if options["num_test_identities"]:
        _carve(listing, problems, options, "num_test_identities", TEST_DRAW, ("query", "gallery"))
        if "gallery" in listing.splits:
            listing.splits["gallery"] = sorted(listing.splits["gallery"] + listing.unlabelled)
    elif listing.unlabelled:
        listing.notes.append(
            f"{len(listing.unlabelled)} distractor and junk images were left out: no gallery"
        )
    _divide(listing, problems, options, "test", TEST_DRAW, ("query", "gallery"))
    between = doctor.split_problems(listing.splits, has_cameras=listing.has_cameras)
    if any(problem.kind == "match" for problem in between):
        camera = _only_camera(listing, "query", "gallery")
        if camera:
            between = [problem for problem in between if problem.kind != "match"]
            between.append(Problem("one_camera", f"query and gallery: {camera}"))
    _leave_out(listing, between)
    problems += between
    if options["num_val_identities"]:
        names = ("val_query", "val_gallery")
        _carve(listing, problems, options, "num_val_identities", VAL_DRAW, names)
    _divide(listing, problems, options, "val", VAL_DRAW, ("val_query", "val_gallery"))
    problems += doctor.size_problems(listing.splits)
    problems += doctor.partition_problems(listing.partitions, listing.splits)

    final = [problem for problem in problems if problem.file is None]
    if final or (problems and not skip_bad_images):
        raise ValueError(_report(dataset, tree, listing, problems, hint))
    skipped: dict[str, list[str]] = {}
    for problem in problems:
        skipped.setdefault(doctor.FIXES[problem.kind][0], []).append(problem.file)
    return skipped


def _report(
    dataset: str,
    tree: RawTree,
    listing: Listing,
    problems: list[Problem],
    hint: Callable[[Listing, list[Problem]], str],
) -> str:
    return (
        f"{dataset}: {len(problems):,} problem{'s' * (len(problems) > 1)} in {tree.where}\n"
        + doctor.report(problems)
        + hint(listing, problems)
    )


def _leave_out(listing: Listing, problems: list[Problem]) -> None:
    bad = {problem.file for problem in problems if problem.file is not None}
    for split, records in listing.splits.items():
        listing.splits[split] = [record for record in records if record.file not in bad]
    listing.unlabelled = [record for record in listing.unlabelled if record.file not in bad]
    for part in listing.partitions.values():
        for split in part.splits:
            for role, members in split.items():
                split[role] = [member for member in members if member not in bad]
    kept = without_files(listing.queries, bad)
    if len(kept) < len(listing.queries):
        number = len(listing.queries) - len(kept)
        listing.notes.append(f"left out {number} queries with their images, or with all they match")
    listing.queries = kept


def _carve(
    listing: Listing,
    problems: list[Problem],
    options: dict,
    option: str,
    draw: int,
    names: tuple[str, str],
) -> None:
    try:
        rest, query, gallery = carve(
            listing.splits["train"],
            options[option],
            seed=options["seed"],
            draw=draw,
            has_cameras=listing.has_cameras,
        )
    except ValueError as error:
        problems.append(_cannot(listing, "train", f"--{option}: {error}"))
        return
    listing.splits |= {"train": rest, names[0]: query, names[1]: gallery}


def _divide(
    listing: Listing,
    problems: list[Problem],
    options: dict,
    side: str,
    draw: int,
    names: tuple[str, str],
) -> None:
    """Makes query and gallery of an own test or validation side."""
    if side not in listing.splits:
        return
    try:
        query, gallery = divide(
            listing.splits[side], seed=options["seed"], draw=draw, has_cameras=listing.has_cameras
        )
    except ValueError as error:
        problems.append(_cannot(listing, side, f"{side}: {error}"))
        return
    del listing.splits[side]
    listing.splits |= {names[0]: query, names[1]: gallery}


def _cannot(listing: Listing, split: str, what: str) -> Problem:
    camera = _only_camera(listing, split)
    return Problem("one_camera", f"{camera}; {what}") if camera else Problem("split", what)


def _only_camera(listing: Listing, *splits: str) -> str:
    """Says so where all images of the splits are of one camera."""
    records = [record for split in splits for record in listing.splits.get(split, [])]
    cameras = {record.camera for record in records if record.identity > 0}
    if not listing.has_cameras or len(cameras) != 1:
        return ""
    (camera,) = cameras
    name = listing.camera_names[camera - 1] if listing.camera_names else camera
    return f"the {told(records)} are all of camera {name}"
