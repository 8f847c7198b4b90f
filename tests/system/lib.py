"""What whole-process tests share: a real server on a port and a data folder of its own, the command
line beside it, HTTP over TCP and over its unix socket, and TAP output.

    from lib import Server, case, check, finish
    with Server(demo=True) as server:
        with case("an administrator sees the queue"):
            check(server.get("/v1/jobs").status == 200)
    finish()

Needs the build folder in DROVER_BUILD (default: ./build). Everything is put on 127.0.0.1 and under a
temporary folder, and what was started is stopped by pid: also a test that fails leaves nothing behind.
"""
import base64
import contextlib
import http.client
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.parse

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.abspath(os.environ.get("DROVER_BUILD", os.path.join(TOP, "build")))
DROVER = os.path.join(BUILD, "drover")
START_S, STOP_S = 20, 15

# --- TAP ---------------------------------------------------------------------------------------

_ran, _bad, _problems = 0, 0, None


class Failed(Exception):
    """Ends a case at once; check() alone goes on, so that one run shows all."""


def note(text):
    for line in str(text).splitlines() or [""]:
        print("#", line, flush=True)


def check(true, *told, deeper=0):
    """Tells and remembers what is not true; gives its first argument back."""
    if not true:
        at = traceback.extract_stack(limit=2 + deeper)[0]
        note(f"{os.path.basename(at.filename)}:{at.lineno}: {at.line}")
        for what in told:
            note(f"  {what!r}" if not isinstance(what, str) else f"  {what}")
        if _problems is not None:
            _problems.append(at)
    return true


def require(true, *told):
    if not check(true, *told, deeper=1):
        raise Failed


def _result(good, name, comment=""):
    global _ran, _bad
    _ran += 1
    _bad += not good
    print(f"{'ok' if good else 'not ok'} {_ran} - {name}{comment}", flush=True)


@contextlib.contextmanager
def case(name):
    global _problems
    _problems = []
    try:
        yield
    except Failed:
        pass
    except Exception:
        note(traceback.format_exc())
        _problems.append(None)
    _result(not _problems, name)
    _problems = None


def skip(name, reason):
    _result(True, name, f" # SKIP {reason}")


def finish():
    print(f"1..{_ran}", flush=True)
    sys.exit(1 if _bad or not _ran else 0)


def until(true, seconds=10, every=0.02, what="it"):
    """Polls: gives the first true value of true(), or fails the case at the deadline."""
    deadline = time.monotonic() + seconds
    while True:
        value = true()
        if value:
            return value
        if time.monotonic() > deadline:
            require(False, f"{what} did not come true in {seconds} s; last value: {value!r}")
        time.sleep(every)


# --- HTTP --------------------------------------------------------------------------------------

class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def text(self):
        return self.body.decode("utf-8", "replace")

    @property
    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"<{self.status} {self.text[:300]}>"


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def free_port():
    """Below the ports that outgoing connections get: none of those takes it before the server does."""
    while True:
        port = random.randrange(15000, 30000)
        with socket.socket() as s:
            try:
                s.bind(("0.0.0.0", port))
            except OSError:
                continue
        return port


class WebSocket:
    """A client of RFC 6455, as small as tests need it."""

    def __init__(self, port, path, headers=None, timeout=15):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout)
        self.pending = b""
        lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Upgrade: websocket", "Connection: Upgrade",
                 "Sec-WebSocket-Key: " + base64.b64encode(os.urandom(16)).decode(), "Sec-WebSocket-Version: 13",
                 *(f"{k}: {v}" for k, v in (headers or {}).items())]
        self.sock.sendall("\r\n".join(lines).encode() + b"\r\n\r\n")
        while b"\r\n\r\n" not in self.pending:
            more = self.sock.recv(4096)
            if not more:
                break
            self.pending += more
        head, _, self.pending = self.pending.partition(b"\r\n\r\n")
        self.status = int(head.split()[1]) if head else 0
        self.closed = None      # the code of the close frame, once it came

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def _exactly(self, n):
        while len(self.pending) < n:
            more = self.sock.recv(65536)
            if not more:
                raise EOFError("the server closed the connection")
            self.pending += more
        out, self.pending = self.pending[:n], self.pending[n:]
        return out

    def send_frame(self, opcode, payload):
        mask = os.urandom(4)
        size = len(payload)
        head = (bytes([0x80 | opcode, 0x80 | size]) if size < 126 else
                bytes([0x80 | opcode, 0x80 | 126]) + size.to_bytes(2, "big") if size < 65536 else
                bytes([0x80 | opcode, 0x80 | 127]) + size.to_bytes(8, "big"))
        self.sock.sendall(head + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(payload)))

    def send(self, value):
        self.send_frame(1, (value if isinstance(value, str) else json.dumps(value)).encode())

    def receive(self):
        """The next message (JSON is read), or None once the server has closed; then see `closed`."""
        whole = b""
        while True:
            first, second = self._exactly(2)
            size = second & 127
            if size > 125:
                size = int.from_bytes(self._exactly(2 if size == 126 else 8), "big")
            payload = self._exactly(size)
            if first & 15 == 9:
                self.send_frame(10, payload)
            elif first & 15 == 8:
                self.closed = int.from_bytes(payload[:2], "big") if payload else 1005
                return None
            elif first & 15 in (0, 1, 2):
                whole += payload
                if first & 128:
                    return json.loads(whole)

    def expect(self, kind, most=200):
        """The next message of that type; others are passed over."""
        for _ in range(most):
            message = self.receive()
            if message is None or message.get("type") == kind:
                return message
        return None


# --- the server --------------------------------------------------------------------------------

class Server:
    """drover serve on a data folder. `env` adds settings; `data` keeps a folder of the caller's."""

    def __init__(self, demo=False, data=None, env=None, args=(), compat=False, wrapper=()):
        self.own = data is None
        self.home = tempfile.mkdtemp(prefix="drover-test-")
        self.data = data or os.path.join(self.home, "data")
        self.args = [*wrapper, DROVER, "serve", "--data", self.data, *(["--demo"] if demo else []), *args]
        self.compat = compat
        self.settings = dict(env or {})
        self.process, self.output, self.port, self._token = None, [], None, None

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, *_):
        self.close()
        if kind:
            note("the server said:")
            note("".join(self.output[-40:]))

    def environment(self):
        env = {"PATH": os.environ["PATH"], "HOME": self.home, "LC_ALL": "C.UTF-8",
               "SERVER_HOST": "127.0.0.1", "SERVER_PORT": str(self.port),
               "COMPAT_PORT": str(self.compat_port), "RATE_LIMIT": "off",
               "JOB_ISOLATION": "basic",         # jobs of most tests write into the test's own folders
               "DROVER_LOCK_DIR": self.home}     # two tests side by side have the same made-up GPUs
        for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS", "LD_LIBRARY_PATH", "TMPDIR", "DATABASE_URL"):
            if name in os.environ:
                env[name] = os.environ[name]
        env.update(self.settings)
        return env

    def start(self):
        for _ in range(3):
            self.port = self.port or free_port()
            self.compat_port = free_port() if self.compat else 0
            self.output = []
            self.process = subprocess.Popen(
                self.args, env=self.environment(), cwd=self.home, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
            self._reader = threading.Thread(target=self._read, args=(self.process,), daemon=True)
            self._reader.start()
            if self._wait_ready():
                return self
            self.kill()
            if not re.search("in use", "".join(self.output), re.I):
                break
            self.port = None        # somebody took it between the choice and the bind
        raise RuntimeError("the server did not become ready:\n" + "".join(self.output[-40:]))

    def _read(self, process):
        for line in process.stdout:
            self.output.append(line)

    def _wait_ready(self):
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if self.request("GET", "/ready", token=None, timeout=2).status == 200:
                    return True
            except OSError:
                pass
            except http.client.HTTPException:
                pass
            time.sleep(0.01)
        return False

    @property
    def pid(self):
        return self.process.pid

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def socket(self):
        return os.path.join(self.data, "drover.sock")

    def stop(self):
        """SIGTERM; gives the exit status (None: it had to be killed)."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            status = None
        self._reader.join(5)
        return status

    def kill(self):
        """kill -9; the agent and the jobs live on, as they would."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
        if self.process is not None:
            self.process.wait()
            self._reader.join(2)

    def others(self):
        """The pids of agent, launcher, shims and jobs of this server: whatever names its folder."""
        found = []
        for entry in os.listdir("/proc"):
            if not entry.isdigit() or int(entry) in (os.getpid(), self.process.pid):
                continue
            told = b""
            for part in ("cmdline", "environ"):
                with contextlib.suppress(OSError), open(f"/proc/{entry}/{part}", "rb") as f:
                    told += f.read()
            if self.home.encode() in told or self.data.encode() in told:
                found.append(int(entry))
        return found

    def running(self, name):
        """Those of others() that run build/NAME; the launcher, which is drover-shim too, is "launcher"."""
        found = []
        for pid in self.others():
            with contextlib.suppress(OSError):
                program = os.path.basename(os.readlink(f"/proc/{pid}/exe")).removesuffix(" (deleted)")
                with open(f"/proc/{pid}/comm") as f:
                    if f.read().strip() == "drover-launch":
                        program = "launcher"
                if program == name:
                    found.append(pid)
        return found

    def close(self):
        self.stop()
        for pid in self.others() if self.process else ():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.home, ignore_errors=True)

    def printed(self):
        return "".join(self.output)

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    # --- talking to it

    def request(self, method, path, body=None, token="admin", headers=None, timeout=30, unix=False):
        """`body`: bytes or text as they are, anything else as JSON. `token`: None, a token, or "admin"."""
        send = dict(headers or {})
        if token == "admin":
            token = self.admin_token() if not unix else None
        if token:
            send.setdefault("Authorization", "Bearer " + token)
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
            send.setdefault("Content-Type", "application/json")
        if isinstance(body, str):
            body = body.encode()
        connection = (_UnixConnection(self.socket, timeout) if unix else
                      http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout))
        try:
            connection.request(method, path, body, send)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def get(self, path, **more):
        return self.request("GET", path, **more)

    def post(self, path, body=None, **more):
        return self.request("POST", path, body, **more)

    def delete(self, path, **more):
        return self.request("DELETE", path, **more)

    # --- who asks

    def local(self, method, path, body=None):
        """As the administrator "local", over the unix socket."""
        return self.request(method, path, body, unix=True)

    def new_user(self, email, password, role="user"):
        answer = self.local("POST", "/v1/users", {"email": email, "password": password, "role": role})
        if answer.status != 201:
            raise RuntimeError(f"no user {email}: {answer!r}")
        return answer.json

    def sign_in(self, email, password):
        answer = self.post("/v1/session", {"email": email, "password": password}, token=None)
        if answer.status not in (200, 201):
            raise RuntimeError(f"{email} could not sign in: {answer!r}")
        return answer.json["access_token"]

    admin_email, admin_password = "test-admin@example.com", "correct-horse-battery"

    def admin_token(self):
        if self._token is None:
            with contextlib.suppress(RuntimeError):     # there since an earlier start on this folder
                self.new_user(self.admin_email, self.admin_password, "admin")
            self._token = self.sign_in(self.admin_email, self.admin_password)
        return self._token

    def cli(self, *words, token=None, timeout=60, stdin="", env=None):
        """Runs `drover …` against this server; unless a token is given it signs in by the unix socket."""
        environment = {"PATH": os.environ["PATH"], "HOME": self.home, "LC_ALL": "C.UTF-8",
                       "DROVER_URL": self.url if token else "unix:" + self.socket, "TERM": "dumb"}
        if token:
            environment["DROVER_TOKEN"] = token
        environment.update(env or {})
        return subprocess.run([DROVER, *map(str, words)], env=environment, cwd=TOP, timeout=timeout,
                              input=stdin, capture_output=True, text=True, errors="replace")

    def wait_job(self, job, seconds=60):
        """The job when it has ended."""
        ended = ("completed", "failed", "timeout", "cancelled")
        return until(lambda: (lambda j: j if j.get("state") in ended else None)(
            self.get(f"/v1/jobs/{job}").json), seconds, 0.05, f"the end of {job}")


def quote(text):
    return urllib.parse.quote(str(text), safe="")
