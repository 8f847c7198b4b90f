"""A stand-in for the server's side of the agent link: a WebSocket on a unix socket that keeps what
the agent says, checks that logs come without holes, and can be cut, slowed and made forgetful.
Python's standard library only."""
import base64
import hashlib
import json
import os
import queue
import socket
import struct
import threading
import time

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Link:
    """One accepted connection."""

    def __init__(self, server, sock):
        self.server, self.sock, self.out = server, sock, queue.SimpleQueue()

    def handshake(self):
        head = b""
        while b"\r\n\r\n" not in head:
            more = self.sock.recv(4096)
            if not more:
                raise ConnectionError("closed in the handshake")
            head += more
        head, self.rest = head.split(b"\r\n\r\n", 1)
        lines = head.decode().split("\r\n")
        fields = {k.lower(): v.strip() for k, v in (l.split(":", 1) for l in lines[1:])}
        self.server.requests.append((lines[0], fields))
        accept = base64.b64encode(hashlib.sha1(fields["sec-websocket-key"].encode() + GUID).digest())
        self.sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                          b"Connection: Upgrade\r\nSec-WebSocket-Protocol: drover-agent.1\r\n"
                          b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")

    def exactly(self, n):
        while len(self.rest) < n:
            more = self.sock.recv(1 << 18)
            if not more:
                raise ConnectionError("closed")
            self.rest += more
        out, self.rest = self.rest[:n], self.rest[n:]
        return out

    def frame(self):
        a, b = self.exactly(2)
        n = b & 127
        if n == 126:
            n = struct.unpack(">H", self.exactly(2))[0]
        elif n == 127:
            n = struct.unpack(">Q", self.exactly(8))[0]
        assert b & 128, "a client's frame must be masked"
        mask = self.exactly(4)
        data = self.exactly(n)
        wide = int.from_bytes(data, "little") ^ int.from_bytes((mask * (n // 4 + 1))[:n], "little")
        return a & 128, a & 15, wide.to_bytes(n, "little")

    def send(self, opcode, data):
        n = len(data)
        head = bytes([0x80 | opcode])
        head += (bytes([n]) if n < 126 else b"\x7e" + struct.pack(">H", n) if n < 65536
                 else b"\x7f" + struct.pack(">Q", n))
        self.out.put(head + data)

    def write(self):
        """On a thread of its own: a server that stops reading while it writes could block both."""
        try:
            while data := self.out.get():
                self.sock.sendall(data)
        except OSError:
            pass

    def run(self):
        try:
            self.handshake()
            threading.Thread(target=self.write, daemon=True).start()
            whole, kind = b"", 0
            while True:
                fin, op, data = self.frame()
                if op == 9:
                    self.send(10, data)
                elif op == 8:
                    return
                elif op in (0, 1, 2):
                    whole, kind = whole + data, op or kind
                    if fin:
                        self.server.message(self, kind, whole)
                        whole = b""
        except (OSError, ConnectionError):
            pass
        finally:
            self.out.put(None)
            self.sock.close()
            self.server.gone(self)


class Server:
    def __init__(self, path, sample_ms=1000):
        self.path, self.sample_ms = path, sample_ms
        self.cond = threading.Condition()
        self.attempts, self.history, self.logs = {}, {}, {}
        self.requests, self.hellos, self.samples, self.faults = [], [], [], []
        self.link, self.acking, self.forgetting, self.listener = None, True, True, None
        self.forgotten = set()
        self.unacked = {}
        self.open()

    # ---- connections ----

    def open(self):
        if os.path.exists(self.path):
            os.unlink(self.path)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(8)
        os.chmod(self.path, 0o777)
        threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()

    def accept(self, listener):
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=Link(self, sock).run, daemon=True).start()

    def close(self):
        listener, self.listener = self.listener, None
        if listener:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.cut()

    def cut(self):
        with self.cond:
            link, self.link = self.link, None
        if link:
            try:
                link.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def gone(self, link):
        with self.cond:
            if self.link is link:
                self.link = None
            self.cond.notify_all()

    def tell(self, link=None, **message):
        link = link or self.link
        try:
            if link:
                link.send(1, json.dumps(message).encode())
                return True
        except OSError:
            pass
        return False

    # ---- what the agent says ----

    def message(self, link, kind, data):
        with self.cond:
            if kind == 2:
                self.take_log(link, data)
            else:
                m = json.loads(data)
                if m["type"] == "hello":
                    self.hellos.append(m)
                    self.link = link
                    self.tell(link, type="welcome", node=1, sample_ms=self.sample_ms)
                    for a in m["attempts"]:
                        again = a["id"] in self.forgotten
                        self.take_attempt(link, a)
                        if again:       # the word did not arrive
                            self.tell(link, type="forget", id=a["id"])
                        self.tell(link, type="log_from", id=a["id"],
                                  offset=len(self.logs.get(a["id"], b"")))
                elif m["type"] == "attempt":
                    self.take_attempt(link, m)
                elif m["type"] == "sample":
                    self.samples.append(m)
                else:
                    self.faults.append("unknown message %r" % m)
            self.cond.notify_all()

    def take_attempt(self, link, a):
        before = self.attempts.get(a["id"])
        self.attempts[a["id"]] = a
        seen = self.history.setdefault(a["id"], [])
        if not seen or seen[-1] != a["state"]:
            seen.append(a["state"])
        final = ("ended", "refused")
        if before and before["state"] in final and (
                a["state"] != before["state"] or a["exit"] != before["exit"]):
            if a["id"] not in self.forgotten:
                self.faults.append("attempt %d ended twice: %r then %r" % (a["id"], before, a))
            self.attempts[a["id"]] = before
        self.settle(link, a["id"])

    def take_log(self, link, data):
        assert data[:1] == b"L"
        attempt, offset = struct.unpack_from("<QQ", data, 1)
        log, piece = self.logs.setdefault(attempt, bytearray()), data[17:]
        if offset > len(log):
            self.faults.append("attempt %d: hole in the log, %d > %d" % (attempt, offset, len(log)))
            return
        if offset < len(log) and log[offset:offset + len(piece)] != piece[:len(log) - offset]:
            self.faults.append("attempt %d: other bytes at %d" % (attempt, offset))
        log += piece[len(log) - offset:]
        if self.acking:
            self.tell(link, type="log_ack", id=attempt, offset=len(log))
        else:
            self.unacked[attempt] = len(log)
        self.settle(link, attempt)

    def settle(self, link, attempt):
        """Forgets what has ended and whose whole log is here."""
        a = self.attempts.get(attempt)
        if not a or not self.forgetting or attempt in self.forgotten:
            return
        if a["state"] == "refused" or (a["state"] == "ended" and
                                       a["log_bytes"] == len(self.logs.get(attempt, b""))):
            if self.tell(link, type="forget", id=attempt):
                self.forgotten.add(attempt)

    # ---- for tests ----

    def wait(self, what, seconds=15):
        """Waits until what() is true under the lock; returns it."""
        end = time.monotonic() + seconds
        with self.cond:
            while True:
                got = what()
                if got or time.monotonic() > end:
                    return got
                self.cond.wait(min(0.2, max(0.01, end - time.monotonic())))

    def connected(self, seconds=10):
        return self.wait(lambda: self.link, seconds)

    def start(self, attempt, argv, **more):
        spec = dict(id=attempt, job=attempt, name="t", argv=argv, env={}, cwd=None, image=None,
                    gpus=[], gpu_uuids=[], simulated=False, cpus=None, memory_mib=None,
                    pids_max=None, time_limit_us=None, grace_us=1000000, log_max_bytes=1 << 30)
        spec.update(more)
        self.tell(type="start", attempt=spec)

    def state(self, attempt, *states, seconds=15):
        ok = self.wait(lambda: self.attempts.get(attempt, {}).get("state") in states, seconds)
        return self.attempts.get(attempt) if ok else None

    def ended(self, attempt, seconds=15, whole=True):
        """The final report once the whole log is here; None: it did not come."""
        def done():
            a = self.attempts.get(attempt)
            return a and (a["state"] == "refused" or (a["state"] == "ended" and (
                not whole or len(self.logs.get(attempt, b"")) >= a["log_bytes"])))
        return self.attempts.get(attempt) if self.wait(done, seconds) else None

    def records(self, attempt):
        out, at, log = [], 0, bytes(self.logs.get(attempt, b""))
        while at < len(log):
            stream, flags, zero, n, when = struct.unpack_from("<BBHIq", log, at)
            assert zero == 0 and 1 <= stream <= 3 and n <= 65536 and at + 16 + n <= len(log), \
                "attempt %d: bad record at %d" % (attempt, at)
            out.append((stream, flags, log[at + 16:at + 16 + n]))
            at += 16 + n
        return out

    def lines(self, attempt, stream=1):
        out, part = [], []
        for s, flags, text in self.records(attempt):
            if s == stream:
                part.append(text)
                if not flags & 1:
                    out.append(b"".join(part))
                    part = []
        return out + ([b"".join(part)] if part else [])
