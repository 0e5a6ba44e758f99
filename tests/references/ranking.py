"""Ranking, re-ranking and verification formulas again, in plain float64 NumPy loops."""

import numpy as np


def distance(a, b, name):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    out = np.zeros((len(a), len(b)))
    for i in range(len(a)):
        for j in range(len(b)):
            if name == "cosine":
                out[i, j] = 1 - a[i] @ b[j] / np.sqrt((a[i] @ a[i]) * (b[j] @ b[j]))
            else:
                out[i, j] = sum((x - y) ** 2 for x, y in zip(a[i], b[j], strict=True))
                if name == "euclidean":
                    out[i, j] = np.sqrt(out[i, j])
    return out


def ranked_rows(distances, query_id, query_camera, gallery_ids, gallery_cameras):
    """Gallery rows of one query in order, removed ones left out."""
    kept = []
    for g in range(len(gallery_ids)):
        same_image_view = (
            query_camera is not None
            and gallery_ids[g] == query_id
            and gallery_cameras[g] == query_camera
        )
        if gallery_ids[g] != -1 and not same_image_view:
            kept.append(g)
    return sorted(kept, key=lambda g: (distances[g], g))


def average_precision_step(ranks):
    return sum((i + 1) / (g + 1) for i, g in enumerate(ranks)) / len(ranks)


def average_precision_trapezoid(ranks):
    """The loop of the Oxford and Market-1501 kits: area under (recall, precision) by trapezoids."""
    old_recall, old_precision, area, found = 0.0, 1.0, 0.0, 0
    for position in range(max(ranks) + 1):
        found += position in ranks
        recall, precision = found / len(ranks), found / (position + 1)
        area += (recall - old_recall) * (old_precision + precision) / 2
        old_recall, old_precision = recall, precision
    return area


def rank(distances, query_ids, query_cameras, gallery_ids, gallery_cameras):
    """A dict of the same quantities as RankingResult."""
    ranks_of = []
    for q in range(len(query_ids)):
        camera = None if query_cameras is None else query_cameras[q]
        rows = ranked_rows(distances[q], query_ids[q], camera, gallery_ids, gallery_cameras)
        found = [r for r, g in enumerate(rows) if gallery_ids[g] == query_ids[q]]
        ranks_of.append([] if query_ids[q] == -1 else found)
    return result(ranks_of, len(gallery_ids))


def rank_columns(distances, match):
    """The same where query q ranks the columns of its own row."""
    ranks_of = []
    for values, right in zip(distances, match, strict=True):
        order = sorted(range(len(values)), key=lambda j, values=values: (values[j], j))
        ranks_of.append([r for r, j in enumerate(order) if right[j]])
    return result(ranks_of, len(distances[0]))


def camera_pair_cell(
    distances, query_ids, query_cameras, gallery_ids, gallery_cameras, itself, query_camera, camera
):
    """The same for one cell of a camera-pair matrix; `itself` [Q] are gallery rows or -1."""
    ranks_of = []
    for q in range(len(query_ids)):
        if query_cameras[q] != query_camera or query_ids[q] == -1:
            continue
        kept = []
        for g in range(len(gallery_ids)):
            elsewhere = gallery_ids[g] == query_ids[q] and gallery_cameras[g] != camera
            if gallery_ids[g] != -1 and not elsewhere and g != itself[q]:
                kept.append(g)
        kept.sort(key=lambda g, q=q: (distances[q, g], g))
        ranks_of.append([r for r, g in enumerate(kept) if gallery_ids[g] == query_ids[q]])
    return result(ranks_of, len(gallery_ids))


def result(ranks_of, num_gallery):
    """The quantities of RankingResult from the 0-based ranks of the matches of each query."""
    num_query = len(ranks_of)
    cmc = np.zeros(num_gallery)
    all_shots = np.zeros(num_gallery)
    step, trapezoid, penalty = (np.full(num_query, np.nan) for _ in range(3))
    first = np.full(num_query, -1)
    num_valid = 0
    for q, ranks in enumerate(ranks_of):
        if not ranks:
            continue
        num_valid += 1
        step[q] = average_precision_step(ranks)
        trapezoid[q] = average_precision_trapezoid(ranks)
        penalty[q] = len(ranks) / (ranks[-1] + 1)
        first[q] = ranks[0]
        cmc[ranks[0] :] += 1
        for i, r in enumerate(ranks):
            all_shots[r - i :] += 1 / len(ranks)

    def mean(values):
        return values[first >= 0].sum() / num_valid if num_valid else np.nan

    return {
        "cmc": cmc / num_valid if num_valid else np.full(num_gallery, np.nan),
        "cmc_all_shots": all_shots / num_valid if num_valid else np.full(num_gallery, np.nan),
        "map_step": mean(step),
        "map_trapezoid": mean(trapezoid),
        "minp": mean(penalty),
        "num_valid_queries": num_valid,
        "average_precision_step": step,
        "average_precision_trapezoid": trapezoid,
        "first_match_rank": first,
        "inverse_negative_penalty": penalty,
    }


def k_reciprocal_rerank(query_features, gallery_features, k1, k2, lambda_value):
    """Zhong et al., CVPR 2017, Secs. 3.2-3.5, with dense matrices and Python sets."""
    features = np.concatenate([query_features, gallery_features]).astype(np.float64)
    num_query, num_all = len(query_features), len(features)
    squared = distance(features, features, "squared_euclidean")
    order = [sorted(range(num_all), key=lambda j, i=i: (squared[i, j], j)) for i in range(num_all)]
    scaled = np.array([squared[i] / max(squared[i]) for i in range(num_all)])

    def reciprocal(i, k):
        return {j for j in order[i][: k + 1] if i in order[j][: k + 1]}

    half = int(np.around(k1 / 2))
    codes = np.zeros((num_all, num_all))
    for i in range(num_all):
        base = reciprocal(i, k1)
        expanded = set(base)
        for j in base:
            candidate = reciprocal(j, half)
            if 3 * len(base & candidate) > 2 * len(candidate):
                expanded |= candidate
        total = sum(np.exp(-scaled[i, j]) for j in expanded)
        for j in expanded:
            codes[i, j] = np.exp(-scaled[i, j]) / total
    if k2 != 1:
        codes = np.array(
            [np.mean([codes[j] for j in order[i][:k2]], axis=0) for i in range(num_all)]
        )
    out = np.zeros((num_query, num_all - num_query))
    for i in range(num_query):
        for g in range(num_query, num_all):
            smaller = sum(min(x, y) for x, y in zip(codes[i], codes[g], strict=True))
            larger = sum(max(x, y) for x, y in zip(codes[i], codes[g], strict=True))
            out[i, g - num_query] = (1 - lambda_value) * (
                1 - smaller / larger
            ) + lambda_value * scaled[i, g]
    return out


def roc(same, different):
    """(threshold, false accept rate, true accept rate) at every distance that occurs."""
    points = []
    for threshold in sorted(set(same) | set(different)):
        accepted_same = sum(d <= threshold for d in same)
        accepted_different = sum(d <= threshold for d in different)
        points.append((threshold, accepted_different / len(different), accepted_same / len(same)))
    return points


def equal_error_rates(same, different):
    """Thresholds and error rates between which the equal error must be, from loops over the pairs.

    Returns ((lowest, highest threshold), error rate): at a distance that occurs the shares jump,
    and the rate is where the straight lines of the two jumps meet; between two distances they stay.
    """
    low_accept, low_reject = 0.0, 1.0
    equal_from = None
    for threshold in sorted(set(same) | set(different)):
        accept = sum(d <= threshold for d in different) / len(different)
        reject = sum(d > threshold for d in same) / len(same)
        if abs(accept - reject) < 1e-12:
            equal_from = threshold if equal_from is None else equal_from
        elif accept > reject:
            if equal_from is not None:
                return (equal_from, threshold), low_accept
            share = (low_reject - low_accept) / (accept - low_accept + low_reject - reject)
            return (threshold, threshold), low_accept + share * (accept - low_accept)
        low_accept, low_reject = accept, reject
    raise AssertionError("the largest distance accepts every pair")
