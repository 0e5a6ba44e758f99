"""Landmark retrieval again, in plain Python: the loop of Oxford5k's `compute_ap`, and step AP."""

import numpy as np


def ranked_list(distances):
    """All images in order, the lower row first where distances are equal."""
    return sorted(range(len(distances)), key=lambda row: (distances[row], row))


def average_precision_official(positive, junk, ranked):
    """Area under (recall, precision) by trapezoids; junk is passed over."""
    old_recall, old_precision, area, found, seen = 0.0, 1.0, 0.0, 0, 0
    for row in ranked:
        if row in junk:
            continue
        if row in positive:
            found += 1
        recall, precision = found / len(positive), found / (seen + 1.0)
        area += (recall - old_recall) * (old_precision + precision) / 2.0
        old_recall, old_precision = recall, precision
        seen += 1
    return area


def average_precision_step(positive, junk, ranked):
    """Mean over the positives of the precision at each."""
    kept = [row for row in ranked if row not in junk]
    at = [place for place, row in enumerate(kept) if row in positive]
    return sum((i + 1) / (place + 1) for i, place in enumerate(at)) / len(at)


def max_activations(images, kernel, bias):
    """MAC of one convolution with zero borders and ReLU: [N] of [H, W, 3] to [N, C]."""
    features = []
    for image in images:
        height, width, _ = image.shape
        size = kernel.shape[0]
        padded = np.pad(
            image.astype(np.float64), ((size // 2, size // 2), (size // 2, size // 2), (0, 0))
        )
        best = np.full(kernel.shape[-1], -np.inf)
        for y in range(height):
            for x in range(width):
                window = padded[y : y + size, x : x + size]
                value = np.array([(window * kernel[..., c]).sum() for c in range(len(best))])
                best = np.maximum(best, np.maximum(value + bias, 0))
        features.append(best)
    return np.array(features)
