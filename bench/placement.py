#!/usr/bin/env python3
"""How well `drover simulate` packs the traces of cluster-trace-gpu-v2023 under the rules of FGD's
benchmark (USENIX ATC 2023): tasks arrive and never leave, 130 % of the GPUs are asked for, the figure
is the share of all GPU thousandths in use at the end, mean of the seeds.

usage: placement.py [TRACES [SEEDS]]     TRACES: the folder with openb_*.csv and make_sequence.py
"""
import json
import os
import statistics
import subprocess
import sys
import tempfile

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DROVER = os.path.join(os.environ.get("DROVER_BUILD", os.path.join(TOP, "build")), "drover")
TRACES = sys.argv[1] if len(sys.argv) > 1 else os.path.join(TOP, "..", "shared", "traces")
SEEDS = [int(s) for s in sys.argv[2].split(",")] if len(sys.argv) > 2 else list(range(42, 52))
POLICIES = ("foresight", "fgd", "bestfit", "random")
PUBLISHED = {   # Random, BestFit, FGD: the paper's own artefact
    "default": (87.47, 93.08, 95.39), "gpuspec10": (87.43, 93.31, 94.95), "multigpu20": (88.69, 93.93, 95.65),
    "gpushare40": (86.00, 91.69, 94.15), "cpu050": (91.24, 93.79, 95.21)}


def main():
    nodes = os.path.join(TRACES, "openb_node_list_gpu_node.csv")
    if not os.path.exists(nodes):
        print(f"skipped: no traces in {TRACES}; give their folder")
        return
    print(f"{len(SEEDS)} seeds; in brackets: points above the published figure of the same policy, foresight: above FGD")
    slowest = 0.0
    for trace, published in PUBLISHED.items():
        with tempfile.TemporaryDirectory() as folder:
            got = {p: [] for p in POLICIES}
            for seed in SEEDS:
                path = os.path.join(folder, f"{seed}.csv")
                with open(path, "w") as f:
                    subprocess.run([sys.executable, os.path.join(TRACES, "make_sequence.py"), nodes,
                                    os.path.join(TRACES, f"openb_pod_list_{trace}.csv"), str(seed)], stdout=f, check=True)
                told = subprocess.run([DROVER, "simulate", "--nodes", nodes, "--pods", path, "--arrive-only", "--json",
                                       "--policy", ",".join(POLICIES), "--seed", str(seed)], capture_output=True, check=True)
                for run in json.loads(told.stdout)["runs"]:
                    got[run["policy"]].append(run["percent"])
                    if run["policy"] == "foresight":
                        slowest = max(slowest, 1e6 / run["decisions_per_second"])
        against = dict(zip(POLICIES, (published[2], published[2], published[1], published[0])))
        print(f"{trace:<11}" + "".join(f" {p} {statistics.mean(v):.2f} ({statistics.mean(v) - against[p]:+.2f})"
                                       for p, v in got.items()))
    print(f"slowest run of foresight: {slowest:.0f} microseconds a decision")


main()
