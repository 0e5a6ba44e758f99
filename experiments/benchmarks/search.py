"""Times lists from features of Market-1501's size, plain and re-ranked, with their peak memory.

Each side runs in a process of its own, so that the peak memory is its own; the gallery's features
are a memory-mapped file, as a store has them. `dense` is the re-ranking that gives the whole
[Q, G] matrix (`reid_jax.evaluation.k_reciprocal_rerank`), of which the lists are a sort.

    python experiments/benchmarks/search.py [--num_query 3368 --num_gallery 19732 --dim 2048]
        [--sides plain plain16 reranked dense] [--top 20]
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np

from experiments.benchmarks.ranking import market_like
from reid_jax.evaluation import k_reciprocal_rerank
from reid_jax.search import nearest, rerank_nearest

SIDES = ("plain", "plain16", "reranked", "dense")


def lists(side, queries, gallery, top):
    """The rows of the lists, [Q, top]."""
    if side == "dense":
        found = k_reciprocal_rerank(queries, np.asarray(gallery))
        return np.argsort(found, axis=1, kind="stable")[:, :top]
    search = rerank_nearest if side == "reranked" else nearest
    return search(queries, gallery, top=top).rows


def measure(side, folder, top, repeats):
    """Seconds of the first and of the fastest later run, and the peak memory in GB."""
    queries = np.load(os.path.join(folder, "queries.npy"))
    name = "gallery16.npy" if side == "plain16" else "gallery.npy"
    gallery = np.load(os.path.join(folder, name), mmap_mode="r")
    times = []
    for _ in range(1 + repeats):
        start = time.perf_counter(), time.process_time()
        rows = lists(side, queries, gallery, top)
        times.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    print(
        json.dumps(
            {
                "first_s": round(times[0][0], 2),
                "warm_s": round(min(times[1:] or times)[0], 2),
                "processor_s": round(min(times[1:] or times)[1], 2),
                "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
                "checksum": int(rows.sum()),
            }
        )
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--num_query", type=int, default=3368)
    parser.add_argument("--num_gallery", type=int, default=19732)
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--top", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=SIDES)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(*args.measure, args.top, args.repeats)
        return
    with tempfile.TemporaryDirectory() as folder:
        queries, gallery, *_ = market_like(args.num_query, args.num_gallery, args.dim)
        np.save(os.path.join(folder, "queries.npy"), queries)
        np.save(os.path.join(folder, "gallery.npy"), gallery)
        np.save(os.path.join(folder, "gallery16.npy"), gallery.astype(np.float16))
        print(f"{args.num_query} x {args.num_gallery} x {args.dim}, load {os.getloadavg()[0]:.1f}")
        for side in args.sides:
            command = [sys.executable, "-m", "experiments.benchmarks.search"]
            command += ["--measure", side, folder, "--top", str(args.top)]
            command += ["--repeats", str(args.repeats)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            print(f"{side}: {done.stdout.strip()}", flush=True)


if __name__ == "__main__":
    main()
