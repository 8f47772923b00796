#!/usr/bin/env python3
"""Time of attention in other libraries, at the shapes of benchmark_gpu_attention: linear attention
of flash-linear-attention, and exact softmax of PyTorch by cuDNN and by its flash kernels. Causal,
bf16.

Each is first held against the definition in double on a short line; a row whose output or whose
gradient of the keys is off says so, and the program fails.
"""

import sys

import measure

FIRST_WITH_RIGHT_GRADIENTS = (0, 5, 1)
LARGEST_ERROR = 2e-2  # of bf16, relative to the result's root of the mean square


def exact(torch, kind, query, key, value):
    """The definition, [tokens, heads, dim] each, in double."""
    if kind == "softmax":
        weights = torch.einsum("ihd,jhd->hij", query, key) / query.shape[-1] ** 0.5
        hidden = torch.ones_like(weights[0], dtype=torch.bool).triu(1)
        weights = weights.masked_fill(hidden, float("-inf")).softmax(-1)
    else:
        features = [torch.nn.functional.elu(x) + 1 for x in (query, key)]
        weights = torch.einsum("ihd,jhd->hij", *features).tril()
        weights = weights / weights.sum(-1, keepdim=True)
    return torch.einsum("hij,jhd->ihd", weights, value)


class Call:
    """Forward and backward of `attend` on [tokens, heads, dim] of random numbers."""

    def __init__(self, torch, attend, tokens, heads, dim, dtype):
        generator = torch.Generator(device="cuda").manual_seed(1)
        draw = lambda: torch.randn(
            tokens, heads, dim, device="cuda", generator=generator, dtype=torch.float32
        ).to(torch.bfloat16)
        self.torch, self.attend = torch, attend
        self.inputs = [draw().to(dtype).requires_grad_() for _ in range(3)]
        self.d_out = draw().to(dtype)

    def forward(self):
        with self.torch.no_grad():
            return self.attend(*self.inputs)

    def both(self):
        out = self.attend(*self.inputs)
        return out, self.torch.autograd.grad(out, self.inputs, self.d_out)


def errors_of(torch, attend, kind, heads, dim):
    """Of the output and of the gradient of the keys, on a line of 384 tokens."""
    call = Call(torch, attend, 384, heads, dim, torch.bfloat16)
    truth = Call(torch, lambda *x: exact(torch, kind, *x), 384, heads, dim, torch.float64)
    (out, (_, d_key, _)), (true_out, (_, true_d_key, _)) = call.both(), truth.both()
    error = lambda got, true: ((got.double() - true).norm() / true.norm()).item()
    return error(out, true_out), error(d_key, true_d_key)


def peers(torch):
    """(name, kind, attend), as far as they are installed."""
    functional, attention = torch.nn.functional, torch.nn.attention

    def softmax_by(backend):
        def attend(query, key, value):
            heads_first = [x.transpose(0, 1)[None] for x in (query, key, value)]
            with attention.sdpa_kernel(backend):
                out = functional.scaled_dot_product_attention(*heads_first, is_causal=True)
            return out[0].transpose(0, 1)

        return attend

    found = []
    version = measure.version_of("flash-linear-attention")
    if version is None:
        print("flash-linear-attention is not installed", file=sys.stderr)
    elif version < FIRST_WITH_RIGHT_GRADIENTS:
        print("flash-linear-attention is older than 0.5.1 and left out", file=sys.stderr)
    else:
        from fla.ops.linear_attn import chunk_linear_attn

        def linear(query, key, value, normalize=True):
            features = [(functional.elu(x) + 1)[None] for x in (query, key)]
            return chunk_linear_attn(*features, value[None], scale=1.0, normalize=normalize)[0][0]

        name = f"flash-linear-attention {'.'.join(map(str, version))}, elu + 1 outside"
        found.append((name, "elu1", linear))
    backends = attention.SDPBackend
    found.append(("softmax, cuDNN", "softmax", softmax_by(backends.CUDNN_ATTENTION)))
    found.append(("softmax, PyTorch's flash", "softmax", softmax_by(backends.FLASH_ATTENTION)))
    return found


def main():
    given = measure.options(__doc__, tokens=16384, heads=64, rounds=5)
    torch = measure.torch_with_gpu()
    measure.header(torch, "attention; ps a token and head, bf16")
    print("| peer | D | heads x tokens | forward | forward + backward | as a graph |", end="")
    print(" error of out, d_key |\n|---|---|---|---|---|---|---|")
    right = True
    for name, kind, attend in peers(torch):
        for dim in (64, 128):
            try:
                errors = errors_of(torch, attend, kind, 2, dim)
                call = Call(torch, attend, given.tokens, given.heads, dim, torch.bfloat16)
                scale = 1e12 / (given.tokens * given.heads)
                forward = scale * measure.seconds_a_call(torch, call.forward, given.rounds)
                both = scale * measure.seconds_a_call(torch, call.both, given.rounds)
            except Exception as error:  # a peer that does not run here is no reason to stop
                print(f"| {name} | {dim} | {measure.reason(error)} | | | | |", flush=True)
                continue
            try:
                graph = measure.captured(torch, call.both)
                replay = f"{scale * measure.seconds_a_call(torch, graph, given.rounds):.0f}"
            except Exception:
                replay = "cannot be captured"
            fine = max(errors) < LARGEST_ERROR
            right = right and fine
            print(
                f"| {name} | {dim} | {given.heads} x {given.tokens} | {forward:.0f} | {both:.0f} | "
                f"{replay} | {errors[0]:.1e}, {errors[1]:.1e} |{'' if fine else ' WRONG'}",
                flush=True,
            )
    sys.exit(0 if right else 1)


if __name__ == "__main__":
    main()
