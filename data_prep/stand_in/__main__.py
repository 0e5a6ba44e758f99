"""Render a stand-in data set: python -m data_prep.stand_in market1501 --raw_dir DIR."""

import argparse
import sys

import cv2

from data_prep.stand_in import (
    contact_sheet,
    write_cuhk01,
    write_cuhk03,
    write_distractors_500k,
    write_dukemtmc,
    write_market1501,
    write_pku_reid,
    write_viper,
)

# Each with its options of size, and the number of its cameras.
_WRITERS = {
    "market1501": (write_market1501, ("num_train_identities", "num_test_identities"), 6),
    "dukemtmc": (write_dukemtmc, ("num_train_identities", "num_test_identities"), 8),
    "distractors_500k": (write_distractors_500k, ("num_images",), 6),
    "cuhk03": (write_cuhk03, ("num_test_identities", "groups"), 10),
    "cuhk01": (write_cuhk01, ("num_identities",), 2),
    "viper": (write_viper, ("num_identities",), 2),
    "pku_reid": (write_pku_reid, ("num_identities",), 2),
}
_SIZES = ("num_train_identities", "num_test_identities", "num_identities", "num_images", "groups")


def groups(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(","))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m data_prep.stand_in", description=__doc__)
    parser.add_argument("dataset", choices=_WRITERS)
    parser.add_argument("--raw_dir", help="folder that will hold the data set's own folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--full", action="store_true", help="the official counts")
    parser.add_argument("--num_train_identities", type=int)
    parser.add_argument("--num_test_identities", type=int)
    parser.add_argument("--num_identities", type=int, help="for cuhk01, viper and pku_reid")
    parser.add_argument(
        "--groups",
        type=groups,
        metavar="N,N,N,N,N",
        help="identities of cuhk03's five pairs of cameras; default 150,78,14,10,8",
    )
    parser.add_argument("--num_images", type=int, help="for distractors_500k")
    parser.add_argument("--num_workers", type=int, help="processes; default: one per CPU")
    parser.add_argument("--contact_sheet", metavar="FILE.png", help="draw samples to look at")
    parser.add_argument("--columns", choices=("cameras", "orientations"), default="cameras")
    options = parser.parse_args(arguments)
    if options.raw_dir is None and options.contact_sheet is None:
        parser.error("give --raw_dir DIR, --contact_sheet FILE.png, or both")
    write, wanted, num_cameras = _WRITERS[options.dataset]
    if options.contact_sheet is not None:
        sheet = contact_sheet(
            options.seed, range(1, 11), columns=options.columns, num_cameras=num_cameras
        )
        if not cv2.imwrite(options.contact_sheet, cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR)):
            parser.error(f"cannot write {options.contact_sheet}")
        print(f"contact sheet: {options.contact_sheet}")
    if options.raw_dir is None:
        return 0
    if options.dataset == "distractors_500k":
        if options.full:
            options.num_images = 500_000
        if options.num_images is None:
            parser.error("distractors_500k needs --num_images N or --full")
    for name in _SIZES:
        if name not in wanted and getattr(options, name) is not None:
            parser.error(f"--{name} is not for {options.dataset}")
    given = {name: getattr(options, name) for name in wanted if getattr(options, name) is not None}
    if options.dataset != "distractors_500k":
        if options.full and given:
            parser.error(
                f"--full fixes the counts; drop {', '.join('--' + name for name in given)}"
            )
        given["full"] = options.full
    try:
        tree = write(options.raw_dir, seed=options.seed, num_workers=options.num_workers, **given)
    except (FileExistsError, ValueError) as error:
        parser.exit(1, f"{error}\n")
    print(f"stand-in {options.dataset}: {tree}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
