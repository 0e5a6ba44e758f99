"""Evaluation of a network by name of protocol: what is compared, scored and shown."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from experiments import inputs, networks
from reid_jax import data, evaluation, parallel
from reid_jax.distances import squared_euclidean

__all__ = [
    "PROTOCOLS",
    "Network",
    "Outcome",
    "check",
    "data_source",
    "embed",
    "evaluate",
    "needed_datasets",
    "open_sources",
    "shown_lists",
    "validation_sources",
]

PROTOCOLS = {
    "single-query": ("query", "gallery"),
    "single-query-swapped": ("query", "gallery"),
    "multi-query-average": ("query", "gallery", "multi_query"),
    "multi-query-maximum": ("query", "gallery", "multi_query"),
    "single-shot-one-direction": ("test",),
    "single-shot-per-query": ("test",),
    "multi-shot": ("test",),
    "distractors": ("query", "gallery", "distractors"),
    "oxford5k": ("images",),
}
"""The images that each protocol needs."""

SWAPPED = "single-query-swapped"
"""Each gallery image asks, and the queries answer."""

ONE_DIRECTION = "single-shot-one-direction"
DISTRACTORS = "distractors_500k"
PARTS_OF_DISTRACTORS = {"fifth/": 0.2, "two_fifths/": 0.4, "": 1.0}
"""Shares of the distractors that are added to the gallery: 100k, 200k and all of the 500k."""

DISTRACTOR_BLOCK = 16_384
"""Distractors whose features are there at once: 134 MB of 2048-d ones."""

DRAW_SEED = 0
"""Of random galleries: the same images for every run, so that runs can be compared in pairs."""

BOX_MULTIPLE = 32
"""Sides of the queries of Oxford5k are rounded to it: a network is compiled for each size."""

SMALLEST_BOX = 39
"""What CaffeNet needs at least; smaller queries are enlarged."""

LISTS_PER_KIND = 3


@dataclasses.dataclass(frozen=True)
class Network:
    """A trained network: its config, its variables and the mean that its input is without."""

    config: ConfigDict
    variables: Any
    mean: np.ndarray


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a protocol gives.

    Attributes:
        facts: its part of ``results.json``.
        arrays: of ``ranking.npz``, for the report.
    """

    facts: dict[str, Any]
    arrays: dict[str, np.ndarray]


# Data ------------------------------------------------------------------------------------------


def needed_datasets(config: ConfigDict, protocol: str) -> list[str]:
    """The data sets that a run and a protocol need."""
    names = [*inputs.training_datasets(config), config.dataset]
    names.append(config.evaluation.dataset or config.dataset)
    names += [DISTRACTORS] * ("distractors" in PROTOCOLS.get(protocol, ()))
    return list(dict.fromkeys(names))


def data_source(data_dir: epath.PathLike, config: ConfigDict, protocol: str) -> str:
    """'official' if all data of a result is, else 'stand-in' if any of it is one, else 'custom'."""
    names = needed_datasets(config, protocol)
    sources = {data.dataset_card(data_dir, name)["data_source"] for name in names}
    return next(kind for kind in ("stand-in", "custom", "official") if kind in sources)


def check(config: ConfigDict, protocol: str) -> None:
    """Refuses a protocol that the network of a config cannot be evaluated by.

    Raises:
        ValueError: for an unknown protocol or one that does not fit, with what does.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"unknown protocol {protocol!r}; known: {', '.join(PROTOCOLS)}")
    if not networks.compares_pairs(config):
        if config.model.get("test_statistics") == "batch" and PROTOCOLS[protocol] != ("test",):
            known = [name for name, roles in PROTOCOLS.items() if roles == ("test",)]
            raise ValueError(
                "model.test_statistics=batch needs all images of a side in one batch, and "
                f"{protocol} embeds them in several: take {', '.join(known)}"
            )
        return
    of_pairs = (("test",), ("query", "gallery"))
    known = [name for name, roles in PROTOCOLS.items() if roles in of_pairs]
    if protocol not in known:
        raise ValueError(
            f"{protocol} needs an embedding of each image, and {config.model.name} scores pairs of "
            f"images: take {', '.join(known)}"
        )
    shortlist, num_repeats = config.evaluation.shortlist, config.evaluation.num_repeats
    if shortlist and not config.model.ranking:
        raise ValueError(
            f"a shortlist of {shortlist} is chosen by descriptors, which the network does not have "
            "without model.ranking: score all pairs with evaluation.shortlist=0"
        )
    own_galleries = protocol == "single-shot-per-query"
    if shortlist and (own_galleries or (protocol == ONE_DIRECTION and num_repeats > 1)):
        raise ValueError(
            f"a shortlist of {shortlist} is taken from one gallery, and {protocol} with "
            f"{num_repeats} repeats draws several: score all pairs with evaluation.shortlist=0, or "
            f"take {ONE_DIRECTION} with evaluation.num_repeats=1"
        )


def open_sources(
    data_dir: epath.PathLike, config: ConfigDict, protocol: str, *, split: int
) -> dict[str, Any]:
    """The images that a protocol needs, and the ``queries`` of Oxford5k.

    Raises:
        ValueError: for an unknown protocol, or a data set without what it needs.
    """
    check(config, protocol)
    dataset = config.evaluation.dataset
    roles = PROTOCOLS[protocol]
    own = [role for role in roles if role != "distractors"]
    if dataset and dataset != config.dataset:
        sources = {role: data.open_split(data_dir, dataset, role) for role in own}
    else:
        sources = inputs.open_images(data_dir, config, own, split=split)
    if protocol == "oxford5k":
        sources["queries"] = data.landmark_queries(data_dir, sources["images"])
    if protocol == SWAPPED:
        sources = {"query": sources["gallery"], "gallery": sources["query"]}
    if "distractors" in roles:
        sources["distractors"] = data.open_split(data_dir, DISTRACTORS, "gallery")
    return sources


def validation_sources(
    data_dir: epath.PathLike, config: ConfigDict, *, split: int
) -> tuple[dict[str, data.Source], str] | None:
    """Images of validation identities with the protocol for them, or None if there are none."""
    if config.data.partition:
        known = data.open_partition(data_dir, config.dataset, config.data.partition, split)
    else:
        known = data.dataset_card(data_dir, config.dataset)["counts"]
    if not known.keys() & {"val", "val_query"}:
        return None
    protocol = config.evaluation.protocol
    if PROTOCOLS[protocol] != ("test",):
        protocol = "single-query"
    roles = [("val" if role == "test" else f"val_{role}") for role in PROTOCOLS[protocol]]
    found = inputs.open_images(data_dir, config, roles, split=split)
    return dict(zip(PROTOCOLS[protocol], found.values(), strict=True)), protocol


# Scoring ---------------------------------------------------------------------------------------


def embed(network: Network, source: data.Source) -> np.ndarray:
    """[N, D] embeddings of a source's images, of unit length if ``evaluation.normalise``."""
    config = network.config
    function, variables, size = networks.embedder(config, network.variables, network.mean)

    def batches(rows: slice) -> Any:
        return data.image_batches(source, size, batch_size=config.evaluation.batch_size, rows=rows)

    return evaluation.extract_features(
        function,
        variables,
        batches,
        num_images=len(source),
        batch_size=config.evaluation.batch_size,
        description=f"embedding {source.split}",
    )


def embedding_distance(config: ConfigDict) -> str:
    """What embeddings are compared by."""
    return "squared Euclidean distance" + " of unit vectors" * config.evaluation.normalise


def distances_among(network: Network, images: data.Source) -> tuple[evaluation.DistanceOf, str]:
    """Distances between images of a list, and what they are."""
    config = network.config
    if not networks.compares_pairs(config):
        name = embedding_distance(config)
        if config.model.get("test_statistics") == "batch":
            return _distances_of_sides(network, images), name
        return evaluation.feature_distances(embed(network, images)), name
    embed_parts, score = networks.pair_functions(config, network.mean)
    size = inputs.input_size(config)

    def batches(rows: slice) -> Any:
        return data.image_batches(images, size, batch_size=config.evaluation.batch_size, rows=rows)

    cache = evaluation.cache_images(
        embed_parts,
        network.variables,
        batches,
        image=jax.ShapeDtypeStruct((1, *size, 3), np.uint8),
        num_images=len(images),
        batch_size=config.evaluation.batch_size,
        description=f"embedding {images.split}",
    )
    scorer = evaluation.PairScorer(
        score,
        network.variables,
        cache,
        block_size=config.evaluation.pairs_per_block,
        shortlist=config.evaluation.shortlist or None,
    )
    name = "minus the similarity score"
    if shortlist := config.evaluation.shortlist:
        name += f" (behind a shortlist of {shortlist}, above it: by descriptor)"
    return scorer.distance_of, name


def _distances_of_sides(network: Network, images: data.Source) -> evaluation.DistanceOf:
    """Distances of embeddings for which all queries are one batch, and all gallery images."""
    function, variables, size = networks.embedder(network.config, network.variables, network.mean)
    embed_batch = jax.jit(function)

    def distance_of(query_rows: np.ndarray, gallery_rows: np.ndarray) -> np.ndarray:
        sides = (
            embed_batch(variables, np.stack([images.image(row, size) for row in rows]))
            for rows in (query_rows, gallery_rows)
        )
        return np.asarray(squared_euclidean(*sides))

    return distance_of


def evaluate(network: Network, sources: Mapping[str, Any], protocol: str) -> Outcome:
    """Embeds the images of a protocol and scores them.

    Args:
        network: from a run.
        sources: from :func:`open_sources`.
        protocol: a key of ``PROTOCOLS``.
    """
    if protocol == "oxford5k":
        return _landmarks(network, sources["images"], sources["queries"])
    if PROTOCOLS[protocol] == ("test",):
        return _one_pool(network, sources["test"], protocol)
    if networks.compares_pairs(network.config):
        return _pairs(network, sources, protocol)
    query, gallery = sources["query"], sources["gallery"]
    features = embed(network, query), embed(network, gallery)
    metrics = {}
    if protocol == "distractors":
        steps = _with_distractors(network, features, query, gallery, sources["distractors"])
        evaluated = steps[""]
        for part, evaluation_of_part in steps.items():
            found = evaluation.metrics(evaluation_of_part.result)
            metrics |= {part + name: value for name, value in found.items()}
    elif "multi_query" in sources:
        evaluated = evaluation.multi_query(
            features[0],
            embed(network, sources["multi_query"]),
            features[1],
            query,
            sources["multi_query"],
            gallery,
            pooling=protocol.removeprefix("multi-query-"),
        )
    else:
        evaluated = evaluation.single_query(*features, query, gallery)
    compared = (
        *features,
        query.identities,
        query.cameras,
        gallery.identities,
        gallery.cameras,
    )
    histogram = evaluation.pair_distance_histogram(*compared)
    rows, kinds = _listed_queries(evaluated.result.average_precision_step)
    lists = evaluation.top_k(
        features[0][rows],
        features[1],
        query.identities[rows],
        None if query.cameras is None else query.cameras[rows],
        *compared[4:],
        k=10,
    )
    num_gallery = len(gallery) + len(sources.get("distractors", ()))
    facts = _facts(evaluated, len(query), num_gallery, metrics)
    if protocol == "distractors":
        facts["protocol"] = protocol
    elif protocol == SWAPPED:
        facts["protocol"] = facts["protocol"].replace("single-query", SWAPPED)
    distance = embedding_distance(network.config)
    return Outcome(facts, _arrays(distance, evaluated.result, histogram, lists, rows, kinds))


def _with_distractors(
    network: Network,
    features: tuple[np.ndarray, np.ndarray],
    query: data.Source,
    gallery: data.Source,
    distractors: data.Source,
) -> dict[str, evaluation.NamedRanking]:
    """One evaluation for each of ``PARTS_OF_DISTRACTORS``; their features are never all there."""
    numbers = {
        part: round(share * len(distractors)) for part, share in PARTS_OF_DISTRACTORS.items()
    }
    block = DISTRACTOR_BLOCK

    def blocks() -> Any:
        for first in range(0, len(distractors), block):
            rows = np.arange(first, min(first + block, len(distractors)))
            yield embed(network, distractors.take(rows, f"{first + len(rows):,} distractors"))

    steps = evaluation.single_query_with_distractors(
        *features, blocks(), query, gallery, distractors, at=list(numbers.values())
    )
    return {part: steps[number] for part, number in numbers.items()}


def _one_pool(network: Network, pool: data.Source, protocol: str) -> Outcome:
    """Protocols whose queries and galleries are drawn from one list of images of two cameras."""
    distance_of, distance = distances_among(network, pool)
    draws = {"num_repeats": network.config.evaluation.num_repeats, "seed": DRAW_SEED}
    if protocol == "multi-shot":
        evaluated = evaluation.multi_shot(distance_of, pool)
    elif protocol == "single-shot-per-query":
        evaluated = evaluation.single_shot_per_query(distance_of, pool, **draws)
    else:
        evaluated = evaluation.single_shot_one_direction(distance_of, pool, **draws)
    outcome = _outcome(network, evaluated, distance)
    drawn = {"num_repeats": evaluated.num_repeats, "num_left_out": evaluated.num_left_out}
    return Outcome(outcome.facts | drawn, outcome.arrays)


def _pairs(network: Network, sources: Mapping[str, Any], protocol: str) -> Outcome:
    """The protocol of query and gallery by a network that compares pairs."""
    query, gallery = sources["query"], sources["gallery"]
    distance_of, distance = distances_among(network, data.join([query, gallery], "both lists"))
    rows = np.arange(len(query) + len(gallery))
    distances = distance_of(rows[: len(query)], rows[len(query) :])
    evaluated = evaluation.single_query_of_distances(distances, query, gallery)
    evaluated = dataclasses.replace(
        evaluated, protocol=evaluated.protocol.replace("single-query", protocol)
    )
    return _outcome(network, evaluated, distance)


def _outcome(network: Network, evaluated: evaluation.NamedRanking, distance: str) -> Outcome:
    """What there is to an evaluation that says what it compared."""
    comparison = evaluated.comparison
    num_query, num_gallery = comparison.gallery_rows.shape
    precision = evaluated.result.average_precision_step[:num_query]
    places, kinds = _listed_queries(precision)
    chosen = _of_queries(comparison, places)
    facts = _facts(evaluated, num_query, num_gallery)
    if num_gallery > (shortlist := network.config.evaluation.get("shortlist", 0)) > 0:
        facts["protocol"] += f", shortlist-{shortlist}"
    arrays = _arrays(
        distance,
        evaluated.result,
        evaluation.comparison_histogram(comparison),
        evaluation.comparison_lists(chosen, k=10),
        chosen.query_rows,
        kinds,
    )
    return Outcome(facts, arrays)


def _landmarks(
    network: Network, images: data.Source, queries: Sequence[data.LandmarkQuery]
) -> Outcome:
    """Oxford5k: boxes of images against images, all at their own size."""
    function, variables, _ = networks.embedder(network.config, network.variables, network.mean)

    def features(read: Any, sizes: np.ndarray, description: str) -> np.ndarray:
        return evaluation.extract_features_by_size(
            function,
            variables,
            lambda groups: data.batches_by_size(groups, read=read, sizes=sizes),
            sizes=sizes,
            batch_size=network.config.evaluation.batch_size,
            description=description,
        )

    main = parallel.is_main_process()
    sizes = np.array([query.size for query in queries])
    boxes = data.rounded_sizes(sizes, BOX_MULTIPLE, smallest=SMALLEST_BOX)
    of_queries = features(
        lambda row, size: data.query_image(images, queries[row], size), boxes, "embedding queries"
    )
    sizes = data.image_sizes(images, progress=main)
    of_images = features(images.image, sizes, f"embedding {images.split}")
    evaluated = dataclasses.replace(
        evaluation.oxford5k(of_queries, of_images, queries, images.files),
        comparison=_landmark_comparison(of_queries, of_images, queries),
    )
    return _outcome(network, evaluated, embedding_distance(network.config))


def _landmark_comparison(
    of_queries: np.ndarray, of_images: np.ndarray, queries: Sequence[data.LandmarkQuery]
) -> evaluation.Comparison:
    """Each query with all images but its junk."""
    distances = np.array(squared_euclidean(of_queries, of_images))
    match = np.zeros(distances.shape, bool)
    gallery_rows = np.tile(np.arange(len(of_images)), (len(queries), 1))
    for place, query in enumerate(queries):
        match[place, np.concatenate([query.good, query.ok])] = True
        gallery_rows[place, query.junk] = -1
    distances[gallery_rows < 0] = np.inf
    return evaluation.Comparison(np.arange(len(queries)), gallery_rows, distances, match)


def _of_queries(comparison: evaluation.Comparison, places: np.ndarray) -> evaluation.Comparison:
    """The part of a comparison that belongs to some of its queries."""
    fields = [field.name for field in dataclasses.fields(comparison)]
    return evaluation.Comparison(**{name: getattr(comparison, name)[places] for name in fields})


def _facts(
    evaluated: evaluation.NamedRanking,
    num_query: int,
    num_gallery: int,
    metrics: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    return {
        "protocol": evaluated.protocol,
        "fingerprint": evaluated.fingerprint,
        "num_query": num_query,
        "num_gallery": num_gallery,
        "num_valid_queries": evaluated.result.num_valid_queries,
        "metrics": dict(metrics or evaluation.metrics(evaluated.result)),
    }


# For the report --------------------------------------------------------------------------------


def _listed_queries(precision: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Queries to show: the best, middling, worst and random ones, each once; and what each is."""
    num_valid = int(np.isfinite(precision).sum())
    order = np.argsort(precision, kind="stable")[:num_valid]  # NaN is last.
    from_the_middle = np.argsort(np.abs(np.arange(num_valid) - num_valid // 2), kind="stable")
    candidates_of = {
        "best": order[::-1],
        "median": order[from_the_middle],
        "worst": order,
        "random": np.random.default_rng(0).permutation(order),
    }
    rows, kinds = [], []
    for kind, candidates in candidates_of.items():
        fresh = [row for row in candidates if row not in rows][:LISTS_PER_KIND]
        rows += fresh
        kinds += [kind] * len(fresh)
    return np.array(rows, np.int64), kinds


def _arrays(
    distance: str,
    result: evaluation.RankingResult,
    histogram: evaluation.PairDistanceHistogram,
    lists: evaluation.RankedLists,
    query_rows: np.ndarray,
    kinds: list[str],
) -> dict[str, np.ndarray]:
    """What ``ranking.npz`` holds."""
    names = ("average_precision_step", "average_precision_trapezoid", "first_match_rank", "cmc")
    return {
        **{name: getattr(result, name) for name in names},
        "pair_distance_edges": histogram.edges,
        "same_pair_counts": histogram.same_pair_counts,
        "different_pair_counts": histogram.different_pair_counts,
        "distance": np.array(distance),
        "ranked_queries": query_rows,
        "ranked_kind": np.array(kinds),
        "ranked_gallery": lists.gallery_rows,
        "ranked_match": lists.match,
        "ranked_distance": lists.distances,
    }


def shown_lists(sources: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Pictures and captions of the ranked lists, as :func:`reid_jax.report.write_page` has them."""
    query_rows, gallery_rows = arrays["ranked_queries"], arrays["ranked_gallery"]
    size = (128, 64)
    if "queries" in sources:
        size = (96, 96)
        gallery, queries = sources["images"], sources["queries"]
        query_images = [data.query_image(gallery, queries[row], size) for row in query_rows]
        query_captions = [queries[row].name for row in query_rows]
    else:
        query = sources.get("query", sources.get("test"))
        gallery = sources.get("gallery", query)
        query_images = [query.image(row, size) for row in query_rows]
        query_captions = [_caption(query, row) for row in query_rows]

    def thumbnail(row: int) -> np.ndarray:
        return gallery.image(row, size) if row >= 0 else np.zeros((*size, 3), np.uint8)

    return {
        "query_images": np.stack(query_images),
        "gallery_images": np.stack([[thumbnail(row) for row in rows] for rows in gallery_rows]),
        "query_captions": query_captions,
        "gallery_captions": [[_caption(gallery, row) for row in rows] for rows in gallery_rows],
    }


def _caption(source: data.Source, row: int) -> str:
    if row < 0 or source.identities[row] == 0:
        return ""
    camera = "" if source.cameras is None else f", c{source.cameras[row]}"
    return f"id {source.identities[row]}{camera}"
