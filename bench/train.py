"""Training steps of Sandglass beside PyTorch, interleaved, on this machine. `make bench-train` sets it up.

Both sides hold one batch in memory and run forward, backward and SGD (momentum 0.9, weight decay 4e-5) in f32 on the
same number of threads. PyTorch runs eagerly in channels_last, its fastest plain form. Each round times both, in turn;
what counts is the ratio of each round. Memory is the peak above start-up of a process of its own.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time

STEPS_SECONDS = 2.0


def make_divisible(value, divisor=8):
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def peer(network, width, size, classes, batch, threads, compiled):
    """The other side of the protocol of `examples/step.rs`: a number of steps per line in, a line of JSON out."""
    import resource

    import torch
    from torch import nn

    torch.set_num_threads(threads)

    activation = nn.SiLU if network == "efficientnet_b0" else nn.ReLU6

    def unit(cin, cout, kernel=1, stride=1, groups=1, act=True):
        layers = [nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(cout)]
        return layers + ([activation(inplace=True)] if act else [])

    class Residual(nn.Module):
        def __init__(self, layers, add):
            super().__init__()
            self.layers, self.add = nn.Sequential(*layers), add

        def forward(self, x):
            return x + self.layers(x) if self.add else self.layers(x)

    def inverted_residual(cin, cout, stride, t):
        wide = round(cin * t)
        layers = unit(cin, wide) if t != 1 else []
        layers += unit(wide, wide, 3, stride, wide) + unit(wide, cout, act=False)
        return Residual(layers, stride == 1 and cin == cout)

    class Gate(nn.Module):
        def __init__(self, channels, squeezed):
            super().__init__()
            self.squeeze, self.expand = nn.Conv2d(channels, squeezed, 1), nn.Conv2d(squeezed, channels, 1)

        def forward(self, x):
            gate = self.expand(nn.functional.silu(self.squeeze(x.mean((2, 3), keepdim=True))))
            return x * torch.sigmoid(gate)

    def mbconv(cin, cout, kernel, stride, t):
        wide = cin * t
        layers = unit(cin, wide) if t != 1 else []
        layers += unit(wide, wide, kernel, stride, wide) + [Gate(wide, cin // 4)] + unit(wide, cout, act=False)
        return Residual(layers, stride == 1 and cin == cout)

    def sandglass(cin, cout, stride, t, keep):
        hidden = cin // t
        if hidden < cout / 6:
            hidden = make_divisible(-(-cout // 6), 16)
        first, last = unit(cin, cin, 3, 1, cin), unit(cout, cout, 3, stride, cout, act=False)
        middle = unit(cin, hidden, act=False) + unit(hidden, cout)
        if t == 2:
            return Residual(first + middle + last, False)
        if cin != cout and not keep:
            return Residual(middle + (last if stride == 2 else []), False)
        return Residual(first + middle + unit(cout, cout, 3, 1, cout, act=False), not keep)

    scaled = lambda c: make_divisible(c * width)
    channels = scaled(32)
    layers = unit(3, channels, 3, 2)
    if network == "mobilenetv2":
        plan = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
        for t, c, n, s in plan:
            for i in range(n):
                layers.append(inverted_residual(channels, scaled(c), s if i == 0 else 1, t))
                channels = scaled(c)
        head = scaled(1280) if width > 1 else 1280
        layers += unit(channels, head)
    elif network == "efficientnet_b0":
        plan = [(1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3), (6, 112, 3, 1, 5), (6, 192, 4, 2, 5),
                (6, 320, 1, 1, 3)]
        for t, c, n, s, kernel in plan:
            for i in range(n):
                layers.append(mbconv(channels, c, kernel, s if i == 0 else 1, t))
                channels = c
        head = 1280
        layers += unit(channels, head)
    else:
        plan = [(2, 96, 1, 2), (6, 144, 1, 1), (6, 192, 3, 2), (6, 288, 3, 2), (6, 384, 4, 1), (6, 576, 4, 2), (6, 960, 3, 1),
                (6, 1280, 1, 1)]
        for t, c, n, s in plan:
            out = 1280 if c == 1280 and width < 1 else scaled(c)
            for i in range(n):
                layers.append(sandglass(channels, out, s if i == 0 else 1, t, n == 1 and s == 1))
                channels = out
        head = channels
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(head, classes))
    model = model.to(memory_format=torch.channels_last)
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    parameters = sum(p.numel() for p in model.parameters())
    run = torch.compile(model) if compiled else model
    optimiser = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, weight_decay=4e-5)
    images = torch.randn(batch, 3, size, size).to(memory_format=torch.channels_last)
    labels = torch.randint(classes, (batch,))
    loss_of = nn.CrossEntropyLoss()
    print(json.dumps({"torch": torch.__version__, "parameters": parameters}), flush=True)
    for line in sys.stdin:
        began = time.perf_counter()
        for _ in range(int(line)):
            optimiser.zero_grad(set_to_none=True)
            loss = loss_of(run(images), labels)
            loss.backward()
            optimiser.step()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        seconds = time.perf_counter() - began
        print(json.dumps({"seconds": seconds, "loss": loss.item(), "peak_mib": peak - start}), flush=True)


class Side:
    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.hello = self.read()

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit("bench-train: one side stopped; its message stands above")
        return json.loads(line)

    def run(self, steps):
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        return self.read()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def compare(options, network, width):
    shape = [network, str(width), str(options.size), str(options.classes), str(options.batch), str(options.threads)]
    ours = Side([options.step, *shape])
    theirs = Side([sys.executable, __file__, "--peer", *shape] + (["--compile"] if options.compile else []))
    sides = {"sandglass": ours, "pytorch": theirs}
    if ours.hello["parameters"] != theirs.hello["parameters"]:
        sys.exit(f"bench-train: {network} {width}: {ours.hello['parameters']} parameters here, "
                 f"{theirs.hello['parameters']} in the peer: no times")
    steps = {}
    for name, side in sides.items():
        side.run(2)
        steps[name] = max(1, round(STEPS_SECONDS / side.run(1)["seconds"]))
    rates, ratios, peaks = {name: [] for name in sides}, [], {}
    for _ in range(options.rounds):
        for name, side in sides.items():
            result = side.run(steps[name])
            rates[name].append(steps[name] * options.batch / result["seconds"])
            peaks[name] = result["peak_mib"]
        ratios.append(rates["sandglass"][-1] / rates["pytorch"][-1])
    for side in sides.values():
        side.close()
    return {
        "network": network, "width": width, "size": options.size, "classes": options.classes, "batch": options.batch,
        "threads": options.threads, "rounds": options.rounds, "isa": ours.hello["isa"], "torch": theirs.hello["torch"],
        "compiled": options.compile, "ratio": spread(ratios), "images_per_second": {n: spread(r) for n, r in rates.items()},
        "peak_mib": peaks,
    }


def cpu_name():
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"


def main():
    if sys.argv[1:2] == ["--peer"]:
        network, width, *sizes = sys.argv[2:8]
        return peer(network, float(width), *map(int, sizes), compiled="--compile" in sys.argv)
    parser = argparse.ArgumentParser()
    parser.add_argument("--step", required=True, help="the built example `step`")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--classes", type=int, default=200)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="the peer under torch.compile")
    parser.add_argument("--only", help="NETWORK:WIDTH")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    cells = [(network, width) for network in ("mobilenetv2", "mobilenext") for width in (0.5, 1.0)]
    cells.append(("efficientnet_b0", 1.0))
    if options.only:
        network, width = options.only.split(":")
        cells = [(network, float(width))]
    results = []
    if not options.json:
        print(f"{cpu_name()}, {os.cpu_count()} CPUs; batch {options.batch}, {options.size}x{options.size}, "
              f"{options.threads} threads, {options.rounds} rounds; medians (min-max)")
    for network, width in cells:
        row = compare(options, network, width)
        results.append(row)
        if not options.json:
            show = lambda s, digits: f"{s['median']:.{digits}f} ({s['min']:.{digits}f}-{s['max']:.{digits}f})"
            rate, peak = row["images_per_second"], row["peak_mib"]
            print(f"{network} {width}: {show(row['ratio'], 2)} x PyTorch {row['torch']}{' compiled' if row['compiled'] else ''};"
                  f" images/s {show(rate['sandglass'], 0)} on {row['isa']} against {show(rate['pytorch'], 0)};"
                  f" peak above start-up {peak['sandglass']:.0f} MiB against {peak['pytorch']:.0f}", flush=True)
    if options.json:
        print(json.dumps({"cpu": cpu_name(), "cells": results}, indent=1))


if __name__ == "__main__":
    main()
