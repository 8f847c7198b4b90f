#!/usr/bin/env python3
"""How many requests a second a demo server answers on this machine, the load generator beside it:
64 connections kept alive, five seconds each. Needs wrk."""
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tests/system"))
from lib import Server  # noqa: E402

ROUTES = ("/health", "/api/v1/gpu/status", "/v1/gpus", "/v1/jobs")

with Server(demo=True) as server:
    token = server.admin_token()
    print(f"{'route':<24}{'requests/s':>12}{'p50 ms':>10}{'p99 ms':>10}{'not 2xx':>10}")
    for route in ROUTES:
        said = subprocess.run(["wrk", "-t2", "-c64", "-d5s", "--latency", "-H", "Authorization: Bearer " + token,
                               server.url + route], capture_output=True, text=True).stdout

        def ms(percent):
            found = re.search(rf"{percent}%\s+([\d.]+)(us|ms|s)", said)
            return float(found[1]) * {"us": 0.001, "ms": 1, "s": 1000}[found[2]] if found else float("nan")
        rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
        errors = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
        print(f"{route:<24}{float(rate[1]) if rate else 0:>12,.0f}{ms(50):>10.2f}{ms(99):>10.2f}"
              f"{errors[1] if errors else 0:>10}")
    with open(f"/proc/{server.pid}/status") as f:
        resident = int(re.search(r"VmRSS:\s+(\d+)", f.read())[1])
    print(f"resident memory of the server afterwards: {resident / 1024:.1f} MiB")
