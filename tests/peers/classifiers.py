#!/usr/bin/env python3
"""Random ResNets of torchvision and ViTs of timm, imported by Cairn: classifiers.py CAIRN

Each model, with running statistics and norms that are not the initial ones, is written as safetensors with a config.json,
imported, asked about one image, exported and loaded back. Prints the largest difference of a probability and of a weight,
and fails above 1e-5 and 0. Needs torch, torchvision, timm, safetensors and pillow.
"""
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy
import timm
import torch
import torchvision
from PIL import Image
from safetensors.torch import load_file, save_file

MEAN, DEVIATION, CLASSES = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225], 7


def randomise(model):
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
        if isinstance(module, (torch.nn.BatchNorm2d, torch.nn.LayerNorm)):
            module.weight.data.uniform_(0.3, 0.6)
            module.bias.data.normal_(0, 0.2)


def main():
    cairn = sys.argv[1]
    torch.manual_seed(3)
    pixels = numpy.random.default_rng(5).integers(0, 256, (224, 224, 3), dtype=numpy.uint8)
    models = {name: getattr(torchvision.models, name)(num_classes=CLASSES) for name in ("resnet18", "resnet34", "resnet50")}
    models["vit_tiny_patch16_224"] = timm.create_model("vit_tiny_patch16_224", num_classes=CLASSES)
    wrong = False
    for name, model in models.items():
        randomise(model.eval())
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            source = folder / "source"
            source.mkdir()
            weights = {key: value.contiguous() for key, value in model.state_dict().items()}
            save_file(weights, source / "model.safetensors")
            (source / "config.json").write_text(json.dumps({
                "architecture": name, "num_classes": CLASSES, **({"pretrained_cfg": {"mean": MEAN, "std": DEVIATION}} if name != "resnet34" else {})}))
            Image.fromarray(pixels).save(folder / "image.png")

            def run(*arguments):
                return subprocess.run([cairn, *map(str, arguments)], check=True, capture_output=True, text=True).stdout

            run("import", source, folder / "run")
            answer = json.loads(run("predict", folder / "run", folder / "image.png", "--top", CLASSES, "--json"))
            ours = {entry["class"]: entry["probability"] for entry in answer[0]["classes"]}
            run("export", folder / "run", folder / "back")
            back = load_file(folder / "back" / "model.safetensors")
        image = torch.tensor(pixels).permute(2, 0, 1)[None].float() / 255
        image = (image - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(DEVIATION).view(1, 3, 1, 1)
        with torch.no_grad():
            theirs = model(image).softmax(1)[0]
        difference = max(abs(ours[i] - float(theirs[i])) for i in range(CLASSES))
        model.load_state_dict(back)
        changed = max(float((back[key].float() - weights[key].float()).abs().max()) for key in back)
        print(f"{name:22} probabilities differ by {difference:.1e}, weights that come back by {changed:.1e}")
        wrong = wrong or difference > 1e-5 or changed > 0
    sys.exit(wrong)


if __name__ == "__main__":
    main()
