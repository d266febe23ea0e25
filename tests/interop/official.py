"""The official model in plain float64 operations on its own variables, channels last.

It shares no code with glowflow and knows nothing of its names: what is converted is held to it.
"""

import math

import numpy as np


def variables(
    seed=0,
    *,
    channels=3,
    levels=2,
    steps=2,
    width=8,
    coupling="affine",
    permutation="plain",
    learn_top=True,
    classes=0,
):
    """Random variables by their official names, none of them as it is initialised."""
    rng = np.random.default_rng(seed)
    made = {}

    def normal(name, *shape, std=0.1):
        made[name] = rng.normal(0, std, shape).astype(np.float32)

    def actnorm(scope, c):
        normal(f"{scope}/actnorm_center/b", 1, 1, 1, c)
        normal(f"{scope}/actnorm_scale/logs", 1, 1, 1, c, std=0.05)

    def zeros(scope, *shape, vector=(1, 1, 1)):
        normal(f"{scope}/W", *shape)
        normal(f"{scope}/b", *vector, shape[-1])
        normal(f"{scope}/logs", 1, shape[-1], std=0.05)

    c = 4 * channels
    for level in range(levels):
        for step in range(steps):
            scope = f"model/{level}/{step}"
            actnorm(scope, c)
            W = np.linalg.qr(rng.normal(size=(c, c)))[0] + 0.05 * rng.normal(size=(c, c))
            if permutation == "plain":
                made[f"{scope}/invconv/W"] = W.astype(np.float32)
            elif permutation == "lu":
                made[f"{scope}/invconv/P"] = np.eye(c, dtype=np.float32)[rng.permutation(c)]
                # What is outside of the triangles is never looked at.
                normal(f"{scope}/invconv/L", c, c, std=0.2)
                normal(f"{scope}/invconv/U", c, c, std=0.2)
                signs = rng.choice([-1.0, 1.0], c)
                made[f"{scope}/invconv/sign_S"] = signs.astype(np.float32)
                normal(f"{scope}/invconv/log_S", c)
            elif permutation == "shuffle":
                order = rng.permutation(c).astype(np.int32)
                made[f"{scope}/shuffle/indices"] = order
                made[f"{scope}/shuffle/indices_inverse"] = np.argsort(order).astype(np.int32)
            normal(f"{scope}/f1/l_1/W", 3, 3, c // 2 + 1, width)
            actnorm(f"{scope}/f1/l_1", width)
            normal(f"{scope}/f1/l_2/W", 1, 1, width, width, std=0.3)
            actnorm(f"{scope}/f1/l_2", width)
            out = c if coupling == "affine" else c // 2
            zeros(f"{scope}/f1/l_last", 3, 3, width + 1, out)
        if level < levels - 1:
            zeros(f"model/pool{level}/conv", 3, 3, c // 2 + 1, c)
            c *= 2
    if learn_top:
        zeros("model/prior/p", 3, 3, 2 * c + 1, 2 * c)
    if classes:
        zeros("model/prior/y_emb", classes, 2 * c, vector=(1,))
        zeros("model/classifier", c, classes, vector=(1,))
    return made


class Official:
    """log p(x), whitened latents and decoded images of these variables."""

    def __init__(self, variables):
        self.v = {name: value.astype(np.float64) for name, value in variables.items()}
        found = [name.split("/") for name in variables if name.endswith("actnorm_center/b")]
        found = [(int(name[1]), int(name[2])) for name in found]
        self.levels = 1 + max(level for level, _ in found)
        self.steps = 1 + max(step for _, step in found)

    def encode(self, x, y=None):
        """x (B, H, W, C), whitened latents level by level, and log|det| with the prior's scales."""
        z, log_det, latents = x, np.zeros(len(x)), []
        for level in range(self.levels):
            z = squeeze(z)
            for step in range(self.steps):
                z, added = self._step(z, f"model/{level}/{step}")
                log_det = log_det + added
            if level < self.levels - 1:
                half = z.shape[-1] // 2
                z, away = z[..., :half], z[..., half:]
                h = self._zeros(z, f"model/pool{level}/conv")
                mean, log_sd = h[..., 0::2], h[..., 1::2]
                latents.append((away - mean) / np.exp(log_sd))
                log_det = log_det - log_sd.sum((1, 2, 3))
        mean, log_sd = self._top(z, y)
        latents.append((z - mean) / np.exp(log_sd))
        self.z = z
        return latents, log_det - log_sd.sum((1, 2, 3))

    def log_prob(self, x, y=None):
        latents, log_det = self.encode(x, y)
        normal = sum((-0.5 * (e**2 + math.log(2 * math.pi))).sum((1, 2, 3)) for e in latents)
        return normal + log_det

    def logits(self, x, y):
        self.encode(x, y)
        return self._linear(self.z.mean((1, 2)), "model/classifier")

    def decode(self, latents, y=None):
        mean, log_sd = self._top(latents[-1], y)
        z = mean + latents[-1] * np.exp(log_sd)
        for level in reversed(range(self.levels)):
            if level < self.levels - 1:
                h = self._zeros(z, f"model/pool{level}/conv")
                z = np.concatenate([z, h[..., 0::2] + latents[level] * np.exp(h[..., 1::2])], -1)
            for step in reversed(range(self.steps)):
                z = self._back(z, f"model/{level}/{step}")
            z = unsqueeze(z)
        return z

    def _step(self, z, scope):
        pixels = z.shape[1] * z.shape[2]
        logs = 3 * self.v[f"{scope}/actnorm_scale/logs"]
        z = (z + self.v[f"{scope}/actnorm_center/b"]) * np.exp(logs)
        W = self._matrix(scope, z.shape[-1])
        z = z @ W
        log_det = pixels * (logs.sum() + np.linalg.slogdet(W)[1])
        half = z.shape[-1] // 2
        first, second = z[..., :half], z[..., half:]
        h = self._network(first, scope)
        if h.shape[-1] == half:
            return np.concatenate([first, second + h], -1), log_det
        scale = 1 / (1 + np.exp(-(h[..., 1::2] + 2)))
        second = (second + h[..., 0::2]) * scale
        return np.concatenate([first, second], -1), log_det + np.log(scale).sum((1, 2, 3))

    def _back(self, z, scope):
        half = z.shape[-1] // 2
        first, second = z[..., :half], z[..., half:]
        h = self._network(first, scope)
        if h.shape[-1] == half:
            second = second - h
        else:
            second = second * (1 + np.exp(-(h[..., 1::2] + 2))) - h[..., 0::2]
        z = np.concatenate([first, second], -1) @ np.linalg.inv(self._matrix(scope, z.shape[-1]))
        logs = 3 * self.v[f"{scope}/actnorm_scale/logs"]
        return z * np.exp(-logs) - self.v[f"{scope}/actnorm_center/b"]

    def _matrix(self, scope, c):
        v = self.v
        if f"{scope}/invconv/W" in v:
            return v[f"{scope}/invconv/W"]
        if f"{scope}/invconv/P" in v:
            P, L, U, sign, log_s = (
                v[f"{scope}/invconv/{name}"] for name in ("P", "L", "U", "sign_S", "log_S")
            )
            lower = np.tril(L, -1) + np.eye(c)
            return P @ lower @ (np.triu(U, 1) + np.diag(sign * np.exp(log_s)))
        order = np.arange(c)[::-1]
        if f"{scope}/shuffle/indices" in v:
            order = v[f"{scope}/shuffle/indices"].astype(int)
        return np.eye(c)[:, order]

    def _network(self, x, scope):
        h = x
        for layer in ("l_1", "l_2"):
            name = f"{scope}/f1/{layer}"
            h = conv(h, self.v[f"{name}/W"]) + self.v[f"{name}/actnorm_center/b"]
            h = np.maximum(h * np.exp(3 * self.v[f"{name}/actnorm_scale/logs"]), 0)
        return self._zeros(h, f"{scope}/f1/l_last")

    def _zeros(self, x, scope):
        h = conv(x, self.v[f"{scope}/W"]) + self.v[f"{scope}/b"]
        return h * np.exp(3 * self.v[f"{scope}/logs"])

    def _linear(self, x, scope):
        return (x @ self.v[f"{scope}/W"] + self.v[f"{scope}/b"]) * np.exp(
            3 * self.v[f"{scope}/logs"]
        )

    def _top(self, z, y):
        c = z.shape[-1]
        h = np.zeros((*z.shape[:3], 2 * c))
        if "model/prior/p/W" in self.v:
            h = self._zeros(h, "model/prior/p")
        if "model/prior/y_emb/W" in self.v:
            onehot = np.eye(len(self.v["model/prior/y_emb/W"]))[y]
            h = h + self._linear(onehot, "model/prior/y_emb")[:, None, None]
        return h[..., :c], h[..., c:]


def conv(x, W):
    """'SAME' convolution, HWIO; a 3x3 kernel sees one more channel, 1 on the padding."""
    if W.shape[0] == 1:
        return x @ W[0, 0]
    batch, height, width, _ = x.shape
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    mask = np.ones((batch, height + 2, width + 2, 1))
    mask[:, 1:-1, 1:-1] = 0
    padded = np.concatenate([padded, mask], -1)
    return sum(
        padded[:, i : i + height, j : j + width] @ W[i, j] for i in range(3) for j in range(3)
    )


def squeeze(x):
    b, h, w, c = x.shape
    x = x.reshape(b, h // 2, 2, w // 2, 2, c)
    return x.transpose(0, 1, 3, 5, 2, 4).reshape(b, h // 2, w // 2, 4 * c)


def unsqueeze(x):
    b, h, w, c = x.shape
    x = x.reshape(b, h, w, c // 4, 2, 2)
    return x.transpose(0, 1, 4, 2, 5, 3).reshape(b, 2 * h, 2 * w, c // 4)
