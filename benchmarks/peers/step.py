#!/usr/bin/env python3
"""Training steps of a PyTorch model of GPT-2 small's shape, at the shapes of benchmark_gpu_step:
exact softmax attention, bf16 with f32 master weights, AdamW; eager, compiled, and as one CUDA graph
a step.

The program fails where a loss is not that of a model that knows nothing at first, or does not fall.
"""

import math
import statistics
import sys
import time

import measure


def make_model(torch, vocabulary, width, layers, heads, longest):
    nn, functional = torch.nn, torch.nn.functional

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
            self.joint, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def forward(self, x):
            batch, tokens, _ = x.shape
            split = lambda part: part.view(batch, tokens, heads, -1).transpose(1, 2)
            parts = map(split, self.joint(self.norms[0](x)).chunk(3, -1))
            attended = functional.scaled_dot_product_attention(*parts, is_causal=True)
            x = x + self.out(attended.transpose(1, 2).reshape(batch, tokens, width))
            gelu = functional.gelu(self.up(self.norms[1](x)), approximate="tanh")
            return x + self.down(gelu)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens = nn.Embedding(vocabulary, width)
            self.positions = nn.Embedding(longest, width)
            self.layers = nn.ModuleList(Layer() for _ in range(layers))
            self.norm = nn.LayerNorm(width)
            for parameter in self.parameters():
                if parameter.dim() > 1:
                    nn.init.normal_(parameter, std=0.02)

        def forward(self, tokens, targets):
            places = torch.arange(tokens.shape[1], device=tokens.device)
            x = self.tokens(tokens) + self.positions(places)
            for layer in self.layers:
                x = layer(x)
            logits = functional.linear(self.norm(x), self.tokens.weight)
            return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())

    return Model().cuda()


class Training:
    """Steps on the same random tokens; `step` leaves the loss in `loss`."""

    def __init__(self, torch, given, window, form):
        torch.manual_seed(1)
        self.torch = torch
        model = make_model(
            torch, given.vocabulary, given.width, given.layers, given.heads, window
        )
        # Captured optimizers count their steps on the GPU.
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True, capturable=True)
        shape = (max(1, given.line // window), window)
        self.tokens, targets = (
            torch.randint(given.vocabulary, shape, device="cuda") for _ in range(2)
        )
        forward = torch.compile(model) if form == "compiled" else model
        self.loss = torch.zeros((), device="cuda")

        def step():
            optimizer.zero_grad(set_to_none=True)
            # A graph cannot keep what autocast casts once a pass.
            with torch.autocast("cuda", torch.bfloat16, cache_enabled=form != "graph"):
                loss = forward(self.tokens, targets)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
            optimizer.step()
            self.loss.copy_(loss.detach())

        step()
        self.first_loss = self.loss.item()
        self.step = measure.captured(torch, step) if form == "graph" else step

    def seconds_a_step(self, steps):
        seconds = []
        for _ in range(steps + 2):
            begin = time.perf_counter()
            self.step()
            self.torch.cuda.synchronize()
            seconds.append(time.perf_counter() - begin)
        return statistics.median(seconds[2:])


def main():
    given = measure.options(
        __doc__,
        shortest=1024,
        longest=16384,
        line=32768,
        width=768,
        layers=12,
        heads=12,
        vocabulary=50304,
        steps=6,
    )
    torch = measure.torch_with_gpu()
    torch.backends.cuda.matmul.allow_tf32 = True
    measure.header(torch, "training step, softmax, bf16")
    print("| window | line | form | ms a step | tokens/s | loss, first and last |")
    print("|---|---|---|---|---|---|")
    right = True
    window = given.shortest
    while window <= given.longest:
        for form in ("eager", "compiled", "graph"):
            try:
                training = Training(torch, given, window, form)
                seconds = training.seconds_a_step(given.steps)
            except Exception as error:  # a form that does not run here is no reason to stop
                print(f"| {window} | | {form} | {measure.reason(error)} | | |", flush=True)
                continue
            line, first, last = training.tokens.numel(), training.first_loss, training.loss.item()
            fine = abs(first - math.log(given.vocabulary)) < 0.5 and last < first
            right = right and fine
            print(
                f"| {window} | {line} | {form} | {seconds * 1e3:.1f} | {line / seconds:.0f} | "
                f"{first:.3f}, {last:.3f} |{'' if fine else ' WRONG'}",
                flush=True,
            )
            del training
            torch.cuda.empty_cache()
        window *= 4
    sys.exit(0 if right else 1)


if __name__ == "__main__":
    main()
