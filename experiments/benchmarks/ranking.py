"""Times `rank_features` beside the usual NumPy evaluation that sorts the whole gallery.

The baseline is the form of the PyTorch code bases: the whole [Q, G] matrix of distances, one
argsort of every row, then a Python loop over the queries. Each side runs in a process of its own,
so that the peak memory is its own.

    python experiments/benchmarks/ranking.py [--num_query 3368 --num_gallery 15913 --dim 2048]
"""

import argparse
import json
import resource
import subprocess
import sys
import time

import numpy as np


def market_like(num_query, num_gallery, dim, seed=0):
    """Unit features around 750 identity directions, six cameras, with Market-1501's share of 0."""
    random = np.random.default_rng(seed)
    directions = random.standard_normal((751, dim), dtype=np.float32)
    query_ids = random.integers(1, 751, num_query)
    gallery_ids = np.where(
        random.random(num_gallery) < 0.176, 0, random.integers(1, 751, num_gallery)
    )

    def features(ids):
        x = random.standard_normal((len(ids), dim), dtype=np.float32)
        x *= 4
        x += directions[ids]
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        return x

    cameras = random.integers(1, 7, num_query), random.integers(1, 7, num_gallery)
    return (
        features(query_ids),
        features(gallery_ids),
        query_ids,
        cameras[0],
        gallery_ids,
        cameras[1],
    )


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


def measure(side, data, repeats):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        rank1, mean_precision = side(*data)
        times.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "first": times[0],
        "best": min(times[1:]),
        "rank1": rank1,
        "map_step": mean_precision,
        "memory_mib": (peak - before) / 1024,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num_query", type=int, default=3368)
    parser.add_argument("--num_gallery", type=int, default=15913)
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--side", choices=["sorted", "counted"])
    args = parser.parse_args()
    if args.side:
        side = {"sorted": sorted_ranking, "counted": counted_ranking}[args.side]
        data = market_like(args.num_query, args.num_gallery, args.dim)
        print(json.dumps(measure(side, data, args.repeats)))
        return
    results = {}
    for side in ("sorted", "counted"):
        command = [sys.executable, __file__, *sys.argv[1:], "--side", side]
        results[side] = json.loads(
            subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
        )
    print(
        f"Q {args.num_query}, G {args.num_gallery}, D {args.dim}; the best of {args.repeats} runs"
    )
    for side, r in results.items():
        print(
            f"{side:8} {r['best']:7.2f} s (first call {r['first']:6.2f} s), memory above the data "
            f"{r['memory_mib']:7.0f} MiB, rank-1 {r['rank1']:.6f}, mAP {r['map_step']:.6f}"
        )
    ratio = results["sorted"]["best"] / results["counted"]["best"]
    print(f"sorted / counted: {ratio:.2f}")


if __name__ == "__main__":
    main()
