#!/usr/bin/env python3
"""A training step of torchvision's ResNet or timm's ViT in PyTorch on the CPU, beside `cairn bench step` of the same model.

fp32 or bf16 autocast, eager or compiled, random images; SGD with momentum for ResNets, AdamW with clipping for ViTs. Prints
one JSON object with the median of the measured steps, by the wall clock and by the processor's time, which other programs
on the machine change less.
"""
import argparse
import json
import statistics
import time

import torch
from torch import nn
from torch.nn import functional


def make_model(name, small, classes):
    if name.startswith("vit"):
        import timm

        return timm.create_model(name, num_classes=classes)
    import torchvision

    model = getattr(torchvision.models, name)(num_classes=classes)
    if small:
        model.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        model.maxpool = nn.Identity()
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet18", help="resnet18, resnet34, resnet50 or timm's name of a ViT")
    parser.add_argument("--stem", choices=("small", "imagenet"), default="small", help="of a ResNet")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--type", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    layout = torch.channels_last if options.channels_last else torch.contiguous_format
    model = make_model(options.model, options.stem == "small", options.classes).train().to(memory_format=layout)
    images = torch.randn(options.batch, 3, options.size, options.size).to(memory_format=layout)
    labels = torch.randint(0, options.classes, (options.batch,))
    if options.model.startswith("vit"):
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
        limit = 1.0
    else:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, fused=True)
        limit = None
    run = torch.compile(model) if options.compile else model

    def step():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=options.type == "bf16"):
            loss = functional.cross_entropy(run(images).float(), labels)
        loss.backward()
        if limit:
            nn.utils.clip_grad_norm_(model.parameters(), limit)
        optimizer.step()

    wall, processor = [], []
    for index in range(options.steps + 2):
        begin = time.perf_counter(), time.process_time()
        step()
        if index >= 2:
            wall.append(time.perf_counter() - begin[0])
            processor.append(time.process_time() - begin[1])
    seconds = statistics.median(wall)
    print(json.dumps({
        "torch": torch.__version__,
        "model": options.model,
        "compiled": options.compile,
        "channels_last": options.channels_last,
        "type": options.type,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "seconds": seconds,
        "processor_seconds": statistics.median(processor),
        "images_per_second": options.batch / seconds,
    }))


if __name__ == "__main__":
    main()
