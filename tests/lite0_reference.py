"""EfficientNet-Lite0 in PyTorch, with the names of its published file, to compare with."""

import torch
from torch import nn
from torch.nn import functional


class Same(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding, of which the larger part comes after."""

    def forward(self, x):
        size, (kernel,), (stride,) = x.shape[-1], set(self.kernel_size), set(self.stride)
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        low, high = total // 2, total - total // 2
        return functional.conv2d(
            functional.pad(x, (low, high, low, high)), self.weight, None, self.stride, 0, 1, self.groups
        )


def conv(channels, features, kernel=1, stride=1, groups=1):
    return Same(channels, features, kernel, stride, groups=groups, bias=False)


def norm(features):
    return nn.BatchNorm2d(features, eps=1e-3)


class Block(nn.Module):
    def __init__(self, channels, features, kernel, stride, expand):
        super().__init__()
        width = expand * channels
        if expand > 1:
            self._expand_conv, self._bn0 = conv(channels, width), norm(width)
        self._depthwise_conv, self._bn1 = conv(width, width, kernel, stride, width), norm(width)
        self._project_conv, self._bn2 = conv(width, features), norm(features)
        self.skip = stride == 1 and channels == features

    def forward(self, x):
        y = functional.relu6(self._bn0(self._expand_conv(x))) if hasattr(self, "_expand_conv") else x
        y = functional.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.skip else y


class Lite0(nn.Module):
    def __init__(self):
        super().__init__()
        kernels = (3, 3, 3, 5, 5, 3, 3, 3, 5, 5, 5, 5, 5, 5, 5, 3)
        strides = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)
        widths = (16, 24, 24, 40, 40, 80, 80, 80, 112, 112, 112, 192, 192, 192, 192, 320)
        self._conv_stem, self._bn0 = conv(3, 32, 3, 2), norm(32)
        self._blocks = nn.ModuleList(
            Block(channels, features, kernel, stride, 6 if i else 1)
            for i, (channels, features, kernel, stride) in enumerate(
                zip((32, *widths), widths, kernels, strides, strict=False)
            )
        )
        self._conv_head, self._bn1 = conv(320, 1280), norm(1280)
        self._fc = nn.Linear(1280, 1000)

    def forward(self, x):
        """Features and logits of `x [B, 3, 224, 224]`."""
        x = functional.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        x = functional.relu6(self._bn1(self._conv_head(x))).mean((2, 3))
        return x, self._fc(x)


def load(path):
    network = Lite0()
    network.load_state_dict(torch.load(path, weights_only=True))
    return network.eval()
