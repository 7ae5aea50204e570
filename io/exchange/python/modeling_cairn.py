"""Decoders of Cairn in transformers: Infini-attention, Mixture-of-Depths, Mixture-of-Recursions, relaxed recursion, LAuReL.

    AutoModelForCausalLM.from_pretrained(FOLDER, trust_remote_code=True)

Written to be read beside Cairn's src/model/README.md, whose sections it names: plain loops over rows, layers and segments,
and no cache, so each new token costs a pass over all before it. Letters: T tokens, D width, H query heads, G key and value
heads, E width of a head, N tokens of a segment, R recursions.
"""
import math

import torch
from torch import nn
from torch.nn import functional as F
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput


class CairnConfig(PretrainedConfig):
    """`cairn` is the model section of Cairn's settings. `routing`: causal decides as in generation, where nothing looks at
    later tokens; whole decides as in training, by the whole sequence."""

    model_type = "cairn"

    def __init__(self, cairn=None, routing="causal", **rest):
        self.cairn = cairn or {}
        self.routing = routing
        for name, key in (("vocab_size", "vocabulary"), ("hidden_size", "width"), ("num_hidden_layers", "layers"),
                          ("num_attention_heads", "heads")):
            rest.setdefault(name, self.cairn.get(key))
        rest.setdefault("tie_word_embeddings", False)  # one tensor serves for both where they are tied
        super().__init__(use_cache=False, **{key: value for key, value in rest.items() if key != "use_cache"})


def setting(model, path, standard=None):
    for key in path.split("."):
        model = model.get(key) if isinstance(model, dict) else None
    return standard if model is None else model


# -- Section 5: which stored layer an unrolled one is, and which of its uses


def stored_layers(model):
    """[(stored layer, recursion that shares it or None)] for each unrolled layer, and the first layer of the recursions."""
    layers = model["layers"]
    if setting(model, "depth.kind", "fixed") not in ("mor", "recursive"):
        return [(layer, None) for layer in range(layers)]
    recursions = model["depth"]["recursions"]
    sharing = setting(model, "depth.sharing", "middle_cycle")
    middle = sharing.startswith("middle")
    inner = layers - 2 if middle else layers
    each = inner // recursions
    table = []
    for i in range(inner):
        stored, use = (i % each, i // each) if sharing.endswith("cycle") else (i // recursions, i % recursions)
        table.append((stored + middle, use))
    return [(0, None), *table, (1 + each, None)] if middle else table


def parameter_shapes(model):
    """Names and shapes of all parameters."""
    width, heads = model["width"], model["heads"]
    kv_heads, hidden = setting(model, "kv_heads", heads), model["hidden"]
    head = setting(model, "head_width", width // heads)
    bias, mlp = setting(model, "bias", False), setting(model, "mlp", "swiglu")
    norm_bias = bias and setting(model, "norm", "rms") == "layer"
    attention, residual, depth = (setting(model, key, {}) for key in ("attention", "residual", "depth"))
    laurel = setting(residual, "kind", "plain") == "laurel"
    shapes = {"model.embed_tokens.weight": (model["vocabulary"], width)}

    def norm(name):
        shapes[name + ".weight"] = (width,)
        if norm_bias:
            shapes[name + ".bias"] = (width,)

    if setting(model, "positions", "rope") == "learned":
        shapes["model.embed_positions.weight"] = (model["max_positions"], width)
    table = stored_layers(model)
    for stored in sorted({layer for layer, _ in table}):
        prefix = f"model.layers.{stored}."
        products = {
            "self_attn.q_proj": (heads * head, width),
            "self_attn.k_proj": (kv_heads * head, width),
            "self_attn.v_proj": (kv_heads * head, width),
            "self_attn.o_proj": (width, heads * head),
            "mlp.up_proj": (hidden, width),
            "mlp.down_proj": (width, hidden),
        }
        if mlp == "swiglu":
            products["mlp.gate_proj"] = (hidden, width)
        for name, shape in products.items():
            shapes[prefix + name + ".weight"] = shape
            if bias or (setting(attention, "bias", False) and name[-6:] in ("q_proj", "k_proj", "v_proj")):
                shapes[prefix + name + ".bias"] = shape[:1]
        norm(prefix + "input_layernorm")
        if not setting(model, "parallel_block", False):
            norm(prefix + "post_attention_layernorm")
        if setting(attention, "kind", "causal") == "infini":
            shapes[prefix + "self_attn.memory_gate"] = (heads,)
            if setting(attention, "readout_norm", False):
                shapes[prefix + "self_attn.memory_norm.weight"] = (heads, head)
            if setting(attention, "memory_update", "linear") == "gated_delta":
                for name, count in (("q", heads), ("k", kv_heads), ("v", kv_heads)):
                    shapes[prefix + f"self_attn.memory_conv_{name}.weight"] = (count * head, 4)
                shapes[prefix + "self_attn.memory_write.weight"] = (kv_heads, width)
                shapes[prefix + "self_attn.memory_write.bias"] = (kv_heads,)
        if laurel:
            rank, previous = setting(residual, "rank", 0), setting(residual, "previous", 0)
            several = (previous,) if previous else ()
            layer_scope = setting(residual, "scope", "sublayer") == "layer"
            for name in ("residual",) if layer_scope else ("attn_residual", "mlp_residual"):
                if setting(residual, "weights", False):
                    shapes[prefix + name + ".weights"] = (2,)
                if rank:
                    shapes[prefix + name + ".down.weight"] = (*several, rank, width)
                    shapes[prefix + name + ".up.weight"] = (*several, width, rank)
                if previous:
                    shapes[prefix + name + ".gamma"] = (previous,)
        if setting(depth, "kind", "fixed") == "mod" and (stored + 1) % setting(depth, "every", 2) == 0:
            shapes[prefix + "router.weight"] = (width,)
            if setting(depth, "causal_router", "loss") == "predictor":
                shapes[prefix + "predictor.fc1.weight"] = (width // 2, width)
                shapes[prefix + "predictor.fc2.weight"] = (1, width // 2)
        rank = setting(depth, "lora_rank", 0)
        shared_cache = setting(depth, "cache", "recursion") == "shared" and routing_of(model) != "none"
        for use in sorted({use for layer, use in table if layer == stored and use is not None and rank}):
            for name, (outputs, inputs) in products.items():
                if use > 0 and shared_cache and name[-6:] in ("k_proj", "v_proj"):
                    continue
                lora = f"model.recursions.{use}.layers.{stored}.{name}"
                shapes[lora + ".lora_down.weight"] = (rank, inputs)
                shapes[lora + ".lora_up.weight"] = (outputs, rank)
    if routing_of(model) == "expert":
        for recursion in range(depth["recursions"]):
            shapes[f"model.recursions.{recursion}.router.weight"] = (width,)
    if routing_of(model) == "token":
        shapes["model.router.weight"] = (depth["recursions"], width)
    norm("model.norm")
    if not setting(model, "tied_embeddings", False):
        shapes["lm_head.weight"] = (model["vocabulary"], width)
    return shapes


def routing_of(model):
    kind = setting(model, "depth.kind", "fixed")
    return setting(model, "depth.routing", "expert") if kind == "mor" else "none"


# -- Section 3: Infini-attention


def rotate(x, positions, base):
    """Rope of x [tokens, heads, E]."""
    half = x.shape[-1] // 2
    angle = positions[:, None].float() * base ** (-torch.arange(half, device=x.device).float() / half)
    cos, sin = angle.cos()[:, None].to(x.dtype), angle.sin()[:, None].to(x.dtype)
    a, b = x[..., :half], x[..., half:]
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


def softmax_attention(q, k, v, later):
    """q [m, H, E], k and v [n, G, E]; later [m, n] says which keys lie behind a query."""
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    scores = torch.einsum("mhe,nhe->hmn", q, k).float() / math.sqrt(q.shape[-1])
    weights = scores.masked_fill(later, -math.inf).softmax(-1)
    return torch.einsum("hmn,nhe->mhe", weights, v.float()).to(q.dtype)


class Memory:
    """M [G, E, E] and z [G, E] of a layer, in fp32 or more; empty, or what a stream has left in `state`."""

    def __init__(self, groups, width, like, state):
        kind = {"dtype": torch.promote_types(like.dtype, torch.float32), "device": like.device}
        m, z = state or (torch.zeros(groups, width, width), torch.zeros(groups, width))
        self.m, self.z = m.to(**kind), None if z is None else z.to(**kind)

    def copy(self):
        other = object.__new__(Memory)
        other.m, other.z = self.m, self.z
        return other


class Attention:
    """Attention of one use of a layer. p reads a parameter of the layer, product applies a linear layer of it."""

    def __init__(self, model, p, product, state=None):
        self.p, self.product, self.state = p, product, state
        attention = setting(model, "attention", {})
        self.heads = model["heads"]
        self.groups = setting(model, "kv_heads", self.heads)
        self.width = setting(model, "head_width", model["width"] // self.heads)
        self.base = setting(model, "rope_base", 10000.0) if setting(model, "positions", "rope") == "rope" else None
        self.infini = setting(attention, "kind", "causal") == "infini"
        self.segment = setting(attention, "segment", 0) if self.infini else None
        self.update = setting(attention, "memory_update", "linear")
        self.readout_norm = setting(attention, "readout_norm", False)

    def local(self, q, k, v, q_at, k_at):
        if self.base:
            wrap = self.segment or int(max(q_at.max(), k_at.max())) + 1
            q, k = rotate(q, q_at % wrap, self.base), rotate(k, k_at % wrap, self.base)
        return softmax_attention(q, k, v, k_at[None] > q_at[:, None])

    def convolved(self, x, name):
        """Section 12: silu of a causal convolution of 4 taps over the segment's tokens."""
        taps = self.p(f"self_attn.memory_conv_{name}.weight").view(*x.shape[1:], 4)
        return F.silu(sum(taps[..., i] * F.pad(x, (0, 0, 0, 0, i, 0))[: len(x)] for i in range(4)))

    @staticmethod
    def unit(x):
        return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + 1e-6)

    def read(self, memory, q):
        """a_mem [m, H, E], and of which heads [H] the memory holds anything."""
        groups = self.heads // self.groups
        m = memory.m.repeat_interleave(groups, 0)
        if self.update == "gated_delta":
            a = torch.einsum("mhe,hef->mhf", self.unit(self.convolved(q, "q")).to(m.dtype), m)
            filled = (m != 0).flatten(1).any(1)
        else:
            z = memory.z.repeat_interleave(groups, 0)
            s = F.elu(q.to(m.dtype)) + 1
            a = torch.einsum("mhe,hef->mhf", s, m) / (torch.einsum("mhe,he->mh", s, z) + 1e-6)[..., None]
            filled = (z != 0).any(1)
        if self.readout_norm:
            a = a * torch.rsqrt(a.square().mean(-1, keepdim=True) + 1e-6) * self.p("self_attn.memory_norm.weight")
        return a, filled

    def write(self, memory, k, v, n):
        """A segment's tokens into the memory."""
        if self.update == "gated_delta":
            k, v = self.unit(self.convolved(k, "k")).to(memory.m.dtype), self.convolved(v, "v").to(memory.m.dtype)
            strength = torch.sigmoid(F.linear(n, self.p("self_attn.memory_write.weight"), self.p("self_attn.memory_write.bias")))
            for t in range(len(k)):
                error = v[t] - torch.einsum("ge,gef->gf", k[t], memory.m)
                memory.m = memory.m + strength[t].to(memory.m.dtype)[:, None, None] * k[t][:, :, None] * error[:, None]
            return
        s, v = F.elu(k.to(memory.m.dtype)) + 1, v.to(memory.m.dtype)
        if self.update == "delta":
            v = v - torch.einsum("nge,gef->ngf", s, memory.m) / (torch.einsum("nge,ge->ng", s, memory.z) + 1e-6)[..., None]
        memory.m = memory.m + torch.einsum("nge,ngf->gef", s, v)
        memory.z = memory.z + s.sum(0)

    def __call__(self, n, at, shared=None):
        """n [m, D], normed, of the tokens at positions `at` [m], ascending. Returns [m, D] and what later recursions share:
        keys, values, their positions, and the memory before each segment."""
        q = self.product("self_attn.q_proj", n).view(-1, self.heads, self.width)
        if shared:
            k, v, k_at, before = shared
        else:
            k = self.product("self_attn.k_proj", n).view(-1, self.groups, self.width)
            v = self.product("self_attn.v_proj", n).view(-1, self.groups, self.width)
            k_at, before = at, {}
        if not self.infini:
            out = self.local(q, k, v, at, k_at)
            return self.product("self_attn.o_proj", out.flatten(1)), (k, v, k_at, before)
        gate = torch.sigmoid(self.p("self_attn.memory_gate").float())
        out = torch.empty_like(q)
        memory = None if shared else Memory(self.groups, self.width, q, self.state)
        for segment in (at if not shared else torch.cat((at, k_at))).div(self.segment, rounding_mode="floor").unique().tolist():
            queries, keys = at // self.segment == segment, k_at // self.segment == segment
            if not shared:
                before[segment] = memory.copy()
            if queries.any():
                dot = self.local(q[queries], k[keys], v[keys], at[queries], k_at[keys])
                mem, filled = self.read(before[segment], q[queries])
                share = torch.where(filled, gate, torch.zeros_like(gate))[:, None].to(mem.dtype)
                out[queries] = (share * mem + (1 - share) * dot.to(mem.dtype)).to(q.dtype)
            if not shared:
                self.write(memory, k[keys], v[keys], n[keys])
        return self.product("self_attn.o_proj", out.flatten(1)), (k, v, k_at, before)


# -- Layers of one row


class Row:
    """One row on its way: h [T, D], and the stream before each earlier connection (section 6)."""

    def __init__(self, owner, h, whole, memories):
        self.owner, self.model, self.h, self.whole, self.memories = owner, owner.config.cairn, h, whole, memories
        self.before = []

    def p(self, name):
        return self.owner.get_parameter(name)

    def norm(self, name, x):
        epsilon = setting(self.model, "norm_epsilon", 1e-5)
        weight = self.p(name + ".weight")
        if setting(self.model, "norm", "rms") == "layer":
            bias = self.p(name + ".bias") if setting(self.model, "bias", False) else None
            return F.layer_norm(x, weight.shape, weight, bias, epsilon)
        x32 = x.to(torch.promote_types(x.dtype, torch.float32))
        return (x32 * torch.rsqrt(x32.square().mean(-1, keepdim=True) + epsilon)).to(x.dtype) * weight

    def product(self, layer, use):
        """Linear layers of a stored layer, with the low-rank map of this use (section 10)."""

        def apply(name, x):
            prefix = f"model.layers.{layer}.{name}"
            y = F.linear(x, self.p(prefix + ".weight"), self.p(prefix + ".bias") if prefix + ".bias" in self.owner.names else None)
            lora = f"model.recursions.{use}.layers.{layer}.{name}"
            if lora + ".lora_down.weight" in self.owner.names:
                y = y + F.linear(F.linear(x, self.p(lora + ".lora_down.weight")), self.p(lora + ".lora_up.weight"))
            return y

        return apply

    def connect(self, prefix, x, f, active):
        """x + f, or LAuReL's form of it. The stream of tokens that are not active stays as it is."""
        residual = setting(self.model, "residual", {})
        if setting(residual, "kind", "plain") != "laurel":
            return x + f
        stream = self.h.index_copy(0, active, x)
        states = [stream, *reversed(self.before)]
        self.before.append(stream)
        rank, previous = setting(residual, "rank", 0), setting(residual, "previous", 0)
        g = x
        if rank and not previous:
            g = g + F.linear(F.linear(x, self.p(prefix + ".down.weight")), self.p(prefix + ".up.weight"))
        for j in range(min(previous, len(states))):
            term = states[j][active]
            if rank:
                term = F.linear(F.linear(term, self.p(prefix + ".down.weight")[j]), self.p(prefix + ".up.weight")[j])
            g = g + self.p(prefix + ".gamma")[j] * term
        if setting(residual, "weights", False):
            a, b = 2 * self.p(prefix + ".weights").softmax(0)
            return a * f + b * g
        return f + g

    def block(self, layer, use, x, active, shared=None):
        """Section 2: the layer's output for x [m, D], the tokens at positions `active`."""
        prefix = f"model.layers.{layer}."
        product = self.product(layer, use)
        state = self.memories.get(stored_layers(self.model).index((layer, use))) if self.memories else None
        attention = Attention(self.model, lambda name: self.p(prefix + name), product, state)
        mlp_kind = setting(self.model, "mlp", "swiglu")
        per_layer = setting(self.model, "residual.scope", "sublayer") == "layer"

        def mlp(n):
            up = product("mlp.up_proj", n)
            if mlp_kind == "swiglu":
                return product("mlp.down_proj", F.silu(product("mlp.gate_proj", n)) * up)
            return product("mlp.down_proj", F.gelu(up, approximate="tanh" if mlp_kind == "gelu" else "none"))

        n = self.norm(prefix + "input_layernorm", x)
        a, kept = attention(n, active, shared)
        if setting(self.model, "parallel_block", False):
            return self.connect(prefix + "residual", x, a + mlp(n), active), kept
        if per_layer and setting(self.model, "residual.kind", "plain") == "laurel":
            middle = x + a
            f = a + mlp(self.norm(prefix + "post_attention_layernorm", middle))
            return self.connect(prefix + "residual", x, f, active), kept
        middle = self.connect(prefix + "attn_residual", x, a, active)
        return self.connect(
            prefix + "mlp_residual", middle, mlp(self.norm(prefix + "post_attention_layernorm", middle)), active), kept

    def set(self, active, values):
        self.h = self.h.index_copy(0, active, values)

    def largest(self, values, among, count):
        """Positions of the largest values, ascending; of equal ones the lower position."""
        order = torch.sort(values, descending=True, stable=True).indices[:count]
        return among[order].sort().values

    def mixture_of_depths(self, layer):
        """Section 4."""
        depth = self.model["depth"]
        prefix = f"model.layers.{layer}."
        r = (self.h.float() @ self.p(prefix + "router.weight").float()).to(self.h.dtype)
        everyone = torch.arange(len(self.h), device=self.h.device)
        if self.whole:
            active = self.largest(r, everyone, max(1, int(setting(depth, "capacity", 0.125) * len(self.h) + 1e-9)))
        elif setting(depth, "causal_router", "loss") == "predictor":
            inner = F.silu(F.linear(self.h, self.p(prefix + "predictor.fc1.weight")))
            active = everyone[F.linear(inner, self.p(prefix + "predictor.fc2.weight"))[:, 0] > 0]
        else:
            active = everyone[r > 0]
        if len(active) == 0:
            self.skip_connections(1)
            return
        gate = torch.sigmoid(r) if setting(depth, "gate", "linear") == "sigmoid" else r
        x = self.h[active]
        out, _ = self.block(layer, None, x, active)
        self.set(active, x + gate[active][:, None] * (out - x))

    def skip_connections(self, layers):
        """Nobody goes: each connection sees the unchanged stream."""
        if setting(self.model, "residual.kind", "plain") == "laurel":
            one = setting(self.model, "residual.scope", "sublayer") == "layer"
            self.before += [self.h] * (layers * (1 if one else 2))

    def recursions(self, layers):
        """Section 5."""
        depth = self.model["depth"]
        count, length = depth["recursions"], len(self.h)
        active = torch.arange(length, device=self.h.device)
        shared = {}
        if routing_of(self.model) == "token":
            share = (self.h.float() @ self.p("model.router.weight").float().T).softmax(-1).to(self.h.dtype)
            chosen = share.argmax(-1)
            first = self.h
            for recursion in range(count):
                active = torch.nonzero(chosen >= recursion)[:, 0]
                self.pass_stack(layers, recursion, active, shared, None)
                leaving = torch.nonzero(chosen == recursion)[:, 0]
                self.set(leaving, first[leaving] + share[leaving, recursion][:, None] * self.h[leaving])
            return
        for recursion in range(count):
            z = (self.h[active].float() @ self.p(f"model.recursions.{recursion}.router.weight").float()).to(self.h.dtype)
            gate = torch.zeros(length, dtype=z.dtype, device=z.device).index_copy(
                0, active, setting(depth, "alpha", 0.1) * torch.sigmoid(z))
            if self.whole:
                active = self.largest(z, active, max(1, (count - recursion) * length // count))
            elif recursion > 0:
                active = active[z > 0]
            self.pass_stack(layers, recursion, active, shared, gate)

    def pass_stack(self, layers, recursion, active, shared, gate):
        if len(active) == 0:
            self.skip_connections(len(layers))
            return
        start = self.h
        x = start[active]
        for i, layer in enumerate(layers):
            x, kept = self.block(layer, recursion, x, active, shared.get(i))
            if recursion == 0 and setting(self.model, "depth.cache", "recursion") == "shared":
                shared[i] = kept
        self.h = start
        self.set(active, x if gate is None else start[active] + gate[active][:, None] * x)

    def run(self):
        table = stored_layers(self.model)
        everyone = torch.arange(len(self.h), device=self.h.device)
        routed = routing_of(self.model) != "none"
        mod = setting(self.model, "depth.kind", "fixed") == "mod"
        inner = [layer for layer, use in table if use == 0]
        for unrolled, (layer, use) in enumerate(table):
            if routed and use is not None:
                if use == 0 and layer == inner[0]:
                    self.recursions(inner)
            elif mod and (unrolled + 1) % setting(self.model, "depth.every", 2) == 0:
                self.mixture_of_depths(layer)
            else:
                self.h, _ = self.block(layer, use, self.h, everyone)
        return self.norm("model.norm", self.h)


class CairnForCausalLM(PreTrainedModel, GenerationMixin):
    config_class = CairnConfig
    base_model_prefix = ""
    _tied_weights_keys = []

    def __init__(self, config):
        super().__init__(config)
        self.names = set(parameter_shapes(config.cairn))
        for name, shape in parameter_shapes(config.cairn).items():
            *path, last = name.split(".")
            module = self
            for part in path:
                if part not in module._modules:
                    module.add_module(part, nn.Module())
                module = module._modules[part]
            module.register_parameter(last, nn.Parameter(torch.empty(shape)))
        self.post_init()
        self.generation_config.use_cache = False

    def _init_weights(self, module):
        for parameter in module.parameters(recurse=False):
            nn.init.normal_(parameter, 0.0, 0.02)

    def forward(self, input_ids, attention_mask=None, labels=None, routing=None, memories=None, **rest):
        """Logits [B, T, V]. Padding may stand behind the tokens of a row, or in front of them: the mask leaves it out.
        memories: what streams left before, of unrolled layers {layer: (M [B, G, E, E], z [B, G, E] or None)}."""
        model = self.config.cairn
        whole = (routing or self.config.routing) == "whole"
        embed = self.get_parameter("model.embed_tokens.weight")
        head = embed if setting(model, "tied_embeddings", False) else self.get_parameter("lm_head.weight")
        logits = embed.new_zeros(*input_ids.shape, len(head))
        for row, ids in enumerate(input_ids):
            real = torch.nonzero(attention_mask[row])[:, 0] if attention_mask is not None else torch.arange(len(ids), device=ids.device)
            h = embed[ids[real]]
            if setting(model, "positions", "rope") == "learned":
                h = h + self.get_parameter("model.embed_positions.weight")[: len(h)]
            states = {layer: (m[row], None if z is None else z[row]) for layer, (m, z) in (memories or {}).items()}
            logits[row, real] = F.linear(Row(self, h, whole, states).run(), head)
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten())
        return CausalLMOutput(loss=loss, logits=logits)

    def prepare_inputs_for_generation(self, input_ids, attention_mask=None, **rest):
        return {"input_ids": input_ids, "attention_mask": attention_mask}
