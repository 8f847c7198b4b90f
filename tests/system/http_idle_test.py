#!/usr/bin/python3
"""Ten thousand idle connections cost a descriptor and a few KiB each, do not slow others down, and leave
nothing behind when they go. The server is bench/http_bench: the real HTTP server with one fixed answer.

The count is what the limit of descriptors allows when that is less than 10,000, and is printed."""
import os
import re
import resource
import signal
import socket
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import BUILD, case, check, finish, note  # noqa: E402

WANTED = 10_000
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def allowed():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # Both ends have the same limit; each keeps some for other things.
    return min(WANTED, hard - 500)


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def resident_kib(pid):
    with open(f"/proc/{pid}/status") as f:
        return int(re.search(r"VmRSS:\s+(\d+)", f.read())[1])


def ask(sock):
    sock.sendall(REQUEST)
    answer = b""
    while b"\r\n\r\n" not in answer:
        part = sock.recv(65536)
        if not part:
            return 0
        answer += part
    head, body = answer.split(b"\r\n\r\n", 1)
    left = int(re.search(rb"Content-Length: (\d+)", head)[1]) - len(body)
    while left > 0:
        left -= len(sock.recv(left))
    return int(head.split()[1])


def dial(port):
    sock = socket.create_connection(("127.0.0.1", port), timeout=10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def median_us(port, n=1500):
    took = []
    with dial(port) as sock:
        for _ in range(n):
            began = time.monotonic()
            check(ask(sock) == 200)
            took.append((time.monotonic() - began) * 1e6)
    return statistics.median(took)


def wait_until(done, limit_s=20):
    until = time.monotonic() + limit_s
    while not done() and time.monotonic() < until:
        time.sleep(0.05)
    return done()


server = subprocess.Popen([os.path.join(BUILD, "bench/http_bench"), "0", "2"], stdout=subprocess.PIPE, text=True)
idle = []
try:
    port = int(server.stdout.readline().split()[1])
    count = allowed()
    alone = median_us(port)
    wait_until(lambda: descriptors(server.pid) < 40)
    before, before_kib = descriptors(server.pid), resident_kib(server.pid)

    with case(f"{count} idle connections are held"):
        for i in range(count):
            sock = dial(port)
            if i % 2:   # half have asked once, half have never said a word
                check(ask(sock) == 200)
            idle.append(sock)
        check(wait_until(lambda: descriptors(server.pid) >= before + count), descriptors(server.pid))
        each = (resident_kib(server.pid) - before_kib) / count
        note(f"{count} connections, {each:.1f} KiB each")
        check(each < 16)

    with case("others are served at normal speed meanwhile"):
        beside = min(median_us(port) for _ in range(2))
        note(f"median answer alone {alone:.0f} us, beside the idle ones {beside:.0f} us")
        check(beside < 2 * alone + 100)

    with case("all of them still work"):
        check(all(ask(sock) == 200 for sock in idle[::97]))

    with case("nothing is left when they go"):
        for sock in idle:
            sock.close()
        idle.clear()
        check(wait_until(lambda: descriptors(server.pid) <= before), descriptors(server.pid), before)

    with case("the server stops in order"):
        server.send_signal(signal.SIGTERM)
        check(server.wait(timeout=10) == 0)
finally:
    for sock in idle:
        sock.close()
    if server.poll() is None:
        server.kill()
        server.wait()
finish()
