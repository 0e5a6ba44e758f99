import json

import numpy as np
import pytest


def write_run(workdir, *, num_steps=80, num_lists=3, seed=0, **results):
    """A run's files, with made-up numbers; keywords replace entries of `results.json`."""
    rng = np.random.Generator(np.random.Philox(seed))
    workdir.mkdir(parents=True, exist_ok=True)
    decay = np.exp(-np.arange(num_steps) / (num_steps / 4))
    lines = []
    for step in range(num_steps):
        positive = rng.random() < 0.5
        identification, pairs, centers = (
            scale * decay[step] + 0.2 * rng.random() for scale in (4, 6, 1)
        )
        lines.append(
            {
                "step": step,
                "loss": identification + pairs + centers,
                "identification_loss": identification,
                "batch_contrastive_loss": pairs,
                "center_loss": centers,
                "learning_rate": 0.01 if step < num_steps / 2 else 0.001,
                "accuracy": 1 - decay[step],
                "intra_distance": 0.3 + 0.3 * decay[step] + 0.1 * rng.random()
                if positive
                else None,
                "inter_distance_mean": 1 - 0.3 * decay[step] + 0.02 * rng.random(),
                "inter_distance_min": 0.6 - 0.4 * decay[step] + 0.08 * rng.random()
                if positive
                else None,
            }
        )
        if step % 10 == 9:
            lines[-1]["images_per_second"] = 50 + 10 * rng.random()
            lines.append({"step": step, "val_map_step": 0.4 * (1 - decay[step]), "val_rank1": 0.5})
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    config = {
        "exp": "batch_contrastive_market",
        "train": {"batch_size": 16, "learning_rate": 0.01, "boundaries": [20000, 40000]},
        "model": {"name": "resnet18", "dropout": 0.9},
        "versions": {"python": "3.11.2", "jax": "0.10.2", "flax": "0.12.8"},
        "git_commit": "0123abc",
        "devices": "TFRT_CPU",
    }
    (workdir / "config.json").write_text(json.dumps(config))

    cmc = 1 - 0.45 * np.exp(-np.arange(300) / 8)
    metrics = {f"rank{rank}": float(cmc[rank - 1]) for rank in (1, 5, 10, 20)}
    metrics |= {"map_step": 0.4321, "map_trapezoid": 0.4112, "minp": 0.1234}
    content = {
        "exp": "batch_contrastive_market",
        "method": "batch_contrastive",
        "dataset": "market1501",
        "data_source": "stand-in",
        "protocol": "market",
        "fingerprint": "00ff00ff00ff00ff",
        "scale": "small",
        "seed": seed,
        "steps": num_steps,
        "num_devices": 1,
        "weights": None,
        "num_query": 120,
        "num_gallery": 300,
        "num_valid_queries": 118,
        "metrics": metrics,
        "paper": {"rank1": 0.8640, "rank5": 0.9445, "rank10": 0.9648, "map_trapezoid": 0.6764},
    }
    (workdir / "results.json").write_text(json.dumps(content | results))

    edges = np.linspace(0, 2, 41)
    num_rows = 3 * num_lists
    gallery = rng.integers(0, 300, (num_rows, 10))
    gallery[-1, 7:] = -1
    np.savez(
        workdir / "ranking.npz",
        cmc=cmc,
        pair_distance_edges=edges,
        same_pair_counts=np.histogram(rng.normal(0.5, 0.2, 900), edges)[0],
        different_pair_counts=np.histogram(rng.normal(1.2, 0.25, 20000), edges)[0],
        distance="squared_euclidean",
        ranked_queries=np.arange(num_rows),
        ranked_kind=np.repeat(["best", "worst", "random"], num_lists),
        ranked_gallery=gallery,
        ranked_match=rng.integers(0, 2, (num_rows, 10)).astype(np.int8),
        ranked_distance=np.sort(rng.random((num_rows, 10)), axis=1),
    )
    return workdir


@pytest.fixture
def make_run():
    return write_run


@pytest.fixture
def thumbnails():
    """Noise of the shapes that `write_page` takes, for lists as `make_run` writes them."""

    def images(num_lists=3, height=16, width=8):
        rng = np.random.Generator(np.random.Philox(1))
        shape = (3 * num_lists, 11, height, width, 3)
        pixels = rng.integers(0, 256, shape, np.uint8)
        return {"query_images": pixels[:, 0], "gallery_images": pixels[:, 1:]}

    return images
