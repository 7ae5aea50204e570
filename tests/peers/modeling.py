#!/usr/bin/env python3
"""modeling_cairn.py against the conformance cases of decoders, and what Cairn exported against `cairn eval`:

    modeling.py CASE.h5...
    modeling.py FOLDER TEXT LENGTH    prints the mean loss over the text's bytes in sequences of LENGTH

Logits of the whole sequence, routed as in training, and tokens continued as in generation. Fails above 2e-4 of the largest
logit and on any other token. Needs torch, transformers, h5py and pyyaml.
"""
import importlib.util
import sys
from pathlib import Path

import h5py
import torch
import transformers
import yaml

PATH = Path(__file__).parents[2] / "io" / "exchange" / "python" / "modeling_cairn.py"


def load():
    specification = importlib.util.spec_from_file_location("modeling_cairn", PATH)
    module = importlib.util.module_from_spec(specification)
    sys.modules["modeling_cairn"] = module
    specification.loader.exec_module(module)
    return module


def print_loss(folder, path, length):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True).eval()
    tokens = torch.tensor(list(Path(path).read_bytes()))
    total = 0.0
    with torch.no_grad():
        for begin in range(0, len(tokens) - 1, length):
            part = tokens[begin : begin + length + 1]
            logits = model(part[None, :-1]).logits[0]
            total += float(torch.nn.functional.cross_entropy(logits, part[1:], reduction="sum"))
    print(total / (len(tokens) - 1))


def main():
    if not sys.argv[1].endswith(".h5"):
        print_loss(sys.argv[1], sys.argv[2], int(sys.argv[3]))
        return
    modeling = load()
    failed = 0
    for path in sys.argv[1:]:
        with h5py.File(path) as case:
            settings = yaml.safe_load(case.attrs["model"])["model"]
            if settings.get("family", "decoder") != "decoder":
                continue
            model = modeling.CairnForCausalLM(modeling.CairnConfig(cairn=settings)).eval()
            weights = {name: torch.tensor(value[()]) for name, value in case["parameters"].items()}
            model.load_state_dict(weights)
            tokens = torch.tensor(case["tokens"][()]).long()
            report = []
            with torch.no_grad():
                memories = {}
                for layer, group in case.get("memory_before", {}).items():
                    norm = torch.tensor(group["norm"][()]) if "norm" in group else None
                    memories[int(layer.split(".")[1])] = (torch.tensor(group["state"][()]), norm)
                wanted = torch.tensor(case["expect/logits"][()])
                logits = model(tokens[:, :wanted.shape[1]], routing="whole", memories=memories).logits
                difference = float((logits - wanted).abs().max() / wanted.abs().max())
                report.append(f"logits {difference:.1e}")
                failed += not difference < 2e-4
                if "expect/generated" in case:
                    wanted = torch.tensor(case["expect/generated"][()]).long()
                    prompt = torch.tensor(case["prompt"][()]).long()
                    wanted, prompt = wanted.reshape(-1, wanted.shape[-1]), prompt.reshape(-1, prompt.shape[-1])
                    count = wanted.shape[1] - prompt.shape[1]
                    out = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=count,
                                         do_sample=False, pad_token_id=0, eos_token_id=None)
                    same = torch.equal(out, wanted)
                    report.append("continues alike" if same else f"continues {out.tolist()}, not {wanted.tolist()}")
                    failed += not same
        print(f"{Path(path).stem:32} {', '.join(report)}", flush=True)
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
