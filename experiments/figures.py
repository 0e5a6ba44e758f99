"""The figures of the papers, each drawn from finished runs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

from experiments import build, job, sources
from experiments.again import evaluation_of
from reid_jax import evaluation, models, visual
from reid_jax.embedder import Embedder
from reid_jax.keys import SHOWN_PEOPLE, random_bits
from reid_jax.protocols import DISTRACTOR_SHARES, Protocol
from reid_jax.training.logs import read_metrics

__all__ = ["FIGURES", "mapped_identities"]

NUM_MAPPED = 3
NUM_MAPPED_IDENTITIES = 354
NUM_LISTED = 2
FEWEST_PLACES = 7
THUMBNAIL = (64, 32)
NUM_COMPARED = 2
COMPARED_PARTS = ("upper", "middle")


def _opened(run: job.Job, protocol: str) -> tuple[Embedder, Protocol, dict[str, Any]]:
    """The network of a run, and a protocol (by default the run's own) with its images."""
    chosen = build.protocol(run.config, protocol)
    subsets = sources.subsets(run.data_dir, run.config, chosen, split=run.split)
    return Embedder.from_run(run.workdir), chosen, subsets


def training_distances(runs: Mapping[str, job.Job], protocol: str) -> Figure:
    """batch_contrastive, Fig. 1: distances within and between identities, over training."""
    del protocol
    names = ("step", "intra_distance", "inter_distance_mean", "inter_distance_min")
    curves = {}
    for heading, run in runs.items():
        records = [r for r in read_metrics(run.workdir) if r.get("intra_distance") is not None]
        curves[heading] = tuple([record[key] for record in records] for key in names)
    return visual.distance_scatter(curves, distance="Euclidean distance of unit vectors")


def embedding_map(runs: Mapping[str, job.Job], protocol: str) -> Figure:
    """identif_verif, Fig. 4: Barnes-Hut t-SNE of 354 of the gallery's identities, with thumbnails.

    The paper does not say which it took: those here are random, of the run's seed.
    """
    (run,) = runs.values()
    embedder, _, subsets = _opened(run, protocol)
    gallery = subsets["gallery"]
    chosen = mapped_identities(gallery.identities, seed=run.seed)
    gallery = gallery.take(np.flatnonzero(np.isin(gallery.identities, chosen)), "gallery")
    coordinates = visual.tsne(embedder(gallery), seed=run.seed)
    images = np.stack([gallery.image(row, THUMBNAIL) for row in range(len(gallery))])
    return visual.embedding_map(coordinates, images, gallery.identities)


def mapped_identities(identities: np.ndarray, *, seed: int) -> np.ndarray:
    """As many of the people in a gallery as Fig. 4 of identif_verif shows, or all of fewer."""
    people = np.unique(identities[identities > 0])
    order = np.argsort(random_bits(seed, stream=SHOWN_PEOPLE, index=0, count=len(people)))
    return np.sort(people[order[:NUM_MAPPED_IDENTITIES]])


def activation_maps(runs: Mapping[str, job.Job], protocol: str) -> Figure:
    """identif_verif, Fig. 5: where the networks of several losses look (sum of res4's channels)."""
    maps, images = {}, None
    for heading, run in runs.items():
        embedder, _, subsets = _opened(run, protocol)
        query = subsets["query"]
        # One query of each of three identities, spread over the list.
        first = np.unique(query.identities, return_index=True)[1]
        rows = first[np.linspace(0, len(first) - 1, NUM_MAPPED).astype(int)]
        size = embedder.preprocess.input_size
        images = np.stack([query.image(row, size) for row in rows])
        taps = jax.jit(
            lambda v, x, e=embedder: e.model.apply(v, e.preprocess.test(x), train=False)
        )(embedder.variables, images)
        last = np.asarray(taps["res4"], np.float32)
        # The rule was made for the paper's 14 x 14; two columns are most of a small map.
        drop = min(last.shape[1:3]) >= FEWEST_PLACES
        maps[heading] = visual.channel_sum(last, drop_border_channels=drop)
    return visual.activation_maps(images, maps)


def camera_pairs(runs: Mapping[str, job.Job], protocol: str) -> Figure:
    """identif_verif, Fig. 6: mAP and rank-1 between each two cameras."""
    (run,) = runs.values()
    embedder, _, subsets = _opened(run, protocol)
    query, gallery = subsets["query"], subsets["gallery"]
    matrix = evaluation.camera_pair_matrix(embedder(query), embedder(gallery), query, gallery)
    panels = {"mAP": matrix.map_trapezoid, "rank-1": matrix.rank1}
    return visual.camera_pair_heat_map(panels, cameras=matrix.cameras)


def ranked_lists(
    runs: Mapping[str, job.Job], protocol: str, *, headings: Mapping[str, str]
) -> Figure:
    """Ranked galleries of some queries: identif_verif, Figs. 7 and 9; inherent, Fig. 3.

    Args:
        runs: one run.
        protocol: '' for its own.
        headings: the kinds of queries that are shown, with the heading of each.
    """
    (run,) = runs.values()
    embedder, chosen, subsets = _opened(run, protocol)
    arrays = chosen.evaluate(embedder, subsets).arrays()
    shown = job.pictures(chosen, subsets, arrays)
    captions = shown.query_captions or (), shown.gallery_captions or ()
    groups: dict[str, list[visual.RankedList]] = {heading: [] for heading in headings.values()}
    for place, kind in enumerate(arrays["ranked_kind"]):
        group = groups.get(headings.get(str(kind), ""))
        if group is not None and len(group) < NUM_LISTED:
            group.append(
                visual.RankedList(
                    query=shown.query_images[place],
                    gallery=list(shown.gallery_images[place]),
                    matches=[
                        match if row >= 0 else -1
                        for match, row in zip(
                            arrays["ranked_match"][place],
                            arrays["ranked_gallery"][place],
                            strict=True,
                        )
                    ],
                    query_caption=captions[0][place],
                    gallery_captions=captions[1][place],
                )
            )
    return visual.ranked_list_groups({heading: lists for heading, lists in groups.items() if lists})


def distractor_curve(runs: Mapping[str, job.Job], protocol: str) -> Figure:
    """identif_verif, Fig. 8: rank-1 and mAP as distractors make the gallery larger."""
    del protocol
    curves = {}
    for heading, run in runs.items():
        results, _ = evaluation_of(
            run.workdir, protocol="distractors", data_dir=str(run.data_dir), reuse=True
        )
        metrics = results.metrics
        _, _, own = _opened(run, "single-query")
        num_own = len(own["gallery"])
        parts = DISTRACTOR_SHARES
        sizes = [num_own + round(p * (results.num_gallery - num_own)) for p in parts.values()]
        without, _ = evaluation_of(
            run.workdir, protocol="single-query", data_dir=str(run.data_dir), reuse=True
        )
        values = [
            [without.metrics[name], *(metrics[part + name] for part in parts)]
            for name in ("rank1", "map_trapezoid")
        ]
        curves[heading] = (np.array([num_own, *sizes]), *map(np.array, values))
    return visual.distractor_curve(curves)


def similarity_maps(runs: Mapping[str, job.Job], protocol: str) -> Figure:
    """csn, Fig. 4: what each level finds of two parts, in a match and in a confusing image."""
    (run,) = runs.values()
    embedder, chosen, subsets = _opened(run, protocol)
    model = embedder.model
    if model.attention != "stn" or not model.dividing:
        raise ValueError(
            f"the figure shows what spatial transformers attend to in stripes, and {run.workdir} "
            f"has attention={model.attention}, dividing={model.dividing}"
        )
    arrays = chosen.evaluate(embedder, subsets).arrays()
    query, gallery = chosen.shown(subsets)
    pairs = []
    for row, tests, matches, distances in zip(
        *(arrays[f"ranked_{name}"] for name in ("queries", "gallery", "match", "distance")),
        strict=True,
    ):
        # The first match and the first other image, where the list has both.
        places = [np.flatnonzero((matches == kind) & (tests >= 0))[:1] for kind in (1, 0)]
        for place in np.concatenate(places) if all(map(len, places)) else ():
            kind = "same person" if matches[place] else "another person"
            pairs.append((row, tests[place], f"{kind}, score {-distances[place]:.2f}"))
    if not pairs:
        raise ValueError(
            f"no list of {run.workdir} has a match and another image among its first "
            f"{arrays['ranked_gallery'].shape[1]}: there is no pair of pairs to show"
        )
    pairs = pairs[-2 * NUM_COMPARED :]  # The last queries of the lists are random ones.
    rows, tests, headings = zip(*pairs, strict=True)
    size = embedder.preprocess.input_size
    images = [
        np.stack([source.image(row, size) for row in side])
        for source, side in ((query, rows), (gallery, tests))
    ]
    seen = embedder.preprocess.test
    taps = jax.jit(lambda v, a, b: model.apply(v, seen(a), seen(b), train=False))(
        embedder.variables, *images
    )
    levels = {}
    for level in model.part_sizes:
        num_parts = taps[f"part{level}_b"].shape[1]
        # The first half: the query's map with each part of the test image.
        maps = np.split(np.asarray(taps[f"sim{level}"], np.float32), 2 * num_parts, axis=-1)
        levels[f"CSN-{level}"] = visual.SimilarityLevel(
            maps=np.stack([of_part.sum(-1) for of_part in maps[: len(COMPARED_PARTS)]], axis=1),
            theta=np.asarray(taps[f"theta{level}_b"])[:, : len(COMPARED_PARTS)],
            stripes=np.array(models.stripes(maps[0].shape[1]))[: len(COMPARED_PARTS)],
        )
    return visual.similarity_maps(*images, levels, parts=COMPARED_PARTS, headings=headings)


FIGURES: dict[str, Callable[[Mapping[str, job.Job], str], Figure]] = {
    "activation_maps": activation_maps,
    "camera_pairs": camera_pairs,
    "distractor_curve": distractor_curve,
    "embedding_map": embedding_map,
    "easy_to_hard": functools.partial(
        ranked_lists, headings={"best": "easy", "median": "medium", "worst": "hard"}
    ),
    "ranked_lists": functools.partial(
        ranked_lists, headings={k: f"{k} queries" for k in ("best", "worst", "random")}
    ),
    "similarity_maps": similarity_maps,
    "training_distances": training_distances,
}
"""`FIGURES[draw](runs by heading, protocol) -> figure`"""
