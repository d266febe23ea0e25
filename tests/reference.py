"""Glow in its plain textbook form, one operation after another: what the fast form is held to.

It reads the weights of a `glowflow.Glow` and shares no code with it. Each function gives the
result and log|det| per sample.
"""

import math

import torch
import torch.nn.functional as F


def log_prob(model, x, labels=None):
    """log p(x) in nats."""
    latents, log_det = encode(model, x, labels)
    normal = sum(
        (-0.5 * (eps**2 + math.log(2 * math.pi))).reshape(len(x), -1).sum(1) for eps in latents
    )
    return normal + log_det


def encode(model, x, labels=None):
    """Whitened latents, first level first, and log|det dε/dx|."""
    config = model.config
    log_det = x.new_zeros(len(x))
    latents = []
    for index, level in enumerate(model.levels):
        x = squeeze(x)
        for step in level.steps:
            x, added = actnorm(x, step.actnorm)
            log_det = log_det + added
            x, added = permute(x, step.permutation, config.permutation)
            log_det = log_det + added
            x, added = couple(x, step.coupling, config)
            log_det = log_det + added
        if index < config.levels - 1:
            kept = (x.shape[1] + 1) // 2
            x, z = x[:, :kept], x[:, kept:]
            if config.prior == "diagonal":
                mean, log_std = of_positions(level.split.prior, labels)
            else:
                h = scaled_conv(x, level.split.prior.conv)
                mean, log_std = h[:, 0::2], h[:, 1::2]
            latents.append((z - mean) / torch.exp(log_std))
            log_det = log_det - log_std.expand(z.shape).reshape(len(x), -1).sum(1)
    if config.prior == "diagonal":
        mean, log_std = of_positions(level.split.prior, labels)
        latents.append((x - mean) / torch.exp(log_std))
        return latents, log_det - log_std.expand(x.shape).reshape(len(x), -1).sum(1)
    h = x.new_zeros(len(x), 2 * x.shape[1], *x.shape[2:])
    if config.learn_top:
        h = scaled_conv(h, level.split.prior.conv)
    if config.classes:
        onehot = F.one_hot(labels, config.classes).to(x.dtype)
        linear = level.split.prior.classes_map
        by_class = (onehot @ linear.weight.T + linear.b) * torch.exp(3 * linear.logs)
        h = h + by_class[:, :, None, None]
    mean, log_std = h[:, : x.shape[1]], h[:, x.shape[1] :]
    latents.append((x - mean) / torch.exp(log_std))
    return latents, log_det - log_std.reshape(len(x), -1).sum(1)


def of_positions(prior, labels):
    """Mean and log σ of each position, for each label."""
    which = slice(None) if labels is None else labels
    return prior.mean[which], prior.log_std[which]


def squeeze(x):
    batch, channels, height, width = x.shape
    y = x.new_zeros(batch, 4 * channels, height // 2, width // 2)
    for c in range(channels):
        for dy in range(2):
            for dx in range(2):
                y[:, 4 * c + 2 * dy + dx] = x[:, c, dy::2, dx::2]
    return y


def actnorm(x, layer):
    scale = torch.exp(3 * layer.logs)
    y = (x + layer.b[:, None, None]) * scale[:, None, None]
    return y, x.shape[2] * x.shape[3] * 3 * layer.logs.sum()


def permute(x, layer, kind):
    if kind in ("shuffle", "reverse"):
        return x[:, layer.order], 0.0
    if kind == "plain":
        W = layer.weight
    else:
        channels = layer.channels
        L = torch.eye(channels, dtype=x.dtype)
        U = torch.diag(layer.sign_s * torch.exp(layer.log_s))
        below, above = (f(channels, channels, o) for f, o in ((torch.tril_indices, -1),
                                                              (torch.triu_indices, 1)))  # fmt: skip
        L = L.index_put((below[0], below[1]), layer.lower)
        U = U.index_put((above[0], above[1]), layer.upper)
        P = torch.eye(channels, dtype=x.dtype)[layer.rows]
        W = P @ L @ U
    y = torch.einsum("ij,bjhw->bihw", W, x)
    return y, x.shape[2] * x.shape[3] * torch.linalg.slogdet(W).logabsdet


def couple(x, layer, config):
    kept = (x.shape[1] + 1) // 2
    x1, x2 = x[:, :kept], x[:, kept:]
    h = F.relu(scaled_conv(x1, layer.network.first))
    h = F.relu(scaled_conv(h, layer.network.second))
    h = scaled_conv(h, layer.network.last)
    if config.coupling == "additive":
        return torch.cat((x1, x2 + h), 1), 0.0
    shift, raw = h[:, 0::2], h[:, 1::2]
    scale = {
        "sigmoid": torch.sigmoid(raw + 2),
        "bounded": 2 ** torch.tanh(raw / math.log(2)),
        "exp": torch.exp(raw),
        "inverse_sigmoid": 1 / torch.sigmoid(raw + 2),
    }[config.coupling_scale]
    log_det = torch.log(scale).reshape(len(x), -1).sum(1)
    return torch.cat((x1, (x2 + shift) * scale), 1), log_det


def scaled_conv(x, layer):
    """(conv(x) + b)·exp(3·logs); 3x3 kernels see one more channel, 1 on the padding, 0 inside."""
    weight = layer.weight
    if layer.edge is not None:
        weight = torch.cat((weight, layer.edge[:, None]), 1)
        edge = x.new_zeros(len(x), 1, *x.shape[2:])
        x = torch.cat((F.pad(x, (1, 1, 1, 1)), F.pad(edge, (1, 1, 1, 1), value=1.0)), 1)
    h = F.conv2d(x, weight) + layer.b[:, None, None]
    return h * torch.exp(3 * layer.logs)[:, None, None]
