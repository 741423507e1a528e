"""WGAN and WGAN-GP in PyTorch, from the papers and their code: what wgan_jax must follow, and its rival in speed.

    gan = build("dcgan", (32, 32, 1), width=64, constraint="gradient_penalty")
    metrics = train_step(gan, real, *draw(gan, 5, 64))  # real: [5, 64, 1, 32, 32], in place

PyTorch as its users write it: eager, `[B, C, H, W]`, fused optimizers, the critic without gradients while the
generator is updated, and the other way round; if asked, with `channels_last` in memory, and under `torch.autocast` in
bfloat16, as PyTorch's own examples have a gradient penalty there. Nothing of JAX or wgan_jax is imported.

Modules have the names of wgan_jax's: `load` takes the arrays of `wgan_jax.named_arrays(state)`, and `arrays`
gives them back.

Pixels are turned by 180 degrees (`to_torch`, and the kernels in `from_linen`): SAME padding of a strided convolution
has its odd row of zeros at the end, PyTorch's at the beginning. The two are each other's half-turn, and without it
every convolution would have to copy its input into a larger one first.
"""

import copy
import dataclasses
import math
import re

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

ACTIVATIONS = {"relu": F.relu, "leaky_relu": lambda x: F.leaky_relu(x, 0.2), "tanh": torch.tanh}


class BatchNorm(nn.BatchNorm2d):
    """Moments of the batch; the running ones follow those of the generator's own updates only."""

    def forward(self, x: Tensor) -> Tensor:
        if not torch.is_grad_enabled():  # fakes for the critic
            return F.batch_norm(x, None, None, self.weight, self.bias, training=True)
        before = self.running_var.clone()
        y = F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, training=True)
        # PyTorch adds n / (n − 1) times the batch's variance; flax the variance itself.
        n = x.numel() / x.shape[1]
        self.running_var = self.running_var - (self.running_var - 0.9 * before) / n
        return y


def norm(kind: str, channels: int) -> nn.Module:
    # One group: moments over C, H and W of each example, affine per channel.
    return {"none": nn.Identity, "batch": BatchNorm, "layer": lambda c: nn.GroupNorm(1, c)}[kind](channels)


class MLPGenerator(nn.Module):
    def __init__(self, shape: tuple[int, ...], latent_dim: int, width: int, depth: int, activation: str = "relu"):
        super().__init__()
        self.shape, self.act = shape, ACTIVATIONS[activation]
        sizes = [latent_dim] + [width] * depth
        self.hidden = nn.ModuleDict({f"dense_{i}": nn.Linear(*sizes[i : i + 2]) for i in range(depth)})
        self.output = nn.Linear(width, math.prod(shape))
        self.image_layer, self.image_size = "output", shape[1:]

    def forward(self, z: Tensor) -> Tensor:
        for dense in self.hidden.values():
            z = self.act(dense(z))
        x = self.output(z).view(len(z), *self.shape)
        return torch.tanh(x) if len(self.shape) > 1 else x


class MLPCritic(nn.Module):
    def __init__(self, shape: tuple[int, ...], width: int, depth: int, activation: str = "relu"):
        super().__init__()
        self.act = ACTIVATIONS[activation]
        sizes = [math.prod(shape)] + [width] * depth
        self.hidden = nn.ModuleDict({f"dense_{i}": nn.Linear(*sizes[i : i + 2]) for i in range(depth)})
        self.output = nn.Linear(width, 1)
        self.image_layer, self.image_size = "hidden.dense_0", shape[1:]

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        for dense in self.hidden.values():
            x = self.act(dense(x))
        return self.output(x)[:, 0]


def levels(size: int) -> int:
    """How often an image is halved to reach 4×4; 28 goes 14, 7, 4."""
    return math.ceil(math.log2(size / 4))


class DCGANGenerator(nn.Module):
    def __init__(self, shape: tuple[int, int, int], latent_dim: int, width: int, kind: str, activation: str = "relu"):
        super().__init__()
        self.size, self.act, self.count = shape[1], ACTIVATIONS[activation], levels(shape[1])
        widths = [width * 2**i for i in range(self.count)][::-1]
        self.dense = nn.Linear(latent_dim, 16 * widths[0])
        self.image_layer, self.image_size = "dense", (4, 4)
        self.norm_0 = norm(kind, widths[0])
        for i, channels in enumerate([*widths[1:], shape[0]], 1):
            self.add_module(f"deconv_{i}", nn.ConvTranspose2d(widths[i - 1], channels, 5, 2, 2, output_padding=1))
            if i < self.count:
                self.add_module(f"norm_{i}", norm(kind, channels))

    def forward(self, z: Tensor) -> Tensor:
        x = self.act(self.norm_0(self.dense(z).view(len(z), -1, 4, 4)))
        for i in range(1, self.count + 1):
            x = self.get_submodule(f"deconv_{i}")(x)
            crop = x.shape[-1] - math.ceil(self.size / 2 ** (self.count - i))
            x = x[:, :, crop:, crop:] if crop else x
            if i < self.count:
                x = self.act(self.get_submodule(f"norm_{i}")(x))
        return torch.tanh(x)


class DCGANCritic(nn.Module):
    def __init__(self, shape: tuple[int, int, int], width: int, kind: str, activation: str = "leaky_relu"):
        super().__init__()
        self.act, self.count = ACTIVATIONS[activation], levels(shape[1])
        channels = [shape[0]] + [width * 2**i for i in range(self.count)]
        for i in range(1, self.count + 1):
            self.add_module(f"conv_{i}", nn.Conv2d(channels[i - 1], channels[i], 5, 2, 2))
            self.add_module(f"norm_{i}", norm(kind if i > 1 else "none", channels[i]))
        self.score = nn.Linear(16 * channels[-1], 1)
        self.image_layer, self.image_size = "score", (4, 4)

    def forward(self, x: Tensor) -> Tensor:
        for i in range(1, self.count + 1):
            x = self.act(self.get_submodule(f"norm_{i}")(self.get_submodule(f"conv_{i}")(x)))
        return self.score(x.flatten(1))[:, 0]


def upsample(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest")


class Block(nn.Module):
    """`shortcut(x) + conv(act(norm(conv(act(norm(x))))))`, as in `gan_cifar_resnet.py`."""

    def __init__(self, inputs: int, outputs: int, resample: str, kind: str, preactivate: bool = True):
        super().__init__()
        self.resample, self.preactivate = resample, preactivate
        middle = outputs if resample == "up" or not preactivate else inputs
        self.norm_1 = norm(kind if preactivate else "none", inputs)
        self.conv_1 = nn.Conv2d(inputs, middle, 3, padding=1)
        self.norm_2 = norm(kind if preactivate else "none", middle)
        self.conv_2 = nn.Conv2d(middle, outputs, 3, padding=1)
        plain = resample == "none" and inputs == outputs
        self.shortcut = nn.Identity() if plain else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        up, down = self.resample == "up", self.resample == "down"
        h = F.relu(self.norm_1(x)) if self.preactivate else x
        h = self.conv_1(upsample(h) if up else h)
        h = self.conv_2(F.relu(self.norm_2(h)))
        # A 1×1 convolution commutes with pooling and up-sampling: on the smaller image it is cheaper.
        shortcut = self.shortcut(F.avg_pool2d(x, 2) if down else x)
        return (F.avg_pool2d(h, 2) if down else h) + (upsample(shortcut) if up else shortcut)


class ResNetGenerator(nn.Module):
    def __init__(self, shape: tuple[int, int, int], latent_dim: int, width: int, kind: str):
        super().__init__()
        self.dense = nn.Linear(latent_dim, 16 * width)
        self.image_layer, self.image_size = "dense", (4, 4)
        self.count = levels(shape[1])
        for i in range(1, self.count + 1):
            self.add_module(f"block_{i}", Block(width, width, "up", kind))
        self.norm = norm(kind, width)
        self.output = nn.Conv2d(width, shape[0], 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.dense(z).view(len(z), -1, 4, 4)
        for i in range(1, self.count + 1):
            x = self.get_submodule(f"block_{i}")(x)
        return torch.tanh(self.output(F.relu(self.norm(x))))


class ResNetCritic(nn.Module):
    def __init__(self, shape: tuple[int, int, int], width: int, kind: str):
        super().__init__()
        self.block_1 = Block(shape[0], width, "down", kind, preactivate=False)
        self.block_2 = Block(width, width, "down", kind)
        self.block_3 = Block(width, width, "none", kind)
        self.block_4 = Block(width, width, "none", kind)
        self.score = nn.Linear(width, 1)
        self.image_layer, self.image_size = None, ()

    def forward(self, x: Tensor) -> Tensor:
        x = self.block_4(self.block_3(self.block_2(self.block_1(x))))
        return self.score(F.relu(x).mean((2, 3)))[:, 0]


@dataclasses.dataclass
class Gan:
    generator: nn.Module
    critic: nn.Module
    generator_optimizer: torch.optim.Optimizer
    critic_optimizer: torch.optim.Optimizer
    average: nn.Module
    """The generator's average."""
    latent_dim: int
    constraint: str
    weight: float
    bound: float
    ema_decay: float
    autocast: bool
    step: int = 0

    def lower_precision(self) -> torch.autocast:
        """For the networks' forward passes; gradients and the penalty's norm stay outside."""
        return torch.autocast(self.device, torch.bfloat16, enabled=self.autocast)

    @property
    def device(self) -> str:
        """`cpu` or `cuda`."""
        return next(self.critic.parameters()).device.type


def build(
    network: str,
    image_shape: tuple[int, ...],
    *,
    latent_dim: int = 128,
    width: int = 64,
    depth: int = 3,
    generator_norm: str = "batch",
    critic_norm: str = "none",
    constraint: str = "gradient_penalty",
    weight: float = 10.0,
    bound: float = 0.01,
    optimizer: str = "",
    learning_rate: float = 0.0,
    b1: float = 0.5,
    b2: float = 0.9,
    ema_decay: float = 0.999,
    dtype: torch.dtype = torch.float32,
    memory_format: torch.memory_format = torch.contiguous_format,
    autocast: bool = False,
    device: str = "cpu",
    capturable: bool = False,
) -> Gan:
    """Networks ("mlp", "dcgan" or "resnet") and optimizers, with wgan_jax's names of settings.

    Args:
      image_shape: `(H, W, C)`, or `(C,)` of points.
      constraint: "gradient_penalty" or "clip" (after the update).
      optimizer: "adam" or "rmsprop"; "" for the one of the constraint's paper.
      learning_rate: 0 for the paper's, 1e-4 of Adam and 5e-5 of RMSProp.
      memory_format: of the networks; the images should have it too.
      autocast: bfloat16 in the forward passes, where PyTorch finds it safe; parameters stay in float32.
      device: `cpu` or `cuda`.
      capturable: keep the optimizers' counts on the device, as a CUDA graph needs.
    """
    shape = tuple(np.roll(image_shape, 1).tolist())  # channels first
    match network:
        case "mlp":
            generator, critic = MLPGenerator(shape, latent_dim, width, depth), MLPCritic(shape, width, depth)
        case "dcgan":
            generator = DCGANGenerator(shape, latent_dim, width, generator_norm)
            critic = DCGANCritic(shape, width, critic_norm)
        case "resnet":
            generator = ResNetGenerator(shape, latent_dim, width, generator_norm)
            critic = ResNetCritic(shape, width, critic_norm)

    def make_optimizer(network: nn.Module) -> torch.optim.Optimizer:
        if (optimizer or {"gradient_penalty": "adam", "clip": "rmsprop"}[constraint]) == "adam":
            return torch.optim.Adam(
                network.parameters(), learning_rate or 1e-4, (b1, b2), eps=1e-8, fused=True, capturable=capturable
            )
        return torch.optim.RMSprop(
            network.parameters(), learning_rate or 5e-5, alpha=0.99, eps=1e-8, foreach=True, capturable=capturable
        )

    for module in (generator, critic):
        module.to(device=device, dtype=dtype, memory_format=memory_format)
    return Gan(
        generator=generator,
        critic=critic,
        generator_optimizer=make_optimizer(generator),
        critic_optimizer=make_optimizer(critic),
        average=copy.deepcopy(generator).requires_grad_(False),
        latent_dim=latent_dim,
        constraint=constraint,
        weight=weight,
        bound=bound,
        ema_decay=ema_decay,
        autocast=autocast,
    )


def draw(gan: Gan, n_critic: int, batch_size: int, generator_batch_multiple: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Critic latents `[n_critic, B, latent_dim]`, ε `[n_critic, B]` and generator latents `[B', latent_dim]`."""
    return (
        torch.randn(n_critic, batch_size, gan.latent_dim, device=gan.device),
        torch.rand(n_critic, batch_size, device=gan.device),
        torch.randn(batch_size * generator_batch_multiple, gan.latent_dim, device=gan.device),
    )


def train_step(
    gan: Gan, real: Tensor, critic_latents: Tensor, epsilon: Tensor, generator_latents: Tensor
) -> dict[str, Tensor]:
    """One generator iteration, in place: a critic update for each of `real [n_critic, B, C, H, W]`, then one more."""
    gan.critic.requires_grad_(True)
    for rows in zip(real, critic_latents, epsilon, strict=True):
        metrics = update_critic(gan, *rows)
    gan.critic.requires_grad_(False)
    metrics |= update_generator(gan, generator_latents)
    update_average(gan)
    gan.step += 1
    return metrics


def update_critic(gan: Gan, real: Tensor, latents: Tensor, epsilon: Tensor) -> dict[str, Tensor]:
    with torch.no_grad(), gan.lower_precision():
        fake = gan.generator(latents).to(real)
    with gan.lower_precision():
        real_scores, fake_scores = gan.critic(torch.cat([real, fake])).float().chunk(2)
    estimate = real_scores.mean() - fake_scores.mean()
    loss, metrics = -estimate, {"wasserstein_estimate": estimate.detach()}
    if gan.constraint == "gradient_penalty":
        epsilon = epsilon.view(-1, *[1] * (real.ndim - 1))
        mixed = (epsilon * real + (1 - epsilon) * fake).requires_grad_(True)
        with gan.lower_precision():
            scores = gan.critic(mixed)
        (gradient,) = torch.autograd.grad(scores.float().sum(), mixed, create_graph=True)
        penalty = (gradient.flatten(1).norm(dim=1) - 1).square().mean()
        loss = loss + gan.weight * penalty
        metrics["gradient_penalty"] = penalty.detach()
    gan.critic_optimizer.zero_grad(set_to_none=True)
    loss.backward()
    gan.critic_optimizer.step()
    if gan.constraint == "clip":
        with torch.no_grad():
            for parameter in gan.critic.parameters():
                parameter.clamp_(-gan.bound, gan.bound)
    return metrics | {"critic_loss": loss.detach()}


def update_generator(gan: Gan, latents: Tensor) -> dict[str, Tensor]:
    with gan.lower_precision():
        scores = gan.critic(gan.generator(latents))
    loss = -scores.float().mean()
    gan.generator_optimizer.zero_grad(set_to_none=True)
    loss.backward()
    gan.generator_optimizer.step()
    return {"generator_loss": loss.detach()}


@torch.no_grad()
def update_average(gan: Gan) -> None:
    decay = min(gan.ema_decay, (1 + gan.step) / (10 + gan.step))
    new, old = gan.generator.state_dict(), gan.average.state_dict()
    for name, value in old.items():
        if value.is_floating_point():
            value.lerp_(new[name], 1 - decay)


# --- the way from wgan_jax's arrays and back ---


def to_torch(images: np.ndarray) -> Tensor:
    """`[..., H, W, C]` to `[..., C, H, W]`, turned by 180 degrees."""
    return torch.from_numpy(np.array(np.moveaxis(images[..., ::-1, ::-1, :], -1, -3), order="C"))


def player_and_name(name: str) -> tuple[str, str]:
    """Of `critic/variables/params/norm_1/layer/scale`: `critic` and `norm_1.weight`, the name in its `state_dict`."""
    player, _, path = re.fullmatch("(.*?)/(?:variables/)?(params|batch_stats)/(.*)", name).groups()
    *path, leaf = (part for part in path.split("/") if part not in ("batch", "layer"))
    leaf = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}.get(leaf, leaf)
    return {"ema": "average"}.get(player, player), ".".join([*path, leaf])


def from_linen(gan: Gan, arrays: dict[str, np.ndarray]) -> dict[str, dict[str, Tensor]]:
    """wgan_jax's arrays as a `state_dict` for each of `generator`, `critic` and `average`.

    Kernels of convolutions `[kh, kw, in, out]` and of transposed ones `[kh, kw, out, in]` both get their axes in the
    order 3, 2, 0, 1, and are turned by 180 degrees. Dense kernels `[in, out]` are transposed. The dense layer that
    makes an image, or a map of one, and the one that reads it count its pixels as H, W, C there, as C, H, W here.
    """
    states: dict[str, dict[str, Tensor]] = {"generator": {}, "critic": {}, "average": {}}
    for name, array in arrays.items():
        if not re.match("(critic|generator|ema)/(variables/)?(params|batch_stats)/", name):
            continue
        player, key = player_and_name(name)
        module, layer = getattr(gan, player), key.rpartition(".")[0]
        if array.ndim == 4:
            array = array[::-1, ::-1].transpose(3, 2, 0, 1)
        elif array.ndim == 2:
            array = array.T
        if layer == module.image_layer and player == "critic" and array.ndim == 2:
            array = channels_first(array.T, module.image_size).T
        elif layer == module.image_layer and player != "critic":
            array = channels_first(array, module.image_size)
        states[player][key] = torch.from_numpy(np.array(array, order="C"))
    return states


def channels_first(x: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Rows `[H·W·C, ...]` as `[C·H·W, ...]`, the pixels turned by 180 degrees."""
    if not size:
        return x
    x = x.reshape(*size, -1, *x.shape[1:])[::-1, ::-1]
    return np.moveaxis(x, 2, 0).reshape(-1, *x.shape[3:])


def load(gan: Gan, arrays: dict[str, np.ndarray]) -> None:
    """Puts in the networks of `wgan_jax.named_arrays(state)`, of a state whose optimizers have not begun."""
    for player, state in from_linen(gan, arrays).items():
        missing, unexpected = getattr(gan, player).load_state_dict(state, strict=False)
        assert not unexpected, unexpected
        assert all(name.endswith("num_batches_tracked") for name in missing), missing


def arrays(gan: Gan, like: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The networks' arrays under wgan_jax's names and in its axis order; `like` has their shapes."""
    result = {}
    for name, array in like.items():
        # Where each element goes tells where to fetch it.
        for player, state in from_linen(gan, {name: np.arange(array.size).reshape(array.shape)}).items():
            for key, places in state.items():
                values = getattr(gan, player).state_dict()[key]
                result[name] = np.empty(array.size, array.dtype)
                result[name][places.numpy().ravel()] = values.numpy().ravel()
                result[name] = result[name].reshape(array.shape)
    return result
