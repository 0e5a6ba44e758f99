"""The csn network (levels 2 and 3) in PyTorch, with the names of reid_jax.models.CSN."""

import torch
from torch import nn
from torch.nn import functional


def conv(inputs, outputs, size):
    return nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False)


def halve(x):
    return functional.max_pool2d(x, 2, ceil_mode=True)


def activated(x, bn):
    return functional.relu(bn(x))


class Features(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv1, self.bn1 = conv(3, width // 3, 5), nn.BatchNorm2d(width // 3)
        self.conv2, self.bn2 = conv(width // 3, width, 3), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = conv(width, width, 3), nn.BatchNorm2d(width)

    def forward(self, x):
        x = halve(activated(self.conv1(x), self.bn1))
        x2 = halve(activated(self.conv2(x), self.bn2))
        return {2: x2, 3: halve(activated(self.conv3(x2), self.bn3))}


class Localisation(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.loc_conv1, self.loc_bn1 = conv(width, 32, 3), nn.BatchNorm2d(32)
        self.loc_conv2, self.loc_bn2 = conv(32, 32, 3), nn.BatchNorm2d(32)
        self.loc_conv3, self.loc_bn3 = conv(32, 128, 1), nn.BatchNorm2d(128)
        self.theta = nn.Linear(128, 6)
        nn.init.zeros_(self.theta.weight)
        start = torch.atanh(torch.tensor([0.9, 0, 0, 0, 0.9, 0]))
        self.theta.bias = nn.Parameter(start)

    def forward(self, x):
        x = halve(activated(self.loc_conv1(x), self.loc_bn1))
        x = halve(activated(self.loc_conv2(x), self.loc_bn2))
        x = activated(self.loc_conv3(x), self.loc_bn3).mean((2, 3))
        return torch.tanh(self.theta(x))


class RankingNet(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv_a, self.conv_b = conv(width, width, 3), conv(width, width, 3)
        for name in ("bn_a2", "bn_a3", "bn_b2", "bn_b3"):
            self.add_module(name, nn.BatchNorm2d(width))
        self.embedding = nn.Linear(2 * width, 256)

    def forward(self, parts):
        pooled = []
        for level, part in parts.items():
            x = halve(activated(self.conv_a(part.flatten(0, 1)), getattr(self, f"bn_a{level}")))
            # [B * 3, C, h, w] to [B, C, 3 * h, w]
            x = x.unflatten(0, (-1, 3)).transpose(1, 2).flatten(2, 3)
            x = activated(self.conv_b(x), getattr(self, f"bn_b{level}"))
            pooled.append(x.mean((2, 3)))
        return functional.normalize(self.embedding(torch.cat(pooled, 1)), dim=1, eps=1e-6)


class Head(nn.Module):
    def __init__(self, maps):
        super().__init__()
        self.conv4, self.bn4 = conv(maps, 32, 1), nn.BatchNorm2d(32)
        self.conv5, self.bn5 = conv(32, 32, 3), nn.BatchNorm2d(32)
        self.conv6, self.bn6 = conv(32, 500, 1), nn.BatchNorm2d(500)
        self.match = nn.Linear(500, 2)

    def forward(self, x):
        x = activated(self.conv4(x), self.bn4)
        x = halve(activated(self.conv5(x), self.bn5))
        return self.match(activated(self.conv6(x), self.bn6).mean((2, 3)))


def correlation(signal, kernel):
    """signal [B, C, H, W] with kernel [B, C, h, w], padded as TensorFlow does."""
    batch, channels, rows, columns = kernel.shape
    padding = ((columns - 1) // 2, columns // 2, (rows - 1) // 2, rows // 2)
    x = functional.pad(signal.reshape(1, batch * channels, *signal.shape[2:]), padding)
    y = functional.conv2d(x, kernel.reshape(-1, 1, rows, columns), groups=batch * channels)
    return y.reshape(signal.shape)


class CSN(nn.Module):
    """images [P, 3, H, W] -> pair_logits, descriptor_a, descriptor_b, thetas [2 * P * 3, 6]."""

    def __init__(self, width=96):
        super().__init__()
        self.features = Features(width)
        self.localisation_l2, self.localisation_l3 = Localisation(width), Localisation(width)
        self.ranking_net, self.head = RankingNet(width), Head(12 * width)

    def forward(self, image_a, image_b):
        maps = self.features(torch.cat([image_a, image_b]))
        parts, sims, thetas = {}, [], {}
        for level, size in {2: 10, 3: 5}.items():
            x = maps[level]
            height = x.shape[2]
            length = -(-height // 2)
            tops = (0, (height - length) // 2, height - length)
            bands = torch.stack([x[:, :, t : t + length] for t in tops], 1).flatten(0, 1)
            theta = thetas[level] = getattr(self, f"localisation_l{level}")(bands)
            grid = functional.affine_grid(
                theta.reshape(-1, 2, 3), (len(bands), 1, size, size), align_corners=True
            )
            part = functional.grid_sample(bands, grid, "bilinear", "border", align_corners=True)
            parts[level] = part = part.unflatten(0, (-1, 3))
            (x_a, x_b), (part_a, part_b) = x.chunk(2), part.chunk(2)
            sim = torch.cat(
                [correlation(x_a, part_b[:, i]) for i in range(3)]
                + [correlation(x_b, part_a[:, i]) for i in range(3)],
                1,
            )
            for _ in range(4 - level):
                sim = halve(sim)
            sims.append(sim)
        descriptor_a, descriptor_b = self.ranking_net(parts).chunk(2)
        return {
            "pair_logits": self.head(torch.cat(sims, 1)),
            "descriptor_a": descriptor_a,
            "descriptor_b": descriptor_b,
            "theta": thetas,
        }


def loss_of(outputs, same):
    """The objective of csn with its weights, ``same`` [P] bool."""
    classification = functional.cross_entropy(outputs["pair_logits"], same.long())
    squared = ((outputs["descriptor_a"] - outputs["descriptor_b"]) ** 2).sum(1)
    hinge = (1 - squared.clamp(min=1e-12).sqrt()).clamp(min=0)
    contrastive = torch.where(same, squared, hinge**2).mean() / 2
    prior = 0
    for theta in outputs["theta"].values():
        s_w, r_w, t_w, r_h, s_h, t_h = theta.unbind(1)
        terms = (0.1 - s_w).clamp(min=0) + (0.1 - s_h).clamp(min=0) + r_w.abs() + r_h.abs()
        for edge in (t_w - s_w, t_w + s_w, t_h - s_h, t_h + s_h):
            terms = terms + (edge**2 - 1).clamp(min=0) / 2
        prior = prior + terms.mean()
    return classification + contrastive + 0.1 * prior


def load(model, variables):
    """Copies the variables of reid_jax.models.CSN, every one."""
    names = {"kernel": "weight", "scale": "weight", "bias": "bias"}
    statistics = {"mean": "running_mean", "var": "running_var"}
    found = {}

    def visit(tree, path, leaf_names):
        for name, value in tree.items():
            if hasattr(value, "items"):
                visit(value, [*path, name], leaf_names)
                continue
            value = torch.tensor(value)
            if value.ndim == 4:
                value = value.permute(3, 2, 0, 1)
            elif value.ndim == 2:
                value = value.T
            found[".".join([*path, leaf_names[name]])] = value

    visit(variables["params"], [], names)
    visit(variables["batch_stats"], [], statistics)
    counters = {k: v for k, v in model.state_dict().items() if k.endswith("num_batches_tracked")}
    model.load_state_dict({**found, **counters}, strict=True)
    return model
