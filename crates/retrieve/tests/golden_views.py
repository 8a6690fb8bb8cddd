"""Writes golden_views.json: views, z-scores and gate inputs of a small synthetic collection.

An independent implementation of RECIPE.md's definitions in numpy, float64, written after the study's
prototype (its functions `feats`, `gold`, `zs` and `qpp`), on made-up states: no text, no evaluation data.
States and vectors follow from a hash of their position (`u`), so that the test makes the same ones and
the file holds only terms, masks and expected numbers. Sentence vectors are quantised as KeyBlock does.
Ties in rankings go to the earlier candidate. Run: python3 golden_views.py > golden_views.json
"""
import json
import numpy as np

D, M = 384, (1 << 64) - 1
SEQ = [0, 1, 3, 16, 17, 33, 48, 70, 100, 20, 40, 64]
SENTENCES = [0, 1, 1, 2, 2, 3, 4, 5, 6, 2, 3, 26]


def u(a, b, c):
    h = (a * 0x9E3779B97F4A7C15 ^ b * 0xBF58476D1CE4E5B9 ^ c * 0x94D049BB133111EB) & M
    h ^= h >> 31
    h = h * 0xD6E8FEB86659FD93 & M
    h ^= h >> 32
    return (h >> 40) / (1 << 24) - .5


row = lambda a, b: np.array([u(a, b, c + 1) for c in range(D)])
unit = lambda x: x / np.linalg.norm(x)
topics = [unit(row(1, t)) for t in range(7)]
pick = lambda a, b, n: int((u(a, b, 9999) + .5) * n)


def states(who, n):  # unit token states: a topic shared with other passages, and noise
    return np.array([unit(topics[pick(who, j // 5, 7)] + .9 * unit(row(who, j + 100))) for j in range(n)]).reshape(n, D)


def pooled(who, T):
    return unit((T.mean(0) if len(T) else 0) + .3 * unit(row(who, 50)))


def quantised(v):
    s = np.abs(v).max() / 127
    return np.round(v / s) * s


P, T, ids, terms, title, ends, SV = [], [], [], [], [], [], []
for i, (n, ns) in enumerate(zip(SEQ, SENTENCES)):
    t = states(10 + i, n)
    T.append(t)
    P.append(pooled(10 + i, t))
    ids.append([pick(60 + i, j, 40) for j in range(n)])
    per = [1 + pick(80 + i, s, 9) for s in range(ns)]
    title.append(i % 3)
    terms.append([1 + pick(100 + i, k, 30) for k in range(title[i] + sum(per))])
    ends.append([title[i] + sum(per[:s + 1]) for s in range(ns)])
    SV.append([quantised(unit(P[i] + .8 * unit(row(130 + i, s)))) for s in range(min(ns, 24))])
P = np.array(P)
N = len(P)
avg = np.mean([len(t) for t in terms])
df = lambda lists, x: sum(x in set(l) for l in lists)
idf_ = lambda d: np.log(1 + (N - d + .5) / (d + .5))
idf = {w: idf_(df(terms, w)) for t in terms for w in t}
oov = idf_(0)
tidf = lambda x: idf_(df(ids, x))
mu = P.mean(0)
pc = np.linalg.svd(P - mu, full_matrices=False)[2][:2]


def cen(x):
    y = x - mu
    y = y - (y @ pc.T) @ pc
    return y / (np.linalg.norm(y) + 1e-9)


def ph(A):
    B = A.copy()
    B[1:] += A[:-1] * .7
    B[:-1] += A[1:] * .7
    return B / (np.linalg.norm(B, axis=1, keepdims=True) + 1e-9)


def sentence_terms(i):
    starts = [title[i]] + ends[i][:-1]
    return [terms[i][:title[i]] + terms[i][a:b] for a, b in zip(starts, ends[i])][:24]


def token_views(tt, ti, Ti, keep):
    """ph3, maxsim, maxsim_idf, wms"""
    if not len(Ti) or not len(tt):
        return 0, 0, 0, 0
    w = np.array([tidf(x) for x in ti])
    w = w / (w.sum() + 1e-6)
    S = tt @ Ti.T
    S[:, ~keep] = -1
    blocks = (len(Ti) + 15) // 16
    S = np.concatenate([S, np.full((len(S), blocks * 16 - len(Ti)), -1)], 1)
    B = S.reshape(len(S), blocks, 16).max(2)
    m = B.max(1)
    W = np.maximum(B[:, :-1], B[:, 1:]) if blocks > 1 else B
    return (ph(tt) @ ph(Ti[keep]).T).max(1).mean(), m.mean(), m @ w, (w @ W).max()


def views(q, i, prf, keep=None, cut=(), hidden=()):
    qt, qv, tt, ti = q['terms'], q['v'], q['T'], q['ids']
    masked = keep is not None
    keep = keep if masked else np.ones(len(T[i]), bool)
    starts = [title[i]] + ends[i][:-1]
    gone = {k for s in cut for k in range(starts[s], ends[i][s])}
    t = [w for k, w in enumerate(terms[i]) if k not in gone and w not in hidden]
    tot = sum(idf.get(w, oov * .5) for w in set(qt)) + 1e-6
    L = max(len(t), 1)
    tf = {w: t.count(w) for w in t}
    bm = sum(idf[w] * tf[w] * 2.2 / (tf[w] + 1.2 * (.25 + .75 * L / avg)) for w in set(qt) if w in tf)
    cov = sum(idf[w] for w in set(qt) if w in tf) / tot
    g = set(zip(qt, qt[1:]))
    big = len(g & set(zip(t, t[1:]))) / max(1, len(g))
    sents = sentence_terms(i)
    js = [j for j in range(len(sents)) if j not in cut]
    qs = set(qt) - set(hidden)
    scov = max([sum(idf.get(w, 0) for w in qs & set(sents[j])) for j in js] or [0]) / tot
    p = P[i]
    if masked:
        mall, mk = T[i].mean(0), T[i][keep].mean(0)
        p = unit(p + (mk - mall) / np.linalg.norm(mall))
    dense = p @ qv
    smax = max([SV[i][j] @ qv for j in js]) if js else dense
    if hidden and js:
        smax += dense - P[i] @ qv
    wv = []
    for a in range(0, max(1, len(T[i]) - 16), 16):
        kk = keep[a:a + 32]
        if kk.sum() >= (4 if masked else 1):
            v = T[i][a:a + 32][kk].mean(0)
            wv.append(v @ qv / np.linalg.norm(v))
    ph3, ms, msi, wms = token_views(tt, ti, T[i], keep)
    return [dense, smax, ph3, bm, ms, msi, wms, big, cov, scov, p @ prf, cen(p) @ cen(qv), max(wv) if wv else dense]


IX = {n: i for i, n in enumerate('dense smax ph3 bm25 maxsim maxsim_idf wms big cov scov prf dcen sctx'.split())}


def gate(F, Z, q):
    o, tops = [], {}
    for n in ['dense', 'smax', 'bm25', 'maxsim_idf', 'wms', 'scov', 'cov']:
        z = Z[:, IX[n]]
        t = np.argsort(-z, kind='stable')[:min(10, len(z) - 1)]
        tops[n], s = t, z[t]
        e = np.exp(z - z.max())
        e /= e.sum()
        o += [s[0], s[0] - s[1], s[0] - s[4] if len(s) > 4 else 0, -(e * np.log(e + 1e-9)).sum() / np.log(len(e))]
    o += [F[:, IX[n]].max() for n in ['dense', 'smax', 'maxsim', 'maxsim_idf', 'wms', 'cov', 'scov', 'big', 'sctx']]
    o.append(F[:, 0].mean())
    for a, b in [('dense', 'bm25'), ('dense', 'maxsim_idf'), ('bm25', 'maxsim_idf'), ('smax', 'bm25'), ('dense', 'smax'), ('wms', 'scov')]:
        o.append(len(set(tops[a]) & set(tops[b])) / 10)
    for a, b in [('dense', 'bm25'), ('maxsim_idf', 'bm25'), ('dense', 'maxsim_idf'), ('smax', 'bm25')]:
        o += [Z[tops[a][0], IX[b]], Z[tops[b][0], IX[a]]]
    t = q['terms']
    return o + [np.log1p(len(t)), np.mean([w not in idf for w in t]), np.mean([idf.get(w, oov) for w in t]),
                np.log1p(sum(idf.get(w, oov * .5) for w in set(t)))]


number = lambda x: np.round(np.asarray(x, float), 7).tolist()
out = dict(seq=SEQ, passages=[dict(terms=terms[i], title_terms=title[i], sentence_ends=ends[i], token_ids=ids[i]) for i in range(N)], queries=[])
for k, (nq, nt) in enumerate([(13, 6), (21, 9), (1, 1)]):
    tt = states(200 + k, nq)
    q = dict(T=tt, v=pooled(200 + k, tt), ids=[pick(220 + k, j, 45) for j in range(nq)])
    at = pick(240, k, 10)  # terms of a passage, so that bigrams are found, and unknown ones
    q['terms'] = terms[8][at:at + nt - nt // 3] + [1 + pick(250 + k, j, 36) for j in range(nt // 3)]
    top = np.argsort(-(P @ q['v']), kind='stable')[:3]
    prf = unit(q['v'] + .6 * P[top].mean(0))
    F = np.array([views(q, i, prf) for i in range(N)])
    Z = (F - F.mean(0)) / (F.std(0) + 1e-6)
    masks = []
    for i, cut, hidden, drop in [(7, [1], [], range(10, 30)), (8, [], q['terms'][:2], [3, 4, 9, 20, 21, 22, 40, 66, 99]),
                                 (8, [0, 2], q['terms'][1:3], list(range(0, 14)) + list(range(33, 61))),
                                 (5, [0, 1, 2], [], range(2, 33)), (3, [0], [], [0, 5])]:
        keep = np.ones(SEQ[i], bool)
        keep[list(drop)] = False
        masks.append(dict(candidate=i, cut=cut, hidden=hidden, dropped=list(drop), raw=number(views(q, i, prf, keep, cut, hidden))))
    out['queries'].append(dict(terms=q['terms'], token_ids=q['ids'], raw=number(F), z=number(Z), gate=number(gate(F, Z, q)), masks=masks))
print(json.dumps(out, separators=(',', ':')))
