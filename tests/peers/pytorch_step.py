#!/usr/bin/env python3
"""A training step of GPT-2 124M in PyTorch on the CPU, for tests/peers/compare.sh.

bf16 autocast or fp32, fused causal attention, AdamW fused where this PyTorch has it, gradients clipped to norm 1; random
tokens. Prints one JSON object with the median of the measured steps.
"""
import argparse
import json
import statistics
import sys
import time

import torch
from torch import nn
from torch.nn import functional


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm_1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.norm_2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x):
        batch, length, width = x.shape
        parts = self.qkv(self.norm_1(x)).split(width, dim=2)
        q, k, v = (p.view(batch, length, self.heads, width // self.heads).transpose(1, 2) for p in parts)
        a = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.output(a.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(functional.gelu(self.up(self.norm_2(x)), approximate="tanh"))


class Decoder(nn.Module):
    def __init__(self, vocabulary, width, layers, heads, length):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(length, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.embedding.weight
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, tokens, targets):
        x = self.embedding(tokens) + self.positions(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        logits = self.head(self.norm(x))
        return functional.cross_entropy(logits.view(-1, logits.shape[-1]), targets.view(-1))


def make_optimizer(parameters):
    settings = {"lr": 6e-4, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}
    try:
        return torch.optim.AdamW(parameters, fused=True, **settings), True
    except RuntimeError:
        return torch.optim.AdamW(parameters, **settings), False


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in [("batch", 4), ("length", 1024), ("layers", 12), ("width", 768), ("heads", 12),
                          ("vocabulary", 50257), ("threads", 2), ("warmup", 2), ("steps", 3)]:
        parser.add_argument("--" + name, type=int, default=default)
    parser.add_argument("--type", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()

    torch.manual_seed(1)
    torch.set_num_threads(options.threads)
    model = Decoder(options.vocabulary, options.width, options.layers, options.heads, options.length)
    optimizer, fused = make_optimizer(model.parameters())
    run = torch.compile(model) if options.compile else model
    times = []
    for step in range(options.warmup + options.steps):
        tokens = torch.randint(options.vocabulary, (options.batch, options.length + 1))
        start = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=options.type == "bf16"):
            loss = run(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        value = loss.item()
        times.append(time.perf_counter() - start)
        print(f"step {step + 1}: {times[-1]:.3f} s, loss {value:.4f}", file=sys.stderr)
    seconds = statistics.median(times[options.warmup:])
    print(json.dumps({"torch": torch.__version__, "compiled": options.compile, "fused_adamw": fused,
                      "parameters": sum(p.numel() for p in model.parameters()), "seconds": seconds,
                      "tokens_per_second": options.batch * options.length / seconds}))


if __name__ == "__main__":
    main()
