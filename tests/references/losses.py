"""Every loss and center update again, as plain float64 NumPy loops that follow the printed sums."""

import math

import numpy as np


def identification(logits, labels):
    rows = []
    for z, y in zip(np.asarray(logits, float), labels, strict=True):
        rows.append(-math.log(math.exp(z[y]) / sum(math.exp(v) for v in z)))
    return np.array(rows)


def batch_contrastive(x, labels, margin):
    x = np.asarray(x, float)
    rows = []
    for i in range(len(x)):
        positive = 0.0
        nearest = math.inf
        for j in range(len(x)):
            squared = sum((x[i, d] - x[j, d]) ** 2 for d in range(x.shape[1]))
            if labels[i] == labels[j]:
                positive += squared
            else:
                nearest = min(nearest, squared)
        hinge = 0.0 if math.isinf(nearest) else max(0.0, margin - nearest)
        rows.append(0.5 * (positive + hinge))
    return np.array(rows)


def batch_contrastive_eq8(x, labels, margin):
    """The gradient printed as Eq. 8, without its center term; the hinge gate is that of Eq. 3."""
    x = np.asarray(x, float)
    gradient = np.zeros_like(x)
    for i in range(len(x)):
        nearest, at = math.inf, None
        for j in range(len(x)):
            if labels[i] == labels[j]:
                gradient[i] += x[i] - x[j]
            elif ((x[i] - x[j]) ** 2).sum() < nearest:
                nearest, at = ((x[i] - x[j]) ** 2).sum(), j
        if nearest < margin:
            gradient[i] -= x[i] - x[at]
    return gradient


def center(x, labels, centers):
    return np.array([0.5 * ((x[i] - centers[y]) ** 2).sum() for i, y in enumerate(labels)])


def updated_centers(centers, x, labels, rate, sign=-1):
    new = np.array(centers, float)
    for k in range(len(centers)):
        numerator, count = np.zeros(centers.shape[1]), 0
        for i, y in enumerate(labels):
            if y == k:
                numerator += centers[k] - x[i]
                count += 1
        new[k] = centers[k] + sign * rate * numerator / (1 + count)
    return new


def intra_center(xa, xb, labels, centers):
    return center(xa, labels, centers) + center(xb, labels, centers)


def inter_center(labels_a, labels_b, centers, margin):
    rows = []
    for a, b in zip(labels_a, labels_b, strict=True):
        rows.append(max(0.0, margin - sum((centers[a] - centers[b]) ** 2)))
    return np.array(rows)


def updated_pair_centers(centers, xa, xb, labels_a, labels_b, rate):
    new = np.array(centers, float)
    for k in range(len(centers)):
        numerator, pairs = np.zeros(centers.shape[1]), 0
        for i in range(len(labels_a)):
            if labels_a[i] == k:
                numerator += centers[k] - xa[i]
            if labels_b[i] == k:
                numerator += centers[k] - xb[i]
            if k in (labels_a[i], labels_b[i]):
                pairs += 1
        new[k] = centers[k] - rate * numerator / (1 + pairs)
    return new


def compact(codes, labels, means):
    rows = []
    for i, p in enumerate(labels):
        d_min = 0.5 * min(
            math.sqrt(((means[p] - means[j]) ** 2).sum()) for j in range(len(means)) if j != p
        )
        rows.append(0.5 * max(0.0, ((codes[i] - means[p]) ** 2).sum() - d_min**2))
    return np.array(rows)


def scatter(codes, labels, means):
    rows = []
    for i, p in enumerate(labels):
        others = (((codes[i] - means[j]) ** 2).sum() for j in range(len(means)) if j != p)
        rows.append(0.5 * sum(others))
    return np.array(rows)


def contrastive(xa, xb, same, margin):
    rows = []
    for a, b, s in zip(xa, xb, same, strict=True):
        d = math.sqrt(((a - b) ** 2).sum())
        rows.append(0.5 * (s * d**2 + (1 - s) * max(0.0, margin - d) ** 2))
    return np.array(rows)


def batch_hard_triplet(x, labels, margin):
    rows = []
    for i in range(len(x)):
        farthest, nearest = 0.0, math.inf
        for j in range(len(x)):
            d = math.sqrt(((x[i] - x[j]) ** 2).sum())
            if labels[i] == labels[j]:
                farthest = max(farthest, d)
            else:
                nearest = min(nearest, d)
        rows.append(0.0 if math.isinf(nearest) else max(0.0, margin + farthest - nearest))
    return np.array(rows)


def finite_difference(function, x, epsilon=1e-6):
    """Central differences of a scalar function of one array."""
    x = np.array(x, float)
    gradient = np.zeros_like(x)
    for index in np.ndindex(*x.shape):
        above, below = x.copy(), x.copy()
        above[index] += epsilon
        below[index] -= epsilon
        gradient[index] = (function(above) - function(below)) / (2 * epsilon)
    return gradient
