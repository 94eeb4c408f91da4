"""Inferences of one image at 224, Sandglass beside ONNX Runtime, interleaved, on this machine. `make bench-infer` sets it up;
with `PEERS=1` the field's Rust engines run the same f32 files in the same rounds.

All sides run the same weights, ours by our own export, on the same pinned cores; in f32, and in 8 bits (QDQ, activations u8,
weights s8 and per channel). Before any time is taken, logits of one image must agree: in f32 within 1e-4 of the largest; in
8 bits, where each side rounds in its own way and ONNX Runtime saturates on CPUs without VNNI, they must correlate. Each round
times every side in turn; what counts is the ratio of each round's medians. A second process of ours is the control: where it differs from the first by more than 2 %, the run says so.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile

from train import cpu_name, spread

CELLS = [(network, width) for network in ("mobilenetv2", "mobilenext") for width in ("1.0", "0.5")]
CELLS.append(("efficientnet_b0", "1.0"))
CONTROL = 0.02
ROUND_SECONDS = 0.25


class Side:
    def __init__(self, command, cores):
        pin = lambda: os.sched_setaffinity(0, cores)
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=pin)
        self.hello = self.read()

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit("bench-infer: one side stopped; its message stands above")
        return json.loads(line)

    def run(self, count):
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        return self.read()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


CORRELATION = 0.95


def check(cell, precision, ours, theirs):
    """Stops where the two sides compute something else."""
    largest = max(map(abs, theirs))
    error = max(abs(a - b) for a, b in zip(ours, theirs)) if len(ours) == len(theirs) else float("inf")
    agrees = error <= 1e-4 * largest if precision == "f32" else statistics.correlation(ours, theirs) >= CORRELATION
    if not agrees:
        sys.exit(f"bench-infer: {cell}: logits differ by {error} where the largest is {largest}: no times")
    return {"sum": round(sum(ours), 3), "largest": largest, "error": error, "correlation": statistics.correlation(ours, theirs)}


def percentiles(seconds):
    tenths = statistics.quantiles(seconds, n=10)
    return {"p10": 1e3 * tenths[0], "median": 1e3 * statistics.median(seconds), "p90": 1e3 * tenths[8]}


def compare(options, network, width, precision, threads, folder):
    path = os.path.join(folder, f"{network}-{width}-{precision}.onnx")
    more = ["int8"] if precision == "int8" else []
    subprocess.run([options.latency, "export", network, width, str(options.size), path] + more, check=True)
    cores = sorted(os.sched_getaffinity(0))[:threads]
    run = [options.latency, "run", network, width, str(options.size), str(threads)]
    python = [sys.executable, os.path.join(os.path.dirname(__file__), "onnxruntime_peer.py"), path, str(options.size), str(threads)]
    commands = {"sandglass": run + more, "onnxruntime": python, "control": run + more}
    if precision == "int8":
        commands["f32"] = run
    peers = options.peers if precision == "f32" else []
    for peer in peers:
        commands[peer] = [options.rust_peer, peer, path, str(options.size), str(threads)]
    sides = {name: Side(command, cores) for name, command in commands.items()}
    ours, theirs = sides["sandglass"].hello, sides["onnxruntime"].hello
    logits = check(f"{network} {width} {precision}", precision, ours["logits"], theirs["logits"])
    for peer in peers:
        check(f"{network} {width} {precision}, {peer}", precision, ours["logits"], sides[peer].hello["logits"])
    counts, seconds, medians = {}, {name: [] for name in sides}, {name: [] for name in sides}
    for name, side in sides.items():
        side.run(5)
        counts[name] = max(5, round(ROUND_SECONDS / statistics.median(side.run(10))))
    for round_number in range(options.rounds):
        names = list(sides)
        first = round_number % len(names)
        for name in names[first:] + names[:first]:
            sample = sides[name].run(counts[name])
            seconds[name] += sample
            medians[name].append(statistics.median(sample))
    for side in sides.values():
        side.close()
    ratio = lambda a, b: spread([x / y for x, y in zip(medians[a], medians[b])])
    control = ratio("control", "sandglass")
    best = min(seconds["sandglass"])
    gflops = 2e-9 * ours["madds"] / best
    row = {
        "network": network, "width": float(width), "precision": precision, "threads": threads, "isa": ours["isa"],
        "size": options.size, "rounds": options.rounds, "onnxruntime": theirs["onnxruntime"], "logits": logits,
        "ratio": ratio("sandglass", "onnxruntime"), "control": control,
        "to_f32": ratio("sandglass", "f32") if "f32" in sides else None,
        "quiet": abs(control["median"] - 1) <= CONTROL,
        "ms": {name: percentiles(seconds[name]) for name in ("sandglass", "onnxruntime")},
        "best_ms": {name: 1e3 * min(seconds[name]) for name in ("sandglass", "onnxruntime")},
        "gflops": gflops, "share_of_peak": gflops / (threads * options.peak) if options.peak and precision == "f32" else None,
        "peak_mib": {"sandglass": ours["peak_mib"], "onnxruntime": theirs["peak_mib"]},
        "samples_ms": {name: [round(1e3 * s, 4) for s in seconds[name]] for name in sides},
    }
    for peer in peers:
        row["ms"][peer], row["best_ms"][peer] = percentiles(seconds[peer]), 1e3 * min(seconds[peer])
        row["peak_mib"][peer] = sides[peer].hello["peak_mib"]
        row.setdefault("peers", {})[peer] = {"version": sides[peer].hello[peer], "ratio": ratio("sandglass", peer)}
    return row


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--latency", required=True, help="the built example `latency`")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--only", help="NETWORK:WIDTH")
    parser.add_argument("--precision", nargs="*", default=["f32", "int8"], choices=["f32", "int8"])
    parser.add_argument("--peers", nargs="*", default=[], choices=["tract", "rten"])
    parser.add_argument("--rust-peer", help="the built binary of bench/rust-peers, which runs those")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.peers and not options.rust_peer:
        parser.error("--peers needs --rust-peer")
    cells = [tuple(options.only.split(":"))] if options.only else CELLS
    load = os.getloadavg()[0]
    options.peak = float(subprocess.run([options.latency, "peak"], capture_output=True, check=True, text=True).stdout)
    if not options.json:
        print(f"{cpu_name()}, {os.cpu_count()} CPUs, load {load:.1f} at the start, {options.peak:.0f} GFLOP/s of "
              f"multiply-adds on one thread; one image of {options.size}x{options.size}, {options.rounds} rounds")
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for network, width in cells:
            for precision, threads in itertools.product(options.precision, options.threads):
                if threads > len(os.sched_getaffinity(0)):
                    continue
                row = compare(options, network, width, precision, threads, folder)
                results.append(row)
                if options.json:
                    continue
                ratio, ours, theirs = row["ratio"], row["ms"]["sandglass"], row["ms"]["onnxruntime"]
                beside = lambda spread: f"{spread['median']:.3f} ({spread['min']:.3f}-{spread['max']:.3f})"
                show = lambda ms: f"{ms['median']:.2f} ms ({ms['p10']:.2f}-{ms['p90']:.2f})"
                share = f", {100 * row['share_of_peak']:.0f} % of peak at best" if row["share_of_peak"] else ""
                share += f", {row['to_f32']['median']:.2f} x our f32" if row["to_f32"] else ""
                noisy = "" if row["quiet"] else f"; NOISY: the control is {row['control']['median']:.3f} times itself"
                peers = [f"{peer} {its['version']}: {beside(its['ratio'])}" for peer, its in row.get("peers", {}).items()]
                rust = f"; {', '.join(peers)}" if peers else ""
                print(f"{network} {width} {precision}, {threads} threads, logits {row['logits']['sum']}: "
                      f"{beside(ratio)} x ONNX Runtime {row['onnxruntime']}{rust}; "
                      f"{show(ours)} on {row['isa']} against {show(theirs)}{share}; peak memory "
                      f"{row['peak_mib']['sandglass']:.0f} MiB against {row['peak_mib']['onnxruntime']:.0f}{noisy}", flush=True)
    if options.json:
        print(json.dumps({"cpu": cpu_name(), "load": load, "peak_gflops": options.peak, "cells": results}, indent=1))


if __name__ == "__main__":
    main()
