#!/usr/bin/env python3
"""The loss of a checkpoint by the README's formulas alone: numpy, quadratic attention, no code of Longscan.

usage: readme_formulas.py CHECKPOINT.h5 STORE.h5
Prints the mean loss over the first windows of the validation split.
"""
import re
import sys

import h5py
import numpy as np

WINDOWS = 2


def key(configuration, name, otherwise=None):
    found = re.search(rf"^\s*{name}: (\S+)", configuration, re.MULTILINE)
    return found.group(1).strip('"') if found else otherwise


def main(checkpoint_path, store_path):
    with h5py.File(checkpoint_path) as file:
        p = {name: file["model"][name][()].astype(np.float64) for name in file["model"]}
        configuration = file.attrs["configuration"]
    if isinstance(configuration, bytes):
        configuration = configuration.decode()
    with h5py.File(store_path) as file:
        stream = file["validation/tokens"][()].astype(int)
        record_starts = set(file["validation/record_offsets"][()].tolist())
    width, heads = int(key(configuration, "width")), int(key(configuration, "heads"))
    layers, window = int(key(configuration, "layers")), int(key(configuration, "window"))
    positions, mlp = key(configuration, "positions"), key(configuration, "mlp")
    isolate = key(configuration, "isolate_records") == "true"
    rms = key(configuration, "norm") == "rms_norm"
    begin = p["embedding.weight"].shape[0] - 3  # pad, begin, end, mask stand last

    def norm(x, name):
        if rms:
            return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * p[name + ".weight"]
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5)
        return x * p[name + ".weight"] + p[name + ".bias"]

    def linear(x, name):
        return x @ p[name + ".weight"].T + p[name + ".bias"]

    def angles(n, dim):
        return np.arange(n)[:, None] / 10000 ** (2 * np.arange(dim // 2) / dim)

    def rotate(x):  # [n, heads, D]
        half = x.shape[-1] // 2
        a = angles(x.shape[0], x.shape[-1])[:, None, :]
        first, second = x[..., :half], x[..., half:]
        return np.concatenate(
            [first * np.cos(a) - second * np.sin(a), second * np.cos(a) + first * np.sin(a)], -1)

    def phi(x):
        return np.where(x > 0, x + 1, np.exp(np.minimum(x, 0)))

    def attention(x, name):
        n = x.shape[0]
        q, k, v = [part.reshape(n, heads, -1) for part in np.split(linear(x, name), 3, axis=1)]
        if positions == "rotary":
            q, k = rotate(q), rotate(k)
        scores = np.einsum("ihd,jhd->hij", phi(q), phi(k)) * np.tril(np.ones((n, n)))
        scores /= scores.sum(-1, keepdims=True)
        return np.einsum("hij,jhd->ihd", scores, v).reshape(n, width)

    def activate(u):
        if mlp == "relu":
            return np.maximum(u, 0)
        if mlp == "swiglu":
            gate, up = np.split(u, 2, axis=1)
            return gate / (1 + np.exp(-gate)) * up
        return u / (1 + np.exp(-2 * np.sqrt(2 / np.pi) * (u + 0.044715 * u**3)))

    def loss(tokens, targets):
        x = p["embedding.weight"][tokens]
        if positions == "learned":
            x = x + p["positions.weight"][: len(tokens)]
        if positions == "sinusoidal":
            a = angles(len(tokens), width)
            x[:, 0::2] += np.sin(a)
            x[:, 1::2] += np.cos(a)
        for i in range(layers):
            name = f"layers.{i}."
            x = x + linear(attention(norm(x, name + "attention.norm"),
                                     name + "attention.query_key_value"), name + "attention.output")
            x = x + linear(activate(linear(norm(x, name + "mlp.norm"), name + "mlp.up")),
                           name + "mlp.down")
        logits = norm(x, "norm") @ p.get("head.weight", p["embedding.weight"]).T
        largest = logits.max(-1, keepdims=True)
        normalizer = np.log(np.exp(logits - largest).sum(-1)) + largest[:, 0]
        return normalizer - logits[np.arange(len(targets)), targets]

    losses = []
    for first in range(0, min(WINDOWS * window, len(stream)), window):
        last = min(first + window, len(stream))
        inner = sorted(r for r in record_starts if first < r < last) if isolate else []
        for start, end in zip([first] + inner, inner + [last]):
            fresh = start == 0 or (isolate and start in record_starts)
            before = begin if fresh else stream[start - 1]
            losses.append(loss(np.concatenate([[before], stream[start:end - 1]]), stream[start:end]))
    print(f"{np.concatenate(losses).mean():.6f}")


main(*sys.argv[1:])
