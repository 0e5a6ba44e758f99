"""A finished run with made-up numbers."""

import numpy as np

CONFIG = {
    "exp": "batch_contrastive_market",
    "train": {"batch_size": 16, "learning_rate": 0.01, "boundaries": [20000, 40000]},
    "model": {"name": "resnet18", "dropout": 0.9},
}


def results(**changed):
    """All that ``results.json`` must have; keywords replace or add entries."""
    cmc = curve_of_ranks()
    metrics = {f"rank{rank}": float(cmc[rank - 1]) for rank in (1, 5, 10, 20)}
    metrics |= {"map_step": 0.4321, "map_trapezoid": 0.4112, "minp": 0.1234}
    return {
        "schema": 2,
        "exp": "batch_contrastive_market",
        "method": "batch_contrastive",
        "objective": "batch_contrastive",
        "dataset": "market1501",
        "trained_on": "market1501",
        "data_source": "stand-in",
        "partition": None,
        "split": None,
        "protocol": "single-query",
        "shortlist": 0,
        "fingerprint": "00ff00ff00ff00ff",
        "scale": "small",
        "seed": 0,
        "steps": 80,
        "num_devices": 1,
        "weights": None,
        "num_query": 120,
        "num_gallery": 300,
        "num_valid_queries": 118,
        "metrics": metrics,
        "paper": {"rank1": 0.8640, "rank5": 0.9445, "rank10": 0.9648, "map_trapezoid": 0.6764},
        "command": "python experiments/run.py --exp=batch_contrastive_market",
        "commit": "0123abc",
        "versions": {"python": "3.11.2", "jax": "0.10.2", "flax": "0.12.8"},
        "machine": {"cpu": "Xeon", "cores": 2, "device": "TFRT_CPU"},
    } | changed


def curve_of_ranks():
    return 1 - 0.45 * np.exp(-np.arange(300) / 8)


def curves(*, num_steps=80, seed=0):
    """Logged values of training and of validation by name, NaN for null."""
    rng = np.random.Generator(np.random.Philox(seed))
    steps = np.arange(num_steps, dtype=np.float64)
    decay = np.exp(-steps / (num_steps / 4))
    noise = rng.random((8, num_steps))
    positive = noise[0] < 0.5
    terms = {
        "identification_loss": 4 * decay + 0.2 * noise[1],
        "batch_contrastive_loss": 6 * decay + 0.2 * noise[2],
        "center_loss": decay + 0.2 * noise[3],
    }
    training = {
        "step": steps,
        "loss": sum(terms.values()),
        **terms,
        "learning_rate": np.where(steps < num_steps / 2, 0.01, 0.001),
        "accuracy": 1 - decay,
        "intra_distance": np.where(positive, 0.3 + 0.3 * decay + 0.1 * noise[4], np.nan),
        "inter_distance_mean": 1 - 0.3 * decay + 0.02 * noise[5],
        "inter_distance_min": np.where(positive, 0.6 - 0.4 * decay + 0.08 * noise[6], np.nan),
        "images_per_second": np.where(steps % 10 == 9, 50 + 10 * noise[7], np.nan),
    }
    validated = slice(9, None, 10)
    validation = {
        "step": steps[validated],
        "val_map_step": 0.4 * (1 - decay[validated]),
        "val_rank1": np.full_like(steps[validated], 0.5),
    }
    return training, validation


def ranking(*, num_lists=3, seed=0):
    """The arrays of ``ranking.npz``; the last list is short."""
    rng = np.random.Generator(np.random.Philox(seed))
    edges = np.linspace(0, 2, 41)
    num_rows = 3 * num_lists
    gallery = rng.integers(0, 300, (num_rows, 10))
    gallery[-1, 7:] = -1
    return {
        "cmc": curve_of_ranks(),
        "pair_distance_edges": edges,
        "same_pair_counts": np.histogram(rng.normal(0.5, 0.2, 900), edges)[0],
        "different_pair_counts": np.histogram(rng.normal(1.2, 0.25, 20000), edges)[0],
        "distance": np.array("squared Euclidean distance"),
        "ranked_queries": np.arange(num_rows),
        "ranked_kind": np.repeat(["best", "worst", "random"], num_lists),
        "ranked_gallery": gallery,
        "ranked_match": rng.integers(0, 2, (num_rows, 10)).astype(np.int8),
        "ranked_distance": np.sort(rng.random((num_rows, 10)), axis=1),
        **judged(num_rows),
        "average_precision_step": np.linspace(0.02, 1.0, 120),
        "camera_pair_rank1": np.array([[0.9, 0.31], [0.62, 0.8]]),
        "camera_pair_names": np.array(["entrance", "yard"]),
    }


def judged(num_rows):
    """How good each list is; the fourth one, the first of the worst, has no match among its ten."""
    first = np.full(num_rows, -1)
    first[3] = 213
    return {
        "ranked_average_precision": np.linspace(0.99, 0.01, num_rows),
        "ranked_num_matches": np.full(num_rows, 12),
        "ranked_first_rank": np.where(first < 0, 0, first),
        "ranked_first_gallery": np.where(first < 0, -1, 77),
        "ranked_first_distance": np.where(first < 0, np.nan, 1.5),
    }


def operating():
    """The operating points of a result, the last one without a value."""
    rates = np.geomspace(1e-3, 1, 20)
    points = [
        {
            "false_accept_rate": rate,
            "threshold": threshold,
            "threshold_interval": [threshold - 0.02, threshold + 0.02],
            "true_accept_rate": accepted,
            "true_accept_interval": [accepted - 0.05, accepted + 0.05],
        }
        for rate, threshold, accepted in ((0.1, 0.9, 0.83), (0.01, 0.7, 0.5432), (0.001, 0.5, 0.2))
    ]
    none = dict.fromkeys(points[0])
    return {
        "measured_on": "validation",
        "dataset": "market1501",
        "data_source": "stand-in",
        "distance": "squared Euclidean distance",
        "num_people": 40,
        "num_images": 320,
        "num_same_pairs": 900,
        "num_different_pairs": 50000,
        "equal_error": {
            "rate": 0.1234,
            "rate_interval": [0.1, 0.15],
            "threshold": 0.8125,
            "threshold_interval": [0.8, 0.83],
        },
        "points": [*points, none | {"false_accept_rate": 0.0001}],
        "roc": {
            "threshold": np.linspace(0.3, 1.9, 20).tolist(),
            "false_accept_rate": rates.tolist(),
            "true_accept_rate": (rates**0.25).tolist(),
        },
        "calibration": {
            "method": "logistic",
            "slope": 7.1,
            "midpoint": 0.82,
            "prior": 0.5,
            "expected_calibration_error": 0.0213,
            "num_folds": 5,
            "reliability": [
                {"predicted": 0.05, "observed": 0.04, "share": 0.6, "count": 600},
                {"predicted": 0.95, "observed": 0.9, "share": 0.4, "count": 400},
            ],
        },
    }
