"""EfficientNet-Lite0 in plain torch.nn, with the names of the code that its weights are for."""

from torch import nn

STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80))
STAGES += ((3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320))


class Convolution(nn.Conv2d):
    """With TensorFlow's 'SAME' padding of even maps."""

    def __init__(self, inputs, outputs, size, stride=1, groups=1):
        super().__init__(inputs, outputs, size, stride, groups=groups, bias=False)
        before = (size - stride) // 2
        after = size - stride - before
        self.edges = nn.ZeroPad2d((before, after, before, after)) if after else nn.Identity()

    def forward(self, x):
        return super().forward(self.edges(x))


def norm(features):
    return nn.BatchNorm2d(features, eps=1e-3, momentum=0.01)


class Block(nn.Module):
    def __init__(self, inputs, features, size, stride, expansion):
        super().__init__()
        wide = inputs * expansion
        if expansion > 1:
            self._expand_conv, self._bn0 = Convolution(inputs, wide, 1), norm(wide)
        self._depthwise_conv, self._bn1 = Convolution(wide, wide, size, stride, wide), norm(wide)
        self._project_conv, self._bn2 = Convolution(wide, features, 1), norm(features)
        self.expands, self.adds = expansion > 1, stride == 1 and inputs == features

    def forward(self, x):
        y = nn.functional.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = nn.functional.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.adds else y


class EfficientNetLite0(nn.Module):
    """Forward returns `embedding` and `logits`."""

    def __init__(self, num_classes):
        super().__init__()
        self._conv_stem, self._bn0 = Convolution(3, 32, 3, 2), norm(32)
        blocks, inputs = [], 32
        for repeats, size, stride, expansion, features in STAGES:
            for repeat in range(repeats):
                step = 1 if repeat else stride
                blocks.append(Block(inputs, features, size, step, expansion))
                inputs = features
        self._blocks = nn.Sequential(*blocks)
        self._conv_head, self._bn1 = Convolution(inputs, 1280, 1), norm(1280)
        self._fc = nn.Linear(1280, num_classes)

    def forward(self, image):
        x = nn.functional.relu6(self._bn0(self._conv_stem(image)))
        x = nn.functional.relu6(self._bn1(self._conv_head(self._blocks(x))))
        embedding = x.mean((2, 3))
        return {"embedding": embedding, "logits": self._fc(embedding)}
