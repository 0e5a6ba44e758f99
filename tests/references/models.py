"""Layers in plain float64 NumPy loops, and variables for a network without running it."""

import jax
import numpy as np


def variables(model, *images, seed=0):
    """Random values of a trained network's scale; running averages that are not 0 and 1."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(model.init, jax.random.key(0), *images)

    def leaf(path, shape):
        name = path[-1].key
        if name == "kernel":
            values = rng.standard_normal(shape.shape) * np.sqrt(2 / np.prod(shape.shape[:-1]))
        elif name in ("scale", "var"):
            values = rng.uniform(0.5, 1.5, shape.shape)
        else:
            values = rng.uniform(-0.3, 0.3, shape.shape)
        return values.astype(shape.dtype)

    return jax.tree_util.tree_map_with_path(leaf, shapes)


def convolution(x, kernel, strides, padding, groups=1):
    """[B, H, W, C] * [h, w, C / groups, O], one output value at a time."""
    x = np.pad(x, ((0, 0), *padding, (0, 0)))
    height, width = kernel.shape[:2]
    rows = (x.shape[1] - height) // strides[0] + 1
    columns = (x.shape[2] - width) // strides[1] + 1
    y = np.zeros((x.shape[0], rows, columns, kernel.shape[3]))
    for b in range(y.shape[0]):
        for i in range(rows):
            for j in range(columns):
                top, left = i * strides[0], j * strides[1]
                patch = x[b, top : top + height, left : left + width]
                for o in range(y.shape[3]):
                    seen = kernel.shape[2]
                    first = o // (y.shape[3] // groups) * seen
                    y[b, i, j, o] = np.sum(patch[..., first : first + seen] * kernel[..., o])
    return y


def local_response_norm(x, size, alpha, beta):
    """Caffe's layer: alpha / size times the sum, also where the window sticks out."""
    channels = x.shape[-1]
    y = np.zeros(x.shape)
    for c in range(channels):
        total = 0
        for neighbour in range(c - size // 2, c + size // 2 + 1):
            if 0 <= neighbour < channels:
                total += x[..., neighbour] ** 2
        y[..., c] = x[..., c] / (1 + alpha / size * total) ** beta
    return y


def max_pool(x, window, strides, padding):
    x = np.pad(x, ((0, 0), *padding, (0, 0)), constant_values=-np.inf)
    rows = (x.shape[1] - window[0]) // strides[0] + 1
    columns = (x.shape[2] - window[1]) // strides[1] + 1
    y = np.zeros((x.shape[0], rows, columns, x.shape[3]))
    for i in range(rows):
        for j in range(columns):
            top, left = i * strides[0], j * strides[1]
            patch = x[:, top : top + window[0], left : left + window[1]]
            y[:, i, j] = patch.max((1, 2))
    return y


def normalise(x, scale, bias, epsilon, num_streams):
    """y, mean [S, C], biased variance [S, C]."""
    ys, means, variances = [], [], []
    for stream in np.split(x, num_streams):
        y = np.zeros(stream.shape)
        for c in range(x.shape[-1]):
            values = stream[..., c]
            mean = sum(values.ravel()) / values.size
            variance = sum((values.ravel() - mean) ** 2) / values.size
            y[..., c] = scale[c] * (values - mean) / np.sqrt(variance + epsilon) + bias[c]
            means.append(mean)
            variances.append(variance)
        ys.append(y)
    shape = (num_streams, x.shape[-1])
    return np.concatenate(ys), np.reshape(means, shape), np.reshape(variances, shape)
