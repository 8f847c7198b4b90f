#!/usr/bin/env python3
"""Trains a small neural network, in the standard library alone, so that a first job needs no install.

It learns the species of 150 irises from four measured lengths (examples/iris.csv; E. Anderson's
measurements, published by R. A. Fisher in 1936), a few seconds long, with one line an epoch block:

    python3 examples/train_tiny.py [--epochs 1000] [--hidden 16] [--seed 1] [--save model.json]
"""
import argparse
import csv
import json
import math
import os
import random
import signal
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))


def read(path):
    with open(path, newline="") as f:
        rows = list(csv.reader(f))[1:]
    species = sorted({r[-1] for r in rows})
    xs = [[float(v) for v in r[:-1]] for r in rows]
    means = [sum(c) / len(c) for c in zip(*xs)]
    spreads = [math.sqrt(sum((v - m) ** 2 for v in c) / len(c)) for c, m in zip(zip(*xs), means)]
    xs = [[(v - m) / s for v, m, s in zip(x, means, spreads)] for x in xs]
    return xs, [species.index(r[-1]) for r in rows], species


class Network:
    """One hidden layer of tanh, a softmax on top, plain stochastic gradient descent."""

    def __init__(self, inputs, hidden, outputs, dice):
        self.w1 = [[dice.gauss(0, 1 / math.sqrt(inputs)) for _ in range(inputs + 1)] for _ in range(hidden)]
        self.w2 = [[dice.gauss(0, 1 / math.sqrt(hidden)) for _ in range(hidden + 1)] for _ in range(outputs)]

    def forward(self, x):
        h = [math.tanh(w[-1] + sum(a * b for a, b in zip(w, x))) for w in self.w1]
        z = [w[-1] + sum(a * b for a, b in zip(w, h)) for w in self.w2]
        top = max(z)
        e = [math.exp(v - top) for v in z]
        total = sum(e)
        return h, [v / total for v in e]

    def learn(self, x, y, rate):
        h, p = self.forward(x)
        d2 = [v - (k == y) for k, v in enumerate(p)]
        d1 = [(1 - hj * hj) * sum(d * w[j] for d, w in zip(d2, self.w2)) for j, hj in enumerate(h)]
        for d, w in zip(d2, self.w2):
            for j, hj in enumerate(h):
                w[j] -= rate * d * hj
            w[-1] -= rate * d
        for d, w in zip(d1, self.w1):
            for j, xj in enumerate(x):
                w[j] -= rate * d * xj
            w[-1] -= rate * d
        return -math.log(max(p[y], 1e-12))


def main():
    options = argparse.ArgumentParser(description="trains a small network on real measurements")
    options.add_argument("--epochs", type=int, default=1000)
    options.add_argument("--hidden", type=int, default=16)
    options.add_argument("--rate", type=float, default=0.02)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--data", default=os.path.join(HERE, "iris.csv"))
    options.add_argument("--save", metavar="FILE", help="write the weights as JSON")
    given = options.parse_args()

    # A polite job: asked to stop, it finishes the epoch and says how far it came.
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(True))

    dice = random.Random(given.seed)
    xs, ys, species = read(given.data)
    order = list(range(len(xs)))
    dice.shuffle(order)
    held, train = order[:30], order[30:]
    network = Network(len(xs[0]), given.hidden, len(species), dice)
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    print(f"{len(train)} samples to learn from, {len(held)} held out, GPUs of this job: {gpus or 'none'}", flush=True)

    begun = time.monotonic()
    every = max(1, given.epochs // 20)
    for epoch in range(1, given.epochs + 1):
        dice.shuffle(train)
        loss = sum(network.learn(xs[i], ys[i], given.rate) for i in train) / len(train)
        if epoch % every == 0 or epoch == given.epochs or stop:
            right = sum(max(range(len(species)), key=network.forward(xs[i])[1].__getitem__) == ys[i] for i in held)
            print(f"epoch {epoch}/{given.epochs}  loss {loss:.4f}  accuracy {right / len(held):.3f}", flush=True)
        if stop:
            print("asked to stop", file=sys.stderr)
            return 143
    print(f"done in {time.monotonic() - begun:.1f} s", flush=True)
    if given.save:
        with open(given.save, "w") as f:
            json.dump({"species": species, "w1": network.w1, "w2": network.w2}, f)
        print(f"wrote {given.save}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
