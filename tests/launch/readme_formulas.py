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


def parse(text):
    """Protobuf text format as nested dicts; entries of a name that occurs more than once, in a list."""
    words = re.findall(r'"[^"]*"|[{}\[\]]|[^\s{}\[\]:,]+', text)

    def section(place):
        found = {}
        while place < len(words) and words[place] != "}":
            name, place = words[place], place + 1
            if words[place] == "{":
                value, place = section(place + 1)
            elif words[place] == "[":
                end = words.index("]", place)
                value, place = words[place + 1:end], end
            else:
                value = words[place].strip('"')
            found.setdefault(name, []).append(value)
            place += 1
        return found, place

    return section(0)[0]


def philox(counter, key):
    """Four words of Philox 4x32-10 (Salmon et al. 2011)."""
    counter, key = list(counter), list(key)
    for _ in range(10):
        a, b = 0xD2511F53 * counter[0], 0xCD9E8D57 * counter[2]
        counter = [(b >> 32) ^ counter[1] ^ key[0], b & 0xFFFFFFFF,
                   (a >> 32) ^ counter[3] ^ key[1], a & 0xFFFFFFFF]
        key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return counter


def uniform(purpose, seed, step, index):
    """Four numbers in (0, 1)."""
    words = philox([index & 0xFFFFFFFF, index >> 32, step & 0xFFFFFFFF, step >> 32],
                   [seed & 0xFFFFFFFF, seed >> 32 ^ (purpose * 0x9E3779B9 & 0xFFFFFFFF)])
    return [(word + 0.5) / 2**32 for word in words]


def random_features(seed, steps, layer, dim, attention):
    """W, [features, dim], of a layer."""
    features, interval = int(attention["features"][0]), int(attention["redraw_interval"][0])
    step = ((steps // interval if interval > 0 else 0) << 32) + layer
    numbers = [uniform(6, seed, step, index) for index in range(features * dim)]
    w = np.reshape([np.sqrt(-2 * np.log(u[0])) * np.cos(2 * np.pi * u[1]) for u in numbers],
                   (features, dim))
    lengths = np.linalg.norm(w, axis=1, keepdims=True)
    if attention["orthogonal"][0] == "true":
        for first in range(0, features, dim):
            q, r = np.linalg.qr(w[first:first + dim].T)
            w[first:first + dim] = (q * np.sign(np.diag(r))).T
    if attention["row_norms"][0] == "regularized":
        lengths = np.sqrt(dim)
    return w / np.linalg.norm(w, axis=1, keepdims=True) * lengths


def mask(token, place, seed, letters):
    """Input and target at a place of the stream, in epoch 0."""
    u = uniform(5, seed, 0, place)
    if token >= letters or u[0] >= 0.15:
        return token, -1
    return (letters + 3 if u[1] < 0.8 else int(u[2] * letters) if u[1] < 0.9 else token), token


def main(checkpoint_path, store_path):
    with h5py.File(checkpoint_path) as file:
        p = {name: file["model"][name][()].astype(np.float64) for name in file["model"]}
        configuration, steps = file.attrs["configuration"], int(file.attrs["step"])
    if isinstance(configuration, bytes):
        configuration = configuration.decode()
    with h5py.File(store_path) as file:
        stream = file["validation/tokens"][()].astype(int)
        record_starts = set(file["validation/record_offsets"][()].tolist())
    run = parse(configuration)
    data, model, training = run["data"][0], run["model"][0], run["training"][0]
    width, heads, layers = [int(model[name][0]) for name in ("width", "heads", "layers")]
    window, seed = int(data["window"][0]), int(training["seed"][0])
    positions, mlp = model["positions"][0], model["mlp"][0]
    isolate = data["isolate_records"][0] == "true"
    rms = model["norm"][0] == "rms_norm"
    causal, reversible = model["causal"][0] == "true", model["reversible"][0] == "true"
    masked = training["objective"][0] == "masked_token"
    kinds = [dict(model["attention"][0]) for _ in range(layers)]
    for override in model.get("layer_override", []):
        for layer in np.ravel(override["layers"]):
            kinds[int(layer)].update(override["attention"][0])
    w = [random_features(seed, steps, i, width // heads, kinds[i])
         if kinds[i]["kind"][0].startswith("favor") else None for i in range(layers)]
    letters = p["embedding.weight"].shape[0] - 4  # pad, begin, end, mask stand last
    begin = letters + 1

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

    def phi(x, i):
        kind = kinds[i]["kind"][0]
        if kind == "relu":
            return np.maximum(x, 0) + 1e-3
        if kind == "favor_relu":
            return np.maximum(x @ w[i].T, 0) / np.sqrt(len(w[i])) + 1e-3
        if kind.startswith("favor"):
            x = x / x.shape[-1] ** 0.25
            along, square = x @ w[i].T, (x**2).sum(-1, keepdims=True) / 2
            both = [along, -along] if kind == "favor_hyperbolic" else [along]
            return np.exp(np.concatenate(both, -1) - square)
        return np.where(x > 0, x + 1, np.exp(np.minimum(x, 0)))

    def projected(x, i, of):  # [n, heads, D] -> [k, heads, D]
        own = f"layers.{i}.attention.linformer."
        name = next(name for name in (own + of + ".weight", own + "weight", "linformer.weight")
                    if name in p)
        e = p[name][:, : x.shape[0]]
        if kinds[i]["sharing"][0] == "none":
            return np.einsum("hkn,nhd->khd", e.reshape(heads, -1, x.shape[0]), x)
        return np.einsum("kn,nhd->khd", e, x)

    def attention(x, i):
        n, kind = x.shape[0], kinds[i]["kind"][0]
        joint = linear(x, f"layers.{i}.attention.query_key_value")
        q, k, v = [part.reshape(n, heads, -1) for part in np.split(joint, 3, axis=1)]
        if positions == "rotary":
            q, k = rotate(q), rotate(k)
        if kind == "identity":
            return v.reshape(n, width)
        if kind == "linformer":
            k, v = projected(k, i, "key"), projected(v, i, "value")
        if kind in ("softmax", "linformer"):
            scores = np.exp(np.einsum("ihd,jhd->hij", q, k) / np.sqrt(q.shape[-1]))
        else:
            scores = np.einsum("ihd,jhd->hij", phi(q, i), phi(k, i))
        if causal:
            scores = scores * np.tril(np.ones((n, n)))
        scores = scores / scores.sum(-1, keepdims=True)
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
        first = second = x
        for i in range(layers):
            name = f"layers.{i}."

            def attend(x):
                return linear(attention(norm(x, name + "attention.norm"), i),
                              name + "attention.output")

            def feed(x):
                return linear(activate(linear(norm(x, name + "mlp.norm"), name + "mlp.up")),
                              name + "mlp.down")

            if reversible:
                first = first + attend(second)
                second = second + feed(first)
            else:
                x = x + attend(x)
                x = x + feed(x)
        if reversible:
            x = (first + second) / 2
        logits = norm(x, "norm") @ p.get("head.weight", p["embedding.weight"]).T
        largest = logits.max(-1, keepdims=True)
        normalizer = np.log(np.exp(logits - largest).sum(-1)) + largest[:, 0]
        losses = normalizer - logits[np.arange(len(targets)), targets]
        return losses[np.asarray(targets) >= 0]

    losses = []
    for first in range(0, min(WINDOWS * window, len(stream)), window):
        last = min(first + window, len(stream))
        inner = sorted(r for r in record_starts if first < r < last) if isolate else []
        for start, end in zip([first] + inner, inner + [last]):
            if masked:
                places = [mask(int(stream[s]), s, seed, letters) for s in range(start, end)]
                losses.append(loss(*np.transpose(places)))
                continue
            fresh = start == 0 or (isolate and start in record_starts)
            before = begin if fresh else stream[start - 1]
            losses.append(loss(np.concatenate([[before], stream[start:end - 1]]), stream[start:end]))
    print(f"{np.concatenate(losses).mean():.6f}")


main(*sys.argv[1:])
