"""The objectives of clever and inherent again, in float64 NumPy loops over the printed sums."""

import numpy as np

from references import losses


def mean(values):
    values = list(values)
    return sum(values) / len(values) if values else 0.0


def clever_terms(outputs, batch, centers, *, margin, center_rate, inter_grad, neg_updates_centers):
    """Every term of Eq. 8, and the centers after Eq. 5 (without the step of ``"centers"``)."""
    a, b = outputs["embedding_a"], outputs["embedding_b"]
    labels_a, labels_b, same = batch["identity_a"], batch["identity_b"], batch["same"]
    positives = [i for i in range(len(same)) if same[i]]
    negatives = [i for i in range(len(same)) if not same[i]]
    moving = [i for i in range(len(same)) if same[i] or neg_updates_centers]
    identification = [
        *losses.identification(outputs["logits_a"], labels_a),
        *losses.identification(outputs["logits_b"], labels_b),
    ]
    verification = losses.identification(outputs["pair_logits"], [int(s) for s in same])
    intra = losses.intra_center(a[positives], b[positives], labels_a[positives], centers)
    moved = losses.updated_pair_centers(
        centers, a[moving], b[moving], labels_a[moving], labels_b[moving], center_rate
    )
    compared = moved if inter_grad == "through_update" else centers
    inter = losses.inter_center(labels_a[negatives], labels_b[negatives], compared, margin)
    return {
        "identification": mean(identification),
        "verification": mean(verification),
        "intra": mean(intra),
        "inter": mean(inter),
    }, moved


def clever(outputs, batch, centers, weights, **options):
    """(loss, next centers) of Eq. 8."""
    terms, moved = clever_terms(outputs, batch, centers, **options)
    if options["inter_grad"] == "centers":
        names = ("identity_a", "identity_b", "same")
        pairs = list(zip(*(batch[name] for name in names), strict=True))
        for k in range(len(centers)):
            # Eq. 4's form for Eq. 6: a sum over the pairs that hold k, over one and their number.
            numerator, number = np.zeros(centers.shape[1]), 0
            for i, j, same in pairs:
                if k not in (i, j):
                    continue
                number += 1
                if same or ((centers[i] - centers[j]) ** 2).sum() >= options["margin"]:
                    continue
                other = j if k == i else i
                numerator += -2 * (centers[k] - centers[other])
            moved[k] -= options["center_rate"] * numerator / (1 + number)
    return sum(weights[name] * terms[name] for name in terms), moved


def moved_to_means(centers, x, labels, rate):
    """Each center goes a share of the way to the mean of its rows."""
    new = np.array(centers, float)
    for k in range(len(centers)):
        rows = [x[i] for i, y in enumerate(labels) if y == k]
        if rows:
            new[k] = centers[k] + rate * (sum(rows) / len(rows) - centers[k])
    return new


def identity_means(codes, labels, num_identities):
    means = np.zeros((num_identities, codes.shape[1]))
    for k in range(num_identities):
        rows = [codes[i] for i, y in enumerate(labels) if y == k]
        if rows:
            means[k] = sum(rows) / len(rows)
    return means


def remembered(bank, codes, rows):
    """The bank after a batch; an image that occurs twice gets the mean of its codes."""
    bank = np.array(bank, float)
    for row in set(rows):
        found = [codes[i] for i, r in enumerate(rows) if r == row]
        bank[row] = sum(found) / len(found)
    return bank


def inherent(
    outputs,
    labels,
    means,
    *,
    compact_weight,
    scatter_weight,
    known=None,
    cap=np.inf,
    reduction="alike",
    scatter_over="all",
):
    """Eq. 4; ``known`` are the identities that there are, by default all."""
    known = list(range(len(means))) if known is None else list(known)
    at = {identity: place for place, identity in enumerate(known)}
    places = [at[y] for y in labels]
    codes = outputs["embedding"]
    compact = losses.compact(codes, places, means[known])
    if scatter_over == "all":
        scatter = losses.scatter(codes, places, means[known])
    else:
        scatter = np.zeros(len(codes))
        for i, p in enumerate(labels):
            for j in sorted(set(labels)):
                if j != p:
                    scatter[i] += 0.5 * sum((codes[i] - means[j]) ** 2)
    scatter = np.minimum(scatter, cap)
    classification = losses.identification(outputs["logits"], labels)
    # Eqs. 2 and 3 print sums over the batch, Eq. 1 one sample: "alike" takes all three as means.
    share = 1 / len(codes) if reduction == "alike" else 1.0
    compact, scatter = share * compact.sum(), share * scatter.sum()
    total = classification.mean() + compact_weight * compact - scatter_weight * scatter
    return total, compact, scatter
