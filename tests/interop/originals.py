"""The ports' own forward passes in plain tensor operations, on state dicts of their layouts.

Nothing here is of the package. `…_state` makes random weights, away from where training starts;
`…_forward` gives log p(x) in nats, the whitened latents, first level first, and class logits.
"""

import math

import torch
import torch.nn.functional as F


class Random:
    """Random numbers of one dtype, the same for the same seed."""

    def __init__(self, seed, dtype):
        self.generator = torch.Generator().manual_seed(seed)
        self.dtype = dtype

    def normal(self, *shape, std=1.0):
        return std * torch.randn(*shape, generator=self.generator, dtype=self.dtype)

    def kernel(self, channels_out, channels_in, size=3, gain=0.5):
        """A kernel whose outputs are about `gain` times its inputs."""
        return self.normal(
            channels_out, channels_in, size, size, std=gain / size / channels_in**0.5
        )

    def signs(self, *shape):
        return torch.where(self.normal(*shape) > 0, 1.0, -1.0).to(self.dtype)

    def permutation(self, n):
        return torch.eye(n, dtype=self.dtype)[torch.randperm(n, generator=self.generator)]

    def rotation(self, n):
        return torch.linalg.qr(self.normal(n, n)).Q + self.normal(n, n, std=0.02)


def squeeze(x):
    return F.pixel_unshuffle(x, 2)


def pixels(x):
    return x.shape[2] * x.shape[3]


def total(x):
    return x.flatten(1).sum(1)


def gaussian(z, mean, log_std):
    """log N(z; mean, σ²), and what z is whitened."""
    eps = (z - mean) * torch.exp(-log_std)
    log_p = -0.5 * eps**2 - log_std.expand(z.shape) - 0.5 * math.log(2 * math.pi)
    return total(log_p), eps


def log_abs_det(W):
    return torch.linalg.slogdet(W).logabsdet


# rosinality/glow-pytorch


def rosinality_state(
    channels=3, blocks=2, flows=2, hidden=6, affine=True, lu=True, dtype=torch.float64, seed=0
):
    random, state = Random(seed, dtype), {}

    def zero_conv(name, channels_in, channels_out):
        state[f"{name}.scale"] = random.normal(1, channels_out, 1, 1, std=0.1)
        weight = random.kernel(channels_out, channels_in)
        state[f"{name}.conv.weight"] = weight
        state[f"{name}.conv.bias"] = random.normal(channels_out, std=0.2)

    for i in range(blocks):
        channels *= 4
        for j in range(flows):
            name = f"blocks.{i}.flows.{j}"
            state[f"{name}.actnorm.loc"] = random.normal(1, channels, 1, 1, std=0.3)
            scale = (
                random.signs(1, channels, 1, 1) * random.normal(1, channels, 1, 1, std=0.2).exp()
            )
            state[f"{name}.actnorm.scale"] = scale
            state[f"{name}.actnorm.initialized"] = torch.tensor(1, dtype=torch.uint8)
            if lu or i == blocks - 1:
                ones = torch.ones(channels, channels, dtype=dtype)
                state[f"{name}.invconv.w_l"] = random.normal(channels, channels, std=0.1)
                state[f"{name}.invconv.w_s"] = random.normal(channels, std=0.1)
                state[f"{name}.invconv.w_u"] = random.normal(channels, channels, std=0.1)
                state[f"{name}.invconv.w_p"] = random.permutation(channels)
                state[f"{name}.invconv.u_mask"] = ones.triu(1)
                state[f"{name}.invconv.l_mask"] = ones.tril(-1)
                state[f"{name}.invconv.s_sign"] = random.signs(channels)
                state[f"{name}.invconv.l_eye"] = torch.eye(channels, dtype=dtype)
            else:
                state[f"{name}.invconv.weight"] = random.rotation(channels)[:, :, None, None]
            net = f"{name}.coupling.net"
            state[f"{net}.0.weight"] = random.kernel(hidden, channels // 2, gain=1.5)
            state[f"{net}.0.bias"] = random.normal(hidden, std=0.2)
            state[f"{net}.2.weight"] = random.kernel(hidden, hidden, 1, gain=1.5)
            state[f"{net}.2.bias"] = random.normal(hidden, std=0.2)
            zero_conv(f"{net}.4", hidden, channels if affine else channels // 2)
        kept = channels if i == blocks - 1 else channels // 2
        zero_conv(f"blocks.{i}.prior", kept, 2 * kept)
        channels //= 2
    return state


def rosinality_forward(state, x):
    def zero_conv(name, x):
        x = F.pad(x, [1, 1, 1, 1], value=1.0)
        y = F.conv2d(x, state[f"{name}.conv.weight"], state[f"{name}.conv.bias"])
        return y * torch.exp(3 * state[f"{name}.scale"])

    def matrix(name):
        if f"{name}.weight" in state:
            return state[f"{name}.weight"][:, :, 0, 0]
        P, L, U, s, log_s = (state[f"{name}.{n}"] for n in ("w_p", "w_l", "w_u", "s_sign", "w_s"))
        L = L * state[f"{name}.l_mask"] + state[f"{name}.l_eye"]
        return P @ L @ (U * state[f"{name}.u_mask"] + torch.diag(s * torch.exp(log_s)))

    log_p, latents = 0.0, []
    blocks = 1 + max(int(name.split(".")[1]) for name in state)
    flows = 1 + max(int(name.split(".")[3]) for name in state if name.split(".")[2] == "flows")
    for i in range(blocks):
        x = squeeze(x)
        for j in range(flows):
            name = f"blocks.{i}.flows.{j}"
            scale = state[f"{name}.actnorm.scale"]
            x = scale * (x + state[f"{name}.actnorm.loc"])
            W = matrix(f"{name}.invconv")
            x = F.conv2d(x, W[:, :, None, None])
            log_p = log_p + pixels(x) * (scale.abs().log().sum() + log_abs_det(W))
            a, b = x.chunk(2, 1)
            net = f"{name}.coupling.net"
            h = F.conv2d(a, state[f"{net}.0.weight"], state[f"{net}.0.bias"], padding=1).relu()
            h = zero_conv(
                f"{net}.4", F.conv2d(h, state[f"{net}.2.weight"], state[f"{net}.2.bias"]).relu()
            )
            if h.shape[1] == x.shape[1]:
                log_s, t = h.chunk(2, 1)
                s = torch.sigmoid(log_s + 2)
                b = (b + t) * s
                log_p = log_p + total(torch.log(s))
            else:
                b = b + h
            x = torch.cat((a, b), 1)
        if i < blocks - 1:
            x, z = x.chunk(2, 1)
            mean, log_std = zero_conv(f"blocks.{i}.prior", x).chunk(2, 1)
        else:
            z = x
            mean, log_std = zero_conv(f"blocks.{i}.prior", torch.zeros_like(x)).chunk(2, 1)
        of_level, eps = gaussian(z, mean, log_std)
        log_p = log_p + of_level
        latents.append(eps)
    return log_p, latents, None


# y0ast/Glow-PyTorch and chaiyujin/glow-pytorch

PORTS = {
    "y0ast": {"net": "block", "conv": "conv.", "linear": "linear.", "top": "learn_top_fn",
              "l": "lower", "u": "upper"},
    "chaiyujin": {"net": "f", "conv": "", "linear": "", "top": "learn_top", "l": "l", "u": "u"},
}  # fmt: skip


def flownet_state(
    port, channels=3, levels=2, steps=2, hidden=6, affine=True, lu=True, learn_top=True, classes=0,
    size=(8, 8), dtype=torch.float64, seed=0,
):  # fmt: skip
    port, random, state = PORTS[port], Random(seed, dtype), {}

    def actnorm(name, channels):
        state[f"{name}.bias"] = random.normal(1, channels, 1, 1, std=0.3)
        state[f"{name}.logs"] = random.normal(1, channels, 1, 1, std=0.2)

    def zero_conv(name, channels_in, channels_out):
        weight = random.kernel(channels_out, channels_in)
        state[f"{name}.{port['conv']}weight"] = weight
        state[f"{name}.{port['conv']}bias"] = random.normal(channels_out, std=0.2)
        state[f"{name}.logs"] = random.normal(channels_out, 1, 1, std=0.1)

    def linear(name, features_in, features_out):
        state[f"{name}.{port['linear']}weight"] = random.normal(features_out, features_in, std=0.3)
        state[f"{name}.{port['linear']}bias"] = random.normal(features_out, std=0.2)
        state[f"{name}.logs"] = random.normal(features_out, std=0.1)

    layer = 0
    for level in range(levels):
        channels *= 4
        for _ in range(steps):
            layer += 1
            name = f"flow.layers.{layer}"
            actnorm(f"{name}.actnorm", channels)
            if lu:
                state[f"{name}.invconv.{port['l']}"] = random.normal(channels, channels, std=0.1)
                state[f"{name}.invconv.log_s"] = random.normal(channels, std=0.1)
                state[f"{name}.invconv.{port['u']}"] = random.normal(channels, channels, std=0.1)
                state[f"{name}.invconv.p"] = random.permutation(channels)
                state[f"{name}.invconv.sign_s"] = random.signs(channels)
            else:
                state[f"{name}.invconv.weight"] = random.rotation(channels)
            net = f"{name}.{port['net']}"
            weight = random.kernel(hidden, channels // 2, gain=1.5)
            state[f"{net}.0.{port['conv']}weight"] = weight
            actnorm(f"{net}.0.actnorm", hidden)
            state[f"{net}.2.{port['conv']}weight"] = random.kernel(hidden, hidden, 1, gain=1.5)
            actnorm(f"{net}.2.actnorm", hidden)
            zero_conv(f"{net}.4", hidden, channels if affine else channels // 2)
        if level < levels - 1:
            layer += 1
            zero_conv(f"flow.layers.{layer}.conv", channels // 2, channels)
            channels //= 2
            layer += 1
    if learn_top:
        zero_conv(port["top"], 2 * channels, 2 * channels)
    if classes:
        linear("project_ycond", classes, 2 * channels)
        linear("project_class", channels, classes)
    state["prior_h"] = torch.zeros(1, 2 * channels, *(n >> levels for n in size), dtype=dtype)
    return state


def flownet_forward(port, state, x, labels=None):
    port = PORTS[port]

    def norm(name, x):
        return (x + state[f"{name}.bias"]) * torch.exp(state[f"{name}.logs"])

    def conv(name, x, padding=1):
        return F.conv2d(x, state[f"{name}.{port['conv']}weight"], padding=padding)

    def zero_conv(name, x):
        y = conv(name, x) + state[f"{name}.{port['conv']}bias"][:, None, None]
        return y * torch.exp(3 * state[f"{name}.logs"])

    def linear(name, x):
        weight, bias = (state[f"{name}.{port['linear']}{n}"] for n in ("weight", "bias"))
        return (x @ weight.T + bias) * torch.exp(3 * state[f"{name}.logs"])

    def matrix(name):
        if f"{name}.weight" in state:
            return state[f"{name}.weight"]
        P, L, U = (state[f"{name}.{n}"] for n in ("p", port["l"], port["u"]))
        s = state[f"{name}.sign_s"] * torch.exp(state[f"{name}.log_s"])
        return P @ (L.tril(-1) + torch.eye(len(L), dtype=L.dtype)) @ (U.triu(1) + torch.diag(s))

    log_p, latents = 0.0, []
    x = squeeze(x)
    layers = max(int(name.split(".")[2]) for name in state if name.startswith("flow."))
    for layer in range(1, layers + 1):
        name = f"flow.layers.{layer}"
        if f"{name}.actnorm.bias" in state:
            x = norm(f"{name}.actnorm", x)
            W = matrix(f"{name}.invconv")
            x = F.conv2d(x, W[:, :, None, None])
            log_p = log_p + pixels(x) * (state[f"{name}.actnorm.logs"].sum() + log_abs_det(W))
            z1, z2 = x.chunk(2, 1)
            net = f"{name}.{port['net']}"
            h = norm(f"{net}.0.actnorm", conv(f"{net}.0", z1)).relu()
            h = norm(f"{net}.2.actnorm", conv(f"{net}.2", h, padding=0)).relu()
            h = zero_conv(f"{net}.4", h)
            if h.shape[1] == x.shape[1]:
                scale = torch.sigmoid(h[:, 1::2] + 2)
                z2 = (z2 + h[:, 0::2]) * scale
                log_p = log_p + total(torch.log(scale))
            else:
                z2 = z2 + h
            x = torch.cat((z1, z2), 1)
        elif f"{name}.conv.logs" in state:
            x, z2 = x.chunk(2, 1)
            h = zero_conv(f"{name}.conv", x)
            of_level, eps = gaussian(z2, h[:, 0::2], h[:, 1::2])
            log_p = log_p + of_level
            latents.append(eps)
            x = squeeze(x)
    h = x.new_zeros(len(x), 2 * x.shape[1], *x.shape[2:])
    if f"{port['top']}.logs" in state:
        h = zero_conv(port["top"], h)
    logits = None
    if labels is not None:
        onehot = F.one_hot(labels, len(state["project_class.logs"])).to(x.dtype)
        h = h + linear("project_ycond", onehot)[:, :, None, None]
        logits = linear("project_class", x.mean((2, 3)))
    mean, log_std = h.chunk(2, 1)
    of_level, eps = gaussian(x, mean, log_std)
    return log_p + of_level, [*latents, eps], logits


# normflows


def normflows_state(
    channels=3, levels=2, steps=2, hidden=6, affine=True, lu=True, normed=False, base="diagonal",
    classes=0, size=(8, 8), dtype=torch.float64, seed=0,
):  # fmt: skip
    random, state = Random(seed, dtype), {}

    def actnorm(name, channels):
        state[f"{name}.s"] = random.normal(1, channels, 1, 1, std=0.2)
        state[f"{name}.t"] = random.normal(1, channels, 1, 1, std=0.3)
        state[f"{name}.data_dep_init_done"] = torch.tensor(1.0)

    for i in range(levels):
        here = channels * 2 ** (levels + 1 - i)
        leaving = here if i == 0 else here // 2
        height, width = (n >> (levels - i) for n in size)
        if base == "channel":
            for name in ("loc", "loc_logs", "log_scale", "log_scale_logs"):
                state[f"q0.{i}.{name}"] = random.normal(1, leaving, 1, 1, std=0.3)
            if classes:
                for name in ("loc_cc", "log_scale_cc"):
                    state[f"q0.{i}.{name}"] = random.normal(classes, leaving, std=0.3)
        else:
            shape = (leaving, height, width, classes) if classes else (1, leaving, height, width)
            state[f"q0.{i}.loc"] = random.normal(*shape, std=0.3)
            state[f"q0.{i}.log_scale"] = random.normal(*shape, std=0.3)
        for j in range(steps):
            name = f"flows.{i}.{j}.flows"
            net = f"{name}.0.flows.1.param_map.net"
            layers = (0, 3, 6) if normed else (0, 2, 4)
            changed = here if affine else here // 2
            state[f"{net}.0.weight"] = random.kernel(hidden, here // 2, gain=1.5)
            state[f"{net}.{layers[1]}.weight"] = random.kernel(hidden, hidden, 1, gain=1.5)
            state[f"{net}.{layers[2]}.weight"] = random.kernel(changed, hidden)
            state[f"{net}.{layers[2]}.bias"] = random.normal(changed, std=0.2)
            for layer in layers[:2]:
                if normed:
                    actnorm(f"{net}.{layer + 1}.actNorm", hidden)
                else:
                    state[f"{net}.{layer}.bias"] = random.normal(hidden, std=0.2)
            if lu:
                state[f"{name}.1.P"] = random.permutation(here)
                state[f"{name}.1.L"] = random.normal(here, here, std=0.1)
                state[f"{name}.1.sign_S"] = random.signs(here)
                state[f"{name}.1.log_S"] = random.normal(here, std=0.1)
                state[f"{name}.1.U"] = random.normal(here, here, std=0.1)
                state[f"{name}.1.eye"] = torch.eye(here, dtype=dtype)
            else:
                state[f"{name}.1.W"] = random.rotation(here)
            actnorm(f"{name}.2", here)
    return state


def normflows_forward(state, x, labels=None, scale="sigmoid"):
    def normed(name, x):
        return x * torch.exp(state[f"{name}.s"]) + state[f"{name}.t"]

    def network(net, x):
        for layer in (0, 2, 3, 4, 6):
            if f"{net}.{layer}.weight" not in state:
                continue
            weight, bias = state[f"{net}.{layer}.weight"], state.get(f"{net}.{layer}.bias")
            x = F.conv2d(x, weight, bias, padding=weight.shape[2] // 2)
            if bias is None:
                x = normed(f"{net}.{layer + 1}.actNorm", x)
            if layer < (6 if f"{net}.6.weight" in state else 4):
                x = x.relu()
        return x

    def matrix(name):
        if f"{name}.W" in state:
            return state[f"{name}.W"]
        P, L, U = (state[f"{name}.{n}"] for n in "PLU")
        s = state[f"{name}.sign_S"] * torch.exp(state[f"{name}.log_S"])
        return P @ (L.tril(-1) + torch.eye(len(L), dtype=L.dtype)) @ (U.triu(1) + torch.diag(s))

    def base(name):
        loc, log_scale = state[f"{name}.loc"], state[f"{name}.log_scale"]
        if f"{name}.loc_logs" in state:
            loc = loc * torch.exp(3 * state[f"{name}.loc_logs"])
            log_scale = log_scale * torch.exp(3 * state[f"{name}.log_scale_logs"])
            if f"{name}.loc_cc" in state:
                loc = loc + state[f"{name}.loc_cc"][labels][:, :, None, None]
                log_scale = log_scale + state[f"{name}.log_scale_cc"][labels][:, :, None, None]
            return loc, log_scale
        if labels is None:
            return loc, log_scale
        return (value[..., labels].permute(3, 0, 1, 2) for value in (loc, log_scale))

    log_p, latents = 0.0, []
    levels = 1 + max(int(name.split(".")[1]) for name in state)
    steps = 1 + max(int(name.split(".")[2]) for name in state if name.startswith("flows"))
    for i in reversed(range(levels)):
        x = squeeze(x)
        for j in reversed(range(steps)):
            name = f"flows.{i}.{j}.flows"
            s = state[f"{name}.2.s"]
            x = (x - state[f"{name}.2.t"]) * torch.exp(-s)
            W = matrix(f"{name}.1")
            x = F.conv2d(x, W[:, :, None, None])
            log_p = log_p + pixels(x) * (log_abs_det(W) - s.sum())
            z1, z2 = x.chunk(2, 1)
            h = network(f"{name}.0.flows.1.param_map.net", z1)
            if h.shape[1] == x.shape[1]:
                raw = h[:, 1::2]
                factor = {
                    "sigmoid": torch.sigmoid(raw + 2),
                    "inverse_sigmoid": 1 / torch.sigmoid(raw + 2),
                    "exp": torch.exp(-raw),
                }[scale]
                z2 = (z2 - h[:, 0::2]) * factor
                log_p = log_p + total(torch.log(factor))
            else:
                z2 = z2 - h
            x = torch.cat((z1, z2), 1)
        x, z = (None, x) if i == 0 else x.chunk(2, 1)
        of_level, eps = gaussian(z, *base(f"q0.{i}"))
        log_p = log_p + of_level
        latents.append(eps)
    return log_p, latents, None
