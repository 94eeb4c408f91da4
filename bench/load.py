"""Training steps on one thread and on two while every core has other work. `make bench-load` runs it.

One process of equal priority keeps each core busy. A pool whose threads wait for each other by spinning, or for one that
lost its core, then makes two threads slower than one. Rounds take turns between the sides, so that what else the machine
does meets both; what counts is the median of the rounds' ratios. The exit code is 1 if it lies outside the bound.
With --before, an older build of the same example runs in the same rounds, and --free leaves the cores to the steps.
"""

import argparse
import os
import statistics
import subprocess
import sys

from train import Side, cpu_name, spread

BOUND = 1.1


def busy(cores):
    """One process per core that does nothing, without pause."""
    return [subprocess.Popen([sys.executable, "-c", f"import os\nos.sched_setaffinity(0, {{{core}}})\nwhile True: pass"])
            for core in cores]


def measure(options, network, width):
    shape = [network, str(width), str(options.size), "200", str(options.batch)]
    builds = {"": options.step} | ({" before": options.before} if options.before else {})
    threads = [1, options.threads]
    sides = {f"{n}{build}": Side([step, *shape, str(n)]) for build, step in builds.items() for n in threads}
    steps, seconds = {}, {name: [] for name in sides}
    for name, side in sides.items():
        side.run(1)
        steps[name] = max(1, round(options.seconds / side.run(1)["seconds"]))
    for _ in range(options.rounds):
        for name, side in sides.items():
            seconds[name].append(side.run(steps[name])["seconds"] / steps[name])
    for side in sides.values():
        side.close()
    return seconds


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--step", required=True, help="the built example `step`")
    parser.add_argument("--before", help="the same example of another commit")
    parser.add_argument("--free", action="store_true", help="no busy processes")
    parser.add_argument("--only", help="NETWORK:WIDTH")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=1.5, help="of one side in one round")
    options = parser.parse_args()
    cells = [tuple(options.only.split(":"))] if options.only else [("mobilenetv2", 0.5), ("mobilenext", 0.5)]
    cores = [] if options.free else sorted(os.sched_getaffinity(0))
    print(f"{cpu_name()}, {os.cpu_count()} CPUs, {len(cores)} busy; batch {options.batch}, {options.size}x{options.size}; "
          f"{options.rounds} rounds; medians (min-max)")
    show = lambda values, digits: "{median:.{d}f} ({min:.{d}f}-{max:.{d}f})".format(d=digits, **spread(values))
    others, outside = busy(cores), False
    try:
        for network, width in cells:
            seconds = measure(options, network, width)
            for name, values in seconds.items():
                print(f"{network} {width}: {show([1e3 * value for value in values], 0)} ms a step on threads: {name}")
            few, many = seconds["1"], seconds[str(options.threads)]
            ratios = [b / a for a, b in zip(few, many)]
            outside |= statistics.median(ratios) > BOUND
            print(f"{network} {width}: {options.threads} threads take {show(ratios, 2)} times one's; bound {BOUND}")
            if options.before:
                for n in ("1", str(options.threads)):
                    ratios = [old / new for old, new in zip(seconds[f"{n} before"], seconds[n])]
                    print(f"{network} {width}: {show(ratios, 2)} times as fast as before on threads: {n}")
            sys.stdout.flush()
    finally:
        for process in others:
            process.kill()
            process.wait()
    sys.exit("bench-load: outside the bound" if outside else 0)


if __name__ == "__main__":
    main()
