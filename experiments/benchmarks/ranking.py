"""Times `rank_features` beside the usual NumPy evaluation that sorts the whole gallery.

The baseline is the form of the PyTorch code bases: the whole [Q, G] matrix of distances, one
argsort of every row, then a Python loop over the queries. `streamed` is `rank_with_distractors`,
whose distractors are made block by block; making them is timed on its own and left out. Each side
runs in a process of its own, so that the peak memory is its own.

    python experiments/benchmarks/ranking.py [--num_query 3368 --num_gallery 15913 --dim 2048]

Market-1501 with its 500,000 distractors, once, on the sides that fit a small machine:

    python experiments/benchmarks/ranking.py --num_gallery 19732 --num_distractors 500000 \
        --sides counted streamed --repeats 0
"""

import argparse
import json
import resource
import subprocess
import sys
import time

import numpy as np

DISTRACTORS_PER_BLOCK = 10_000


def market_like(num_query, num_gallery, dim, num_distractors=0, seed=0):
    """Unit features around 750 identity directions, six cameras, with Market-1501's share of 0."""
    random = np.random.default_rng(seed)
    directions = random.standard_normal((751, dim), dtype=np.float32)
    query_ids = random.integers(1, 751, num_query)
    gallery_ids = np.where(
        random.random(num_gallery) < 0.176, 0, random.integers(1, 751, num_gallery)
    )

    def features(ids, out):
        random.standard_normal(out=out, dtype=np.float32)
        out *= 4
        out += directions[ids]
        out /= np.linalg.norm(out, axis=1, keepdims=True)

    cameras = random.integers(1, 7, num_query), random.integers(1, 7, num_gallery)
    query_features = np.empty((num_query, dim), np.float32)
    gallery_features = np.empty((num_gallery + num_distractors, dim), np.float32)
    features(query_ids, query_features)
    features(gallery_ids, gallery_features[:num_gallery])
    end = num_gallery
    for block in distractor_blocks(num_distractors, dim):
        gallery_features[end : end + len(block)] = block
        end += len(block)
    return (
        query_features,
        gallery_features,
        query_ids,
        cameras[0],
        np.append(gallery_ids, np.zeros(num_distractors, int)),
        np.append(cameras[1], np.ones(num_distractors, int)),
    )


def distractor_blocks(num_distractors, dim):
    """Unit features without an identity, [up to DISTRACTORS_PER_BLOCK, D] at a time."""
    for number, start in enumerate(range(0, num_distractors, DISTRACTORS_PER_BLOCK)):
        random = np.random.default_rng([1, number])
        num_rows = min(DISTRACTORS_PER_BLOCK, num_distractors - start)
        block = random.standard_normal((num_rows, dim), dtype=np.float32)
        block /= np.linalg.norm(block, axis=1, keepdims=True)
        yield block


def clock():
    """Wall seconds and, for a machine that has other work, processor seconds."""
    return np.array([time.perf_counter(), time.process_time()])


class Timed:
    """An iterable that adds up the time its items take."""

    def __init__(self, items):
        self.items, self.seconds = iter(items), np.zeros(2)

    def __iter__(self):
        return self

    def __next__(self):
        start = clock()
        try:
            return next(self.items)
        finally:
            self.seconds += clock() - start


def sorted_ranking(query_features, gallery_features, query_ids, query_cameras, ids, cameras):
    """Rank-1 and mAP by sorting every row."""
    distances = (
        (query_features**2).sum(1)[:, None]
        + (gallery_features**2).sum(1)
        - 2 * query_features @ gallery_features.T
    )
    order = np.argsort(distances, axis=1)
    matches = ids[order] == query_ids[:, None]
    precisions, curves = [], []
    for q in range(len(query_ids)):
        kept = (ids[order[q]] != query_ids[q]) | (cameras[order[q]] != query_cameras[q])
        match = matches[q][kept]
        if match.any():
            curve = match.cumsum()
            curves.append(np.minimum(curve, 1)[:50])
            precisions.append((curve / (np.arange(len(curve)) + 1.0) * match).sum() / match.sum())
    return float(np.mean(curves, axis=0)[0]), float(np.mean(precisions))


def counted_ranking(*data):
    """Rank-1 and mAP by `rank_features`."""
    from reid_jax.evaluation import rank_features

    result = rank_features(*data)
    return float(result.cmc[0]), result.map_step


def streamed_ranking(*data, blocks, num_distractors):
    """Rank-1 and mAP by `rank_with_distractors`, at the paper's numbers of distractors."""
    from reid_jax.evaluation import rank_with_distractors

    at = [n for n in (100_000, 200_000) if n < num_distractors]
    results = rank_with_distractors(*data, blocks, at=[*at, num_distractors])
    result = results[num_distractors]
    return float(result.cmc[0]), result.map_step


def measure(side, data, args):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    times = []
    for _ in range(args.repeats + 1):
        blocks = Timed(distractor_blocks(args.num_distractors, args.dim))
        start = clock()
        if side == "streamed":
            found = streamed_ranking(*data, blocks=blocks, num_distractors=args.num_distractors)
        else:
            found = {"sorted": sorted_ranking, "counted": counted_ranking}[side](*data)
        times.append(clock() - start - blocks.seconds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "first": times[0].tolist(),
        "best": np.min(times[1:] or times, axis=0).tolist(),
        "rank1": found[0],
        "map_step": found[1],
        "memory_mib": (peak - before) / 1024,
        "peak_mib": peak / 1024,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num_query", type=int, default=3368)
    parser.add_argument("--num_gallery", type=int, default=15913)
    parser.add_argument("--num_distractors", type=int, default=0)
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=2, help="runs after the first")
    parser.add_argument(
        "--sides",
        nargs="+",
        choices=["sorted", "counted", "streamed"],
        default=["sorted", "counted"],
    )
    parser.add_argument("--side", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        held = 0 if args.side == "streamed" else args.num_distractors
        data = market_like(args.num_query, args.num_gallery, args.dim, held)
        print(json.dumps(measure(args.side, data, args)))
        return
    results = {}
    for side in args.sides:
        command = [sys.executable, __file__, *sys.argv[1:], "--side", side]
        results[side] = json.loads(
            subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
        )
    print(
        f"Q {args.num_query}, G {args.num_gallery} + {args.num_distractors}, D {args.dim}; wall "
        f"and processor seconds of the first of {args.repeats + 1} runs, and of the best other"
    )
    for side, r in results.items():
        print(
            "{:8} {:7.2f} {:7.2f}, {:7.2f} {:7.2f}".format(side, *r["first"], *r["best"])
            + f", memory {r['peak_mib']:6.0f} MiB, above the data {r['memory_mib']:6.0f} MiB, "
            f"rank-1 {r['rank1']:.6f}, mAP {r['map_step']:.6f}"
        )
    if {"sorted", "counted"} <= results.keys():
        wall, processor = np.divide(results["sorted"]["best"], results["counted"]["best"])
        print(f"sorted / counted: {wall:.2f} wall, {processor:.2f} processor")


if __name__ == "__main__":
    main()
