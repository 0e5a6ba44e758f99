"""Operations of csn (Guo and Cheung) in plain float64 loops."""

import math

import numpy as np


def correlation(signal, kernel):
    """s[b, y, x, c] = sum of signal * kernel under the kernel, TensorFlow's SAME padding."""
    height, width = signal.shape[1:3]
    rows, columns = kernel.shape[1:3]
    out = np.zeros(signal.shape)
    for y in range(height):
        for x in range(width):
            for i in range(rows):
                for j in range(columns):
                    at_y, at_x = y + i - (rows - 1) // 2, x + j - (columns - 1) // 2
                    if 0 <= at_y < height and 0 <= at_x < width:
                        out[:, y, x] += signal[:, at_y, at_x] * kernel[:, i, j]
    return out


def positions(size):
    return [0.0] if size == 1 else [-1 + 2 * i / (size - 1) for i in range(size)]


def bilinear(image, x, y):
    """The value [C] of an image [H, W, C] at a column and row, the border going on for ever."""
    height, width = image.shape[:2]
    x, y = min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0)
    value = np.zeros(image.shape[2])
    for row in range(height):
        for column in range(width):
            weight = max(0.0, 1 - abs(y - row)) * max(0.0, 1 - abs(x - column))
            value += weight * image[row, column]
    return value


def spatial_transform(features, theta, out_size):
    batch, height, width, channels = features.shape
    out = np.zeros((batch, *out_size, channels))
    for b in range(batch):
        s_w, r_w, t_w, r_h, s_h, t_h = theta[b]
        for i, h in enumerate(positions(out_size[0])):
            for j, w in enumerate(positions(out_size[1])):
                w_in, h_in = s_w * w + r_w * h + t_w, r_h * w + s_h * h + t_h
                x, y = (w_in + 1) / 2 * (width - 1), (h_in + 1) / 2 * (height - 1)
                out[b, i, j] = bilinear(features[b], x, y)
    return out


def stn_prior(theta, min_scale, limit):
    """One theta."""
    s_w, r_w, t_w, r_h, s_h, t_h = theta
    value = 0.0
    for scale in (s_w, s_h):
        if scale < min_scale:
            value += min_scale - scale
    for scale, shift in ((s_w, t_w), (s_h, t_h)):
        for edge in (shift - scale, shift + scale):
            if edge**2 > limit:
                value += (edge**2 - limit) / 2
    return value + abs(r_w) + abs(r_h)


def similarity_score(pair_logits, descriptor_a, descriptor_b, weight, epsilon):
    """Eq. 7 for one pair."""
    largest = max(pair_logits)
    exponentials = [math.exp(logit - largest) for logit in pair_logits]
    distance = math.sqrt(sum((a - b) ** 2 for a, b in zip(descriptor_a, descriptor_b, strict=True)))
    return exponentials[1] / sum(exponentials) + weight / (distance + epsilon)
