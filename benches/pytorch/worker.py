"""The 27M HRM, and a lattice like that of configs/sudoku-9x9.toml, of width 32, in PyTorch, to compare speeds with: the other side of `cargo xtask bench --pytorch`.

Usage: worker.py WEIGHTS.safetensors eager|compile [cpu|cuda] [f32|bf16]; the lattice's weights lie in WEIGHTS.safetensors.lattice

Reads names of workloads from standard input, one a line, and answers each with one line of JSON: seconds, peak memory and
a checksum of what was computed. The weights are the Rust side's, so both must compute the same numbers.
"""

import copy
import json
import math
import resource
import struct
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

HIDDEN, HEADS, INTER, LAYERS, SEQ, VOCAB = 512, 8, 1536, 4, 81, 11
H_CYCLES, L_CYCLES, MAX_STEPS = 2, 2, 16


def rms_norm(x):
    y = x.float()
    return (y * torch.rsqrt(y.square().mean(-1, keepdim=True) + 1e-5)).to(x.dtype)


def rotate(x, cos, sin):
    a, b = x.chunk(2, dim=-1)
    return (x * cos + torch.cat((-b, a), dim=-1) * sin).to(x.dtype)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(HIDDEN, 3 * HIDDEN, bias=False)
        self.out = nn.Linear(HIDDEN, HIDDEN, bias=False)
        self.gate_up = nn.Linear(HIDDEN, 2 * INTER, bias=False)
        self.down = nn.Linear(INTER, HIDDEN, bias=False)

    def forward(self, x, cos, sin):
        batch, seq, _ = x.shape
        q, k, v = self.qkv(x).view(batch, seq, 3, HEADS, HIDDEN // HEADS).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(rotate(q, cos, sin), rotate(k, cos, sin), v)
        x = rms_norm(x + self.out(attended.transpose(1, 2).reshape(batch, seq, HIDDEN)))
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return rms_norm(x + self.down(F.silu(gate) * up))


class Level(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(Block() for _ in range(LAYERS))

    def forward(self, z, injection, cos, sin):
        z = z + injection
        for layer in self.layers:
            z = layer(z, cos, sin)
        return z


class Hrm(nn.Module):
    def __init__(self, weights, dtype):
        super().__init__()
        self.h, self.l = Level(), Level()
        self.embed = nn.Parameter(weights["embed_tokens.embedding_weight"])
        self.lm_head = nn.Parameter(weights["lm_head.weight"])
        self.q_weight = nn.Parameter(weights["q_head.weight"])
        self.q_bias = nn.Parameter(weights["q_head.bias"])
        self.puzzle_emb = nn.Parameter(weights["puzzle_emb.weights"])
        self.register_buffer("h_init", weights["H_init"])
        self.register_buffer("l_init", weights["L_init"])
        names = {"qkv": "self_attn.qkv_proj", "out": "self_attn.o_proj", "gate_up": "mlp.gate_up_proj", "down": "mlp.down_proj"}
        for level, name in ((self.h, "H_level"), (self.l, "L_level")):
            for index, layer in enumerate(level.layers):
                for ours, theirs in names.items():
                    getattr(layer, ours).weight = nn.Parameter(weights[f"{name}.layers.{index}.{theirs}.weight"])
        angle = torch.outer(torch.arange(SEQ + 1), 10000.0 ** -(torch.arange(0, HIDDEN // HEADS, 2) / (HIDDEN // HEADS)))
        angle = torch.cat((angle, angle), dim=-1)
        self.register_buffer("cos", angle.cos())
        self.register_buffer("sin", angle.sin())
        self.dtype = dtype

    def input(self, tokens, ids):
        prefix = self.puzzle_emb[ids].view(-1, 1, HIDDEN)
        return math.sqrt(HIDDEN) * torch.cat((prefix, self.embed[tokens]), dim=1).to(self.dtype)

    def initial(self, batch):
        return [v.to(self.dtype).expand(batch, SEQ + 1, HIDDEN) for v in (self.h_init, self.l_init)]

    def forward(self, z_h, z_l, tokens, ids):
        x = self.input(tokens, ids)
        with torch.no_grad():
            for h in range(H_CYCLES):
                for l in range(L_CYCLES):
                    if (h, l) != (H_CYCLES - 1, L_CYCLES - 1):
                        z_l = self.l(z_l, z_h + x, self.cos, self.sin)
                if h != H_CYCLES - 1:
                    z_h = self.h(z_h, z_l, self.cos, self.sin)
        z_l = self.l(z_l, z_h + x, self.cos, self.sin)
        z_h = self.h(z_h, z_l, self.cos, self.sin)
        logits = z_h[:, 1:] @ self.lm_head.to(self.dtype).T
        q = F.linear(z_h[:, 0], self.q_weight.to(self.dtype), self.q_bias.to(self.dtype)).float()
        return z_h.detach(), z_l.detach(), logits, q


# Dimensions of [batch, band, row, stack, column, value, hidden] over which each kind of groups takes means, and its weight: a cell reads the
# mean of both of its lines, and of both parts that its box shares with them.
KINDS = (((5,), 0, 1.0), ((3, 4), 1, 0.5), ((1, 2), 1, 0.5), ((2, 4), 2, 1.0), ((4,), 3, 0.5), ((2,), 3, 0.5))


class GroupBlock(nn.Module):
    def __init__(self, weights, name):
        super().__init__()
        self.input = nn.Parameter(weights[f"{name}.groups.in_proj.weight"])
        gate_up = weights[f"{name}.groups.gate_up_proj.weight"]
        self.down = nn.Parameter(weights[f"{name}.groups.down_proj.weight"])
        width, hidden = self.input.shape
        own, *kinds = gate_up.split([hidden] + [width] * 4, dim=1)
        self.own = nn.Parameter(own.contiguous())
        self.kinds = nn.ParameterList(nn.Parameter(kind.contiguous()) for kind in kinds)

    def forward(self, z):
        u = F.silu(F.linear(z, self.input))
        gates = F.linear(z, self.own)
        for dims, kind, share in KINDS:  # What a group contributes is multiplied once for the group.
            gates = gates + F.linear(u.mean(dims, keepdim=True), self.kinds[kind] * share)
        gate, up = gates.chunk(2, dim=-1)
        return rms_norm(z + F.linear(F.silu(gate) * up, self.down))


class Lattice(nn.Module):
    """A TRM of one cycle of three updates, on 9x9 Sudoku."""

    def __init__(self, weights):
        super().__init__()
        self.layers = nn.ModuleList(GroupBlock(weights, f"L_level.layers.{index}") for index in range(2))
        self.embed = nn.Parameter(weights["embed_tokens.embedding_weight"])
        self.lm_head = nn.Parameter(weights["lm_head.weight"])
        self.q_weight = nn.Parameter(weights["q_head.weight"])
        self.q_bias = nn.Parameter(weights["q_head.bias"])
        self.register_buffer("h_init", weights["H_init"])
        self.register_buffer("l_init", weights["L_init"])
        self.hidden = self.embed.shape[1]

    def initial(self, batch):
        return [v.expand(batch, 3, 3, 3, 3, 9, self.hidden).contiguous() for v in (self.h_init, self.l_init)]

    def update(self, z):
        for layer in self.layers:
            z = layer(z)
        return z

    def forward(self, z_h, z_l, tokens):
        given = tokens.unsqueeze(-1) - 2 == torch.arange(9, device=tokens.device)
        kind = torch.where(given, 2, torch.where(tokens.unsqueeze(-1) >= 2, 3, tokens.unsqueeze(-1)))
        x = math.sqrt(self.hidden) * self.embed[kind].view(-1, 3, 3, 3, 3, 9, self.hidden)
        injection = z_h + x
        for _ in range(3):
            z_l = self.update(z_l + injection)
        z_h = self.update(z_h + z_l)
        logits = F.linear(z_h, self.lm_head).view(-1, 81, 9).float()
        q = F.linear(z_h.flatten(1, 5).mean(1), self.q_weight, self.q_bias).float()
        return z_h.detach(), z_l.detach(), logits, q


def stablemax_loss(logits, labels):
    x = logits.double()
    s = torch.where(x < 0, 1 / (1 - x + 1e-30), x + 1)
    log_p = torch.log(s / s.sum(-1, keepdim=True))
    return -log_p.gather(-1, labels.unsqueeze(-1)).squeeze(-1)


class AdamAtan2:
    def __init__(self, parameters):
        self.p = [p for p in parameters]
        self.m = [torch.zeros_like(p) for p in self.p]
        self.v = [torch.zeros_like(p) for p in self.p]
        self.t = 0

    @torch.no_grad()
    def step(self, lr=1e-4, wd=1.0, b1=0.9, b2=0.95):
        self.t += 1
        grads = [p.grad for p in self.p]
        torch._foreach_mul_(self.p, 1 - lr * wd)
        torch._foreach_lerp_(self.m, grads, 1 - b1)
        torch._foreach_mul_(self.v, b2)
        torch._foreach_addcmul_(self.v, grads, grads, 1 - b2)
        scale = lr / (1 - b1**self.t)
        root = torch._foreach_sqrt(self.v)
        torch._foreach_div_(root, math.sqrt(1 - b2**self.t))
        for p, m, r in zip(self.p, self.m, root):
            p.sub_(torch.atan2(m, r), alpha=scale)
        for p in self.p:
            p.grad = None


class Workloads:
    def __init__(self, weights, lattice, mode, device, dtype):
        self.device = device
        self.model = Hrm(weights, dtype).to(device)
        if dtype != torch.float32:
            for level in (self.model.h, self.model.l):
                level.to(dtype)
        self.forward = torch.compile(self.model, dynamic=False) if mode == "compile" else self.model
        self.training = None
        self.compiled_block = None
        self.mode = mode
        self.lattice = Lattice(lattice).to(device)
        self.compiled_lattice = torch.compile(self.lattice, dynamic=False) if mode == "compile" else self.lattice
        self.lattice_training = None
        self.rounded = dtype != torch.float32

    def batch(self, rows):
        index = torch.arange(rows * SEQ, device=self.device)
        tokens, labels = (((index * 7919 + salt) % 10 + 1).view(rows, SEQ) for salt in (1, 5))
        return tokens, labels, torch.zeros(rows, dtype=torch.long, device=self.device)

    def act_step(self, rows):
        tokens, _, ids = self.batch(rows)
        z_h, z_l = self.model.initial(rows)
        with torch.inference_mode():
            _, _, logits, _ = self.forward(z_h, z_l, tokens, ids)
        return logits.float().abs().mean().item()

    def solve(self, rows):
        tokens, _, ids = self.batch(rows)
        z_h, z_l = self.model.initial(rows)
        checksums = []  # With random weights the recurrence is chaotic: only the first segment compares.
        with torch.inference_mode():
            for _ in range(MAX_STEPS):
                z_h, z_l, logits, _ = self.forward(z_h, z_l, tokens, ids)
                checksums.append(logits.float().abs().mean().item())
        return checksums[0]

    def training_step(self, rows):
        if self.training is None or self.training[3][0].shape[0] != rows:
            # Apart from the model of the other workloads, whose weights must stay.
            model = copy.deepcopy(self.model)
            trained = [p for name, p in model.named_parameters() if name != "puzzle_emb"]
            forward = torch.compile(model, dynamic=False) if self.mode == "compile" else model
            self.training = (model, forward, AdamAtan2(trained), self.batch(rows), model.initial(rows))
        model, forward, adam, (tokens, labels, ids), (z_h, z_l) = self.training
        z_h, z_l, logits, q = forward(z_h, z_l, tokens, ids)
        with torch.no_grad():
            next_q = forward(z_h, z_l, tokens, ids)[3]
            target = torch.sigmoid(next_q.max(-1).values)
            exact = (logits.argmax(-1) == labels).all(-1).float()
        lm = (stablemax_loss(logits, labels).sum(-1) / SEQ).sum()
        bce = F.binary_cross_entropy_with_logits
        halts = bce(q[:, 0], exact, reduction="sum") + bce(q[:, 1], target, reduction="sum")
        ((lm + 0.5 * halts) / rows).backward()
        adam.step()
        with torch.no_grad():
            model.puzzle_emb.mul_(1 - 1e-4).sub_(torch.sign(model.puzzle_emb.grad), alpha=1e-4)
            model.puzzle_emb.grad = None
        self.training = (model, forward, adam, (tokens, labels, ids), (z_h, z_l))
        return lm.item() / rows

    def lattice_batch(self, rows):
        index = torch.arange(rows * 81, device=self.device).view(rows, 81)
        labels = index * 7919 % 9 + 2
        return torch.where(index % 3 == 0, labels, 1), labels

    def lattice_forward(self, forward, *inputs):
        with torch.autocast(self.device, torch.bfloat16, enabled=self.rounded):
            return forward(*inputs)

    def lattice_solve(self, rows):
        tokens, _ = self.lattice_batch(rows)
        z_h, z_l = self.lattice.initial(rows)
        checksums = []
        with torch.inference_mode():
            for _ in range(MAX_STEPS):
                z_h, z_l, logits, _ = self.lattice_forward(self.compiled_lattice, z_h, z_l, tokens)
                checksums.append(logits.abs().mean().item())
        return checksums[0]

    def lattice_training_step(self, rows):
        if self.lattice_training is None:
            model = copy.deepcopy(self.lattice)
            forward = torch.compile(model, dynamic=False) if self.mode == "compile" else model
            self.lattice_training = forward, AdamAtan2(model.parameters()), model.initial(rows)
        forward, adam, (z_h, z_l) = self.lattice_training
        tokens, labels = self.lattice_batch(rows)
        z_h, z_l, logits, q = self.lattice_forward(forward, z_h, z_l, tokens)
        blank = tokens != labels
        each = F.cross_entropy(logits.flatten(0, 1), labels.flatten() - 2, reduction="none").view(rows, 81)
        lm = (each * blank).sum(-1) / blank.sum(-1).clamp_min(1)
        exact = (logits.argmax(-1) + 2 == labels).all(-1).float()
        halt = F.binary_cross_entropy_with_logits(q[:, 0], exact, reduction="sum")
        ((lm.sum() + 0.5 * halt) / rows).backward()
        adam.step()
        self.lattice_training = forward, adam, (z_h, z_l)
        return lm.sum().item() / rows

    def product(self, m, k, n):
        x = torch.linspace(-1, 1, m * k, device=self.device).view(m, k)
        w = torch.linspace(-1, 1, n * k, device=self.device).view(n, k)
        start = time.perf_counter()
        with torch.inference_mode():
            y = F.linear(x, w)
        self.inner_seconds = time.perf_counter() - start
        return y.abs().mean().item()

    def block(self, rows):
        x = torch.linspace(-1, 1, rows * (SEQ + 1) * HIDDEN, device=self.device).view(rows, SEQ + 1, HIDDEN)
        block = self.model.l.layers[0]
        if self.mode == "compile":
            if self.compiled_block is None:
                self.compiled_block = torch.compile(block, dynamic=False)
            block = self.compiled_block
        start = time.perf_counter()
        with torch.inference_mode():
            y = block(x, self.model.cos, self.model.sin)
        self.inner_seconds = time.perf_counter() - start
        return y.abs().mean().item()

    def run(self, name):
        kind, *sizes = name.split("/")
        self.inner_seconds = None
        start = time.perf_counter()
        checksum = getattr(self, kind)(*(int(size) for size in sizes))
        if self.device == "cuda":
            torch.cuda.synchronize()
        return self.inner_seconds or time.perf_counter() - start, checksum


def read_safetensors(path):
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        data = bytearray(file.read())
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__":
            start, end = entry["data_offsets"]
            values = torch.frombuffer(data[start:end], dtype=torch.float32)
            tensors[name] = values.view(entry["shape"]).clone()
    return tensors


def main():
    weights, mode, *rest = sys.argv[1:]
    device = rest[0] if rest else "cpu"
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[rest[1] if len(rest) > 1 else "f32"]
    torch.set_float32_matmul_precision("highest")
    workloads = Workloads(read_safetensors(weights), read_safetensors(weights + ".lattice"), mode, device, dtype)
    print(json.dumps({"ready": f"PyTorch {torch.__version__} {mode}", "threads": torch.get_num_threads()}), flush=True)
    for line in sys.stdin:
        seconds, checksum = workloads.run(line.strip())
        peak = torch.cuda.max_memory_allocated() if device == "cuda" else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"seconds": seconds, "checksum": checksum, "peak_bytes": peak}), flush=True)


if __name__ == "__main__":
    main()
