#!/usr/bin/env python3
"""Clients that a server meets outside: ten thousand that only hold a connection, some that send half a request, and some
that try to smuggle a second one. Each refused in its way, and nobody else notices."""
import os
import resource
import socket
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import Server, case, check, finish, note, skip  # noqa: E402

IDLE = 10000


def resident_mib(pid):
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS:")) / 1024


def raw(server, data, timeout=5):
    """What comes back for these bytes: the status (0: closed without an answer), and whether it closed."""
    with socket.create_connection(("127.0.0.1", server.port), timeout) as s:
        s.sendall(data)
        got = b""
        try:
            while True:
                more = s.recv(65536)
                if not more:
                    return (int(got.split()[1]) if got else 0), True, got
                got += more
        except (TimeoutError, socket.timeout):
            return (int(got.split()[1]) if got else 0), False, got
        except ConnectionResetError:
            return (int(got.split()[1]) if got else 0), True, got


def quick(server):
    begun = time.monotonic()
    good = server.get("/health", token=None, timeout=10).status == 200
    return good and time.monotonic() - begun


with Server(demo=True) as server:
    H = f"Host: 127.0.0.1:{server.port}\r\n"
    with case("two lengths, or a length and chunks: refused and closed, the second request never runs"):
        second = f"GET /smuggled HTTP/1.1\r\n{H}\r\n"
        for name, lines in (("length and chunks", "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n"),
                            ("two lengths", "Content-Length: 4\r\nContent-Length: 5\r\n"),
                            ("chunks twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n")):
            status, closed, got = raw(server, f"POST /v1/session HTTP/1.1\r\n{H}{lines}\r\n0\r\n\r\n{second}".encode())
            check(status in (0, 400, 501) and closed, f"{name}: {status}, closed {closed}")
            check(got.count(b"HTTP/1.1") <= 1, f"{name}: {got.count(b'HTTP/1.1')} answers")
    with case("NUL in a header, a missing Host, a broken request line"):
        for name, data in (("NUL", f"GET /health HTTP/1.1\r\n{H}X-A: a\0b\r\n\r\n"), ("no Host", "GET /health HTTP/1.1\r\n\r\n"),
                           ("nonsense", "nonsense\r\n\r\n")):
            status, closed, _ = raw(server, data.encode())
            check(status in (0, 400) and closed, f"{name}: {status}, closed {closed}")
    with case("headers and bodies over the limits"):
        status, _, _ = raw(server, f"GET /health HTTP/1.1\r\n{H}X-A: {'a' * 100000}\r\n\r\n".encode())
        check(status in (0, 413, 431), status)
        status, _, _ = raw(server, f"POST /v1/session HTTP/1.1\r\n{H}Content-Type: application/json\r\n"
                                   f"Content-Length: {50 << 20}\r\n\r\n".encode() + b"x" * 100000)
        check(status == 413, status)
    with case("a hundred half-sent requests hold up nobody, and are closed in time"):
        half = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(100)]
        for s in half[:50]:
            s.sendall(b"GET /health HT")
        for s in half[50:]:
            s.sendall(f"POST /v1/session HTTP/1.1\r\n{H}Content-Type: application/json\r\nContent-Length: 50\r\n\r\n{{".encode())
        took = quick(server)
        check(took and took < 0.5, took)
        deadline = time.monotonic() + 45
        for s in half:
            s.settimeout(max(0.1, deadline - time.monotonic()))
            try:
                while s.recv(4096):
                    pass
            except ConnectionResetError:
                pass
            except OSError as e:
                check(False, f"still open after 45 s: {e}")
                break
            finally:
                s.close()

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = hard == resource.RLIM_INFINITY or hard >= IDLE + 500
    if enough:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, IDLE + 500), hard))
        with open(f"/proc/{server.pid}/limits") as f:
            theirs = next(line.split()[3] for line in f if line.startswith("Max open files"))
        enough = theirs == "unlimited" or int(theirs) >= IDLE + 200
    if not enough:
        skip(f"{IDLE} idle connections", f"the limit of open files here is {hard}")
    else:
        with case(f"{IDLE} idle connections cost little and hold up nobody"):
            before, before_fds = resident_mib(server.pid), server.descriptors()
            idle = []
            for n in range(IDLE):
                # Many addresses of the loopback, as the ports of one would run short beside other tests.
                s = socket.socket()
                s.bind((f"127.0.{1 + n // 5000}.1", 0))
                s.connect(("127.0.0.1", server.port))
                s.sendall(f"GET /health HTTP/1.1\r\n{H}\r\n".encode())
                idle.append(s)
            answered = sum(s.recv(4096).startswith(b"HTTP/1.1 200") for s in idle)
            check(answered == IDLE, f"{answered} of {IDLE} were answered")
            took, grown = quick(server), resident_mib(server.pid) - before
            note(f"{grown:.0f} MiB more, a request beside them took {took * 1000:.1f} ms")
            check(took < 0.5, took)
            check(grown < 250, f"{grown:.0f} MiB")
            for s in idle:
                s.close()
            deadline = time.monotonic() + 20
            while server.descriptors() > before_fds + 20 and time.monotonic() < deadline:
                time.sleep(0.05)
            check(server.descriptors() <= before_fds + 20, f"{server.descriptors()} descriptors, before {before_fds}")
    with case("and it still stops in order"):
        check(server.stop() == 0, server.process.returncode)
finish()
