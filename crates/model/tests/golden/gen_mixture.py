#!/usr/bin/env python3
"""Golden values for the mixture, in double precision, from the formulas of RECIPE.md alone (temperature: docs/research.md).

Usage: python3 gen_mixture.py > mixture.json   (standard library only)

Inputs and trained-like weights are sines of the index, so that the Rust test can make the same ones.
"""
import json
from math import exp, expm1, log, log1p, sin

VIEWS = "dense smax ph3 bm25 maxsim maxsim_idf wms big cov scov prf dcen sctx".split()
HEADS = [
    {"dense": 0.9, "dcen": 0.05, "prf": 0.05}, {"sctx": 1.0}, {"smax": 1.0},
    {"maxsim": 0.9, "maxsim_idf": 0.1}, {"ph3": 1.0}, {"wms": 1.0},
    {"bm25": 0.9, "cov": 0.1}, {"scov": 0.7, "big": 0.3},
]
G0 = [1, 1, 1, 1, 1, 1, 0.5, 0.1]
G0 = [g / sum(G0) for g in G0]


def z_matrix(n, shift):
    return [[2 * sin(1.7 * i + 0.9 * v + shift) for v in range(13)] for i in range(n)]


def softmax(v):
    e = [exp(x - max(v)) for x in v]
    return [x / sum(e) for x in e]


class Model:
    def __init__(self, trained):
        k = 1.0 if trained else 0.0
        self.w = []
        for h, views in enumerate(HEADS):
            raw = {v: log(expm1(w)) + k * 0.3 * sin(h * 13 + VIEWS.index(v)) for v, w in views.items()}
            pos = {v: log1p(exp(a)) for v, a in raw.items()}
            self.w.append({VIEWS.index(v): p / sum(pos.values()) for v, p in pos.items()})
        self.t = [exp(log(0.82) + k * 0.2 * sin(h + 1)) for h in range(8)]
        self.alpha = exp(log(6) + k * 0.1)
        self.log_bias = [log(G0[h]) + k * 0.1 * sin(h + 2) for h in range(8)]
        self.bias = [k * 0.05 * sin(h + 3) for h in range(8)]
        self.weight = [[k * 0.2 * sin(0.37 * (8 * i + h)) for h in range(8)] for i in range(62)]
        self.mean = [k * 0.5 * sin(i) for i in range(62)]
        self.sd = [1 + k * 0.5 * sin(i + 1) for i in range(62)]
        self.level = [[k * 0.3 * sin(0.71 * (56 * c + i)) for i in range(56)] for c in range(6)]
        self.level_bias = [k * 0.1 * sin(c) for c in range(6)]

    def features(self, inputs):
        def standard(v, offset=0):
            return [max(-2.5, min(2.5, (x - self.mean[offset + i]) / self.sd[offset + i])) for i, x in enumerate(v)]
        x = standard(inputs)
        levels = softmax([b + sum(w * v for w, v in zip(row, x)) for row, b in zip(self.level, self.level_bias)])
        return x + standard(levels, 56), levels

    def attend(self, z, inputs):
        x, levels = self.features(inputs)
        gate = softmax([self.log_bias[h] + self.bias[h] + sum(x[i] * self.weight[i][h] for i in range(62)) for h in range(8)])
        heads = [softmax([self.t[h] * sum(w * row[v] for v, w in self.w[h].items()) for row in z]) for h in range(8)]
        mixture = [sum(g * a[d] for g, a in zip(gate, heads)) for d in range(len(z))]
        attn = softmax([self.alpha * log(a) for a in mixture])
        return {"attn": attn, "mixture": mixture, "gate": gate, "heads": heads, "levels": levels}


def case(model, n, shift):
    inputs = [1.5 * sin(0.53 * i + shift) for i in range(56)]
    return dict(model.attend(z_matrix(n, shift), inputs), n=n, shift=shift)


prior, trained = Model(False), Model(True)
out = {"prior": [case(prior, n, s) for n, s in ((1, 0.1), (5, 0.3))],
       "trained": [case(trained, n, s) for n, s in ((4, 0.2), (7, 0.5))]}
# Batch loss over the two trained cases: gold rows 1 and (2, 5).
gold = anchor = kl = 0.0
for c, rows in zip(out["trained"], ([1], [2, 5])):
    a0 = prior.attend(z_matrix(c["n"], c["shift"]), [0.0] * 56)["attn"]
    gold += -sum(log(c["attn"][r]) / len(rows) for r in rows) / 2
    anchor += -sum(p * log(s) for p, s in zip(a0, c["attn"])) / 2
    kl += sum(g * log(g / g0) for g, g0 in zip(c["gate"], G0)) / 2
out["loss"] = {"gold": gold, "anchor": anchor, "gate_kl": kl, "total": gold + 4 * anchor + 0.3 * kl}


def rounded(v):
    if isinstance(v, float):
        return round(v, 9)
    if isinstance(v, list):
        return [rounded(x) for x in v]
    if isinstance(v, dict):
        return {k: rounded(x) for k, x in v.items()}
    return v


print(json.dumps(rounded(out), indent=1))
