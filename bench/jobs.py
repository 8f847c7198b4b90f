#!/usr/bin/env python3
"""How many jobs a second are acknowledged (each fsynced) and brought to their end: 1,000 times /bin/true from
four submitters. BENCH_JOBS says another number."""
import concurrent.futures
import http.client
import json
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tests/system"))
from lib import Server  # noqa: E402

JOBS = int(os.environ.get("BENCH_JOBS", "1000"))
SUBMITTERS = 4


def submit(server, token, count):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    body = json.dumps({"name": "bench", "command": ["/bin/true"]})
    headers = {"Authorization": "Bearer " + token, "Content-Type": "application/json"}
    for _ in range(count):
        connection.request("POST", "/v1/jobs", body, headers)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 201:
            raise RuntimeError(f"{answer.status} {text[:300]!r}")
    connection.close()


with Server(demo=True) as server:
    token = server.admin_token()
    begun = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(SUBMITTERS) as pool:
        list(pool.map(lambda _: submit(server, token, JOBS // SUBMITTERS), range(SUBMITTERS)))
    acknowledged = time.monotonic() - begun
    while True:
        active = server.get("/v1/jobs?state=active&limit=1").json["items"]
        if not active:
            break
        if time.monotonic() - begun > 100:
            raise SystemExit("not all jobs ended in 100 s; for one: " + json.dumps(active[0])[:400])
        time.sleep(0.02)
    ended = time.monotonic() - begun
    print(f"{JOBS} jobs of /bin/true, {SUBMITTERS} submitters")
    print(f"  acknowledged   {JOBS / acknowledged:8.0f} a second   ({acknowledged:.2f} s)")
    print(f"  ended          {JOBS / ended:8.0f} a second   ({ended:.2f} s from the first submit)")
