"""What figures show, in plain loops."""

import numpy as np


def channel_sum(feature_map, *, drop_border_channels):
    """Sum over channels; a channel goes if one of its two largest values is at the border."""
    num_images, height, width, num_channels = feature_map.shape
    sums = np.zeros((num_images, height, width))
    for image in range(num_images):
        for channel in range(num_channels):
            values = feature_map[image, :, :, channel]
            # MATLAB's order: down the columns, the earlier first among equals.
            places = [(row, column) for column in range(width) for row in range(height)]
            places.sort(key=lambda place, values=values: -values[place])
            at_border = [row == 0 or column < 2 for row, column in places[:2]]
            if drop_border_channels and any(at_border):
                continue
            for place in places:
                sums[(image, *place)] += values[place]
    return sums


def sampled_points(theta, stripe, feature_size, image_size, out_size):
    """Where on the image each point of the sampled grid lies, [out, out, 2] (x, y) in pixels."""
    s_w, r_w, t_w, r_h, s_h, t_h = theta
    top, bottom = stripe
    num_rows, num_columns = bottom - top, feature_size[1]
    points = np.zeros((out_size, out_size, 2))
    for i in range(out_size):
        for j in range(out_size):
            h = -1 + 2 * i / (out_size - 1)
            w = -1 + 2 * j / (out_size - 1)
            x_in = s_w * w + r_w * h + t_w
            y_in = r_h * w + s_h * h + t_h
            column = (x_in + 1) / 2 * (num_columns - 1)
            row = top + (y_in + 1) / 2 * (num_rows - 1)
            # A cell covers whole pixels; its centre is theirs.
            for axis, (cell, cells, pixels) in enumerate(
                [(column, num_columns, image_size[1]), (row, feature_size[0], image_size[0])]
            ):
                points[i, j, axis] = (cell + 0.5) * pixels / cells - 0.5
    return points


def shown_in_cells(coordinates, first, ratio, num_columns):
    """{(row, column): image} of a map cut into cells, the longer side as wide as the columns."""
    low, high = coordinates.min(0), coordinates.max(0)
    width = max(high - low) / num_columns
    height = width * ratio
    left = (low[0] + high[0]) / 2 - num_columns * width / 2
    num_rows = int(np.ceil((high[1] - low[1]) / height))
    candidates = {}
    for index, (x, y) in enumerate(coordinates):
        column = min(int((x - left) / width), num_columns - 1)
        row = min(int((high[1] - y) / height), num_rows - 1)
        dx = x - (left + (column + 0.5) * width)
        dy = (high[1] - y) - (row + 0.5) * height
        candidates.setdefault((row, column), []).append((not first[index], np.hypot(dx, dy), index))
    return {cell: min(entries)[-1] for cell, entries in candidates.items()}
