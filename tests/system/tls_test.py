#!/usr/bin/env python3
"""TLS of the server's ports: what is spoken, a certificate replaced under open connections, a bad one that is not taken,
WebSockets and endless answers through it, and client certificates on the agents' link."""
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import lib  # noqa: E402
from lib import Answer, Server, case, check, finish, free_port, require, until  # noqa: E402


class Files:
    """An authority, certificates of it, and where the server looks for its own."""

    def __init__(self, home):
        self.home = home
        self.cert, self.key, self.ca = (os.path.join(home, n) for n in ("server.pem", "server.key", "ca.pem"))
        self.authority("ca")
        self.authority("other")

    def openssl(self, *words):
        subprocess.run(["openssl", *words], check=True, capture_output=True, cwd=self.home)

    def authority(self, name):
        self.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                     "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem")

    def make(self, name, authority="ca", use="serverAuth", days="30"):
        with open(os.path.join(self.home, name + ".ext"), "w") as f:
            f.write(f"subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage={use}\n")
        self.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
                     "-keyout", name + ".key", "-out", name + ".csr")
        self.openssl("x509", "-req", "-in", name + ".csr", "-CA", authority + ".pem", "-CAkey", authority + ".key",
                     "-CAcreateserial", "-days", days, "-extfile", name + ".ext", "-out", name + ".crt")
        return os.path.join(self.home, name + ".crt"), os.path.join(self.home, name + ".key")

    def install(self, cert, key):
        for source, to in ((key, self.key), (cert, self.cert)):
            with open(source) as f, open(to + ".new", "w") as g:
                g.write(f.read())
            os.replace(to + ".new", to)


def context(files, client=None, least=None, most=None):
    c = ssl.create_default_context(cafile=files.ca)
    c.set_ciphers("DEFAULT:@SECLEVEL=0")
    if client:
        c.load_cert_chain(*client)
    if least:
        c.minimum_version = c.maximum_version = least
    return c


def dial(port, ctx, host="127.0.0.1"):
    return ctx.wrap_socket(socket.create_connection((host, port), timeout=20), server_hostname=host)


def ask(s, path, headers=""):
    """One request on an open connection; its head and body."""
    s.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}\r\n".encode())
    got = b""
    while b"\r\n\r\n" not in got:
        more = s.recv(65536)
        require(more, got)
        got += more
    head, _, body = got.partition(b"\r\n\r\n")
    size = next((int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), 0)
    while len(body) < size:
        body += s.recv(65536)
    return head.decode(), body


def name_shown(port, files):
    with dial(port, context(files)) as s:
        return dict(pair[0] for pair in s.getpeercert()["subject"])["commonName"]


class TlsServer(Server):
    """Asked over the unix socket by the helpers of lib; its port speaks TLS."""

    def request(self, method, path, body=None, token="admin", headers=None, timeout=30, unix=True):
        if token == "admin":
            token = None
        return super().request(method, path, body, token, headers, timeout, unix=True)


def ready(server):
    return server.get("/ready").json["checks"]["tls"]


def run(server, files):
    with case("HTTP by TLS 1.2 and 1.3, with HSTS; nothing older, and plain HTTP is told where to go"):
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            with dial(server.port, context(files, least=version)) as s:
                head, body = ask(s, "/health")
                check(head.startswith("HTTP/1.1 200") and b"healthy" in body, head)
                check("Strict-Transport-Security: max-age=31536000" in head, head)
                head, _ = ask(s, "/v1/jobs")     # the same connection
                check(head.startswith("HTTP/1.1 401") and "X-Request-ID" in head, head)
        old = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", "-tls1_1", "-cipher",
                              "DEFAULT:@SECLEVEL=0"], input=b"", capture_output=True, timeout=30)
        check(old.returncode != 0 and b"Cipher is (NONE)" in old.stdout, old)
        told = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", "-CAfile", files.ca,
                               "-verify_return_error", "-brief"], input=b"", capture_output=True, timeout=30).stderr
        check(b"Verification: OK" in told and b"TLSv1.3" in told, told)
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as s:
            s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            said = s.recv(1000)
            check(said.startswith(b"HTTP/1.1 400") and b"https://" in said, said)
        check(ready(server) == "ok", ready(server))
        check("https://127.0.0.1:" in server.printed(), server.printed())
    with case("large bodies both ways, many connections at once, and one that sends nothing"):
        silent = socket.create_connection(("127.0.0.1", server.port))
        size = len(server.get("/openapi.json").body)
        faults = []

        def one(n):
            try:
                with dial(server.port, context(files)) as s:
                    for _ in range(5):
                        head, body = ask(s, "/openapi.json")
                        if len(body) != size:
                            faults.append((n, head, len(body)))
                    junk = b'{"command":["' + b"x" * 900000 + b'"]}'
                    s.sendall(b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: " +
                              str(len(junk)).encode() + b"\r\n\r\n" + junk)
                    if not s.recv(1000).startswith(b"HTTP/1.1 401"):
                        faults.append((n, "no 401"))
            except Exception as e:
                faults.append((n, repr(e)))
        threads = [threading.Thread(target=one, args=(n,)) for n in range(12)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(60)
        check(not faults, faults[:5])
        silent.close()
    with case("a new certificate is taken while connections go on; SIGHUP takes it at once"):
        with dial(server.port, context(files)) as before:
            ask(before, "/health")
            files.install(*files.make("second"))
            until(lambda: name_shown(server.port, files) == "second", 20, 0.2, "the new certificate")
            check(ask(before, "/health")[0].startswith("HTTP/1.1 200"), "the open connection")
            files.install(*files.make("third"))
            os.kill(server.pid, signal.SIGHUP)
            until(lambda: name_shown(server.port, files) == "third", 2, 0.05, "the certificate after SIGHUP")
            check(ask(before, "/health")[0].startswith("HTTP/1.1 200"), "the open connection")
    with case("a bad new certificate is not taken: the old one is shown, the log and /ready say so, and it heals"):
        cert, _ = files.make("fourth")
        _, key = files.make("fifth")
        files.install(cert, key)
        os.kill(server.pid, signal.SIGHUP)
        until(lambda: ready(server).startswith("degraded"), 10, 0.1)
        check("server.pem" in ready(server), ready(server))
        check(server.get("/ready").status == 200, "it still serves")
        check(name_shown(server.port, files) == "third")
        check("the old one still is" in server.printed(), server.printed()[-500:])
        with open(files.cert, "w") as f:
            f.write("nonsense")
        until(lambda: "server.pem" in ready(server), 10, 0.1)
        check(name_shown(server.port, files) == "third")
        files.install(*files.make("sixth"))
        until(lambda: ready(server) == "ok" and name_shown(server.port, files) == "sixth", 20, 0.2)
    with case("WebSockets and an endless answer go through it"):
        token = server.post("/v1/tokens", {"name": "t"}).json["token"]
        real = socket.create_connection
        socket.create_connection = lambda *a, **k: context(files).wrap_socket(real(*a, **k), server_hostname="127.0.0.1")
        try:
            with lib.WebSocket(server.port, "/api/gpu/ws", {"Authorization": "Bearer " + token}) as ws:
                require(ws.status == 101, ws.status)
                check(ws.receive()["type"] == "connection_established")
                for n in range(50):
                    ws.send({"type": "ping"})
                check(ws.expect("pong") is not None)
        finally:
            socket.create_connection = real
        job = server.post("/v1/jobs", {"command": ["sh", "-c", "for i in 1 2 3; do echo line $i; sleep 0.2; done"]}).json["id"]
        with dial(server.port, context(files)) as s:
            s.sendall(f"GET /v1/jobs/{job}/log/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
            got = b""
            while True:
                more = s.recv(65536)
                if not more:
                    break
                got += more
            check(b"line 3" in got and b"event: end" in got and b"Strict-Transport-Security" in got, got)
    with case("the agents' link wants a client certificate of its authority"):
        link = ("GET /v1/agent/link HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n").encode()

        def status(client):
            with dial(server.port, context(files, client)) as s:
                s.sendall(link)
                return s.recv(4000).decode()
        check(status(None).startswith("HTTP/1.1 401"))     # no credential at all
        for name, authority, use in (("foreign", "other", "clientAuth"), ("a-server", "ca", "serverAuth")):
            try:
                said = status(files.make(name, authority, use))
                check(not said, name, said)
            except (ssl.SSLError, ConnectionError):
                pass
        good = status(files.make("n-1", "ca", "clientAuth"))
        check(good.startswith("HTTP/1.1 401"), good)       # the certificate alone is no credential
        nodes = server.get("/v1/nodes").json["items"]
        check(any(n["state"] == "online" for n in nodes), "this host's own agent needs none", nodes)
    with case("a remote agent with its credential gets in by its certificate, and not without it"):
        url, data = f"https://127.0.0.1:{server.port}", os.path.join(server.home, "remote")
        agent = [os.path.join(lib.BUILD, "drover-agent"), "--data", data, "--gpu", "none", "--page", "off", "--name", "remote"]
        cert, key = files.make("remote", "ca", "clientAuth")
        shown = ["--ca", files.ca, "--cert", cert, "--key", key]
        join = server.post("/v1/agents/tokens", {}).json["token"]
        joined = subprocess.run([*agent, *shown, "--server", url, "--join", join, "--join-only"], capture_output=True,
                                text=True, timeout=60)
        require(joined.returncode == 0, joined)

        def state():
            return next((n["state"] for n in server.get("/v1/nodes").json["items"] if n["name"] == "remote"), None)

        def run_agent(*more):
            log = open(os.path.join(server.home, "remote.log"), "a")
            return subprocess.Popen([*agent, *more], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        bare = run_agent("--ca", files.ca, "--server", url)
        time.sleep(3)
        check(state() != "online", "without a certificate")
        bare.terminate()
        bare.wait(20)
        good = run_agent(*shown, "--server", url)
        until(lambda: state() == "online", 30, 0.2, "the node with its certificate")
        good.terminate()
        good.wait(20)
    with case("SIGTERM ends it in order, with connections open; nothing is left open before"):
        held = [dial(server.port, context(files)) for _ in range(20)]
        many = server.descriptors()
        for s in held[:10]:
            s.close()
        until(lambda: server.descriptors() <= many - 25, 20, 0.1, "closed descriptors")
        check(server.stop() == 0, server.printed()[-2000:])
        for s in held[10:]:
            s.close()


the_server = TlsServer(demo=True)
os.makedirs(the_server.home, exist_ok=True)
the_files = Files(the_server.home)
the_files.install(*the_files.make("first"))
the_server.settings.update(TLS_CERT_FILE=the_files.cert, TLS_KEY_FILE=the_files.key, TLS_AGENT_CA_FILE=the_files.ca)
with the_server:
    run(the_server, the_files)
with case("half of the settings is told, and stops the start"):
    half = subprocess.run([lib.DROVER, "serve", "--data", os.path.join("/tmp", f"drover-tls-{os.getpid()}")], timeout=30,
                          env={"PATH": os.environ["PATH"], "SERVER_PORT": str(free_port()), "COMPAT_PORT": "0",
                               "LOCAL_AGENT": "off", "TLS_CERT_FILE": "/nowhere"}, capture_output=True, text=True)
    check(half.returncode == 1 and "belong together" in half.stderr, half)
    subprocess.run(["rm", "-rf", f"/tmp/drover-tls-{os.getpid()}"], check=False)
finish()
