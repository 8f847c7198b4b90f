"""Code and results travel: commands, shells, ports and files between a person and a running job."""
import hashlib
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import fcntl
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import DROVER, Server, case, check, finish, free_port, require, until, WebSocket

ECHO = """
import socket, sys, threading
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("127.0.0.1", int(sys.argv[1]))); s.listen(50)
def serve(c):
    while True:
        d = c.recv(65536)
        if not d: break
        c.sendall(d)
    c.close()
while True:
    threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
"""


def environment(server):
    return {"PATH": os.environ["PATH"], "HOME": server.home, "LC_ALL": "C.UTF-8", "TERM": "xterm",
            "DROVER_URL": "unix:" + server.socket}


def drover(server, *words, stdin=b"", timeout=60):
    return subprocess.run([DROVER, *words], input=stdin, env=environment(server), cwd=server.home,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout)


def job(server, *command):
    answer = server.local("POST", "/v1/jobs", {"command": list(command), "cwd": server.home,
                                                   "env": {"OF_TEST": server.home}})
    require(answer.status == 201, answer)
    return answer.json["id"]


def running(server, name):
    until(lambda: server.local("GET", f"/v1/jobs/{name}").json["state"] == "running", 20, what="the job")
    return name


def tree(path):
    found = {}
    for top, folders, files in os.walk(path):
        for one in folders + files:
            whole = os.path.join(top, one)
            st = os.lstat(whole)
            what = os.readlink(whole) if os.path.islink(whole) else None
            if os.path.isfile(whole) and what is None:
                with open(whole, "rb") as f:
                    what = hashlib.sha256(f.read()).hexdigest()
            found[os.path.relpath(whole, path)] = (st.st_mode if not os.path.islink(whole) else 0, what)
    return found


def helpers(server):
    return [p for p in server.others() if b"--stream" in read(f"/proc/{p}/cmdline")]


def read(path):
    try:
        with open(path, "rb") as f:
            return f.read()
    except OSError:
        return b""


def exec_cases(server, long):
    with case("exec passes input, output, errors and the exit code, byte for byte"):
        data = bytes(range(256)) * 4000
        done = drover(server, "exec", long, "--", "sh", "-c", "cat; echo oops >&2; exit 7", stdin=data)
        check(done.stdout == data, len(done.stdout))
        check(done.stderr == b"oops\n", done.stderr)
        check(done.returncode == 7, done.returncode)
        done = drover(server, "exec", long, "--", "sh", "-c", "kill -9 $$")
        check(done.returncode == 137, done.returncode)
    with case("what is run is a process of the job: its folder, its environment, its groups"):
        done = drover(server, "exec", long, "--", "sh", "-c", "pwd; echo $DROVER_JOB_ID; cat /proc/self/cgroup")
        lines = done.stdout.decode().splitlines()
        check(lines[0] == os.path.realpath(server.home), lines)
        check(lines[1] == long, lines)
        pid = find(server, long)
        with open(f"/proc/{pid}/cgroup") as f:
            check(lines[2:] == f.read().splitlines(), lines)
    with case("what cannot be done is said plainly"):
        done = drover(server, "exec", long, "--", "no-such-program")
        check(b"command not found: no-such-program" in done.stderr and done.returncode == 1, done)
        ended = job(server, "true")
        until(lambda: server.local("GET", f"/v1/jobs/{ended}").json["state"] == "completed", 20)
        done = drover(server, "exec", ended, "--", "true")
        check(b"is completed, not running" in done.stderr, done.stderr)
        done = drover(server, "exec", "j-99", "--", "true")
        check(b"no job j-99" in done.stderr, done.stderr)
    with case("when the person goes, what was run goes too"):
        p = subprocess.Popen([DROVER, "exec", long, "--", "sleep", "97"], env=environment(server),
                             stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(lambda: [x for x in server.others() if read(f"/proc/{x}/cmdline") == b"sleep\x0097\0"], 20)
        p.kill()
        p.wait()
        until(lambda: not [x for x in server.others() if read(f"/proc/{x}/cmdline") == b"sleep\x0097\0"], 20)
        until(lambda: not helpers(server), 20, what="the end of the helper")
    with case("when the job ends, what was run in it ends"):
        other = running(server, job(server, "sleep", "500"))
        p = subprocess.Popen([DROVER, "exec", other, "--", "sleep", "98"], env=environment(server),
                             stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        until(lambda: [x for x in server.others() if read(f"/proc/{x}/cmdline") == b"sleep\x0098\0"], 20)
        server.local("POST", f"/v1/jobs/{other}/cancel", {"grace_s": 0})
        check(p.wait(20) != 0)
        p.stderr.close()
        until(lambda: not [x for x in server.others() if read(f"/proc/{x}/cmdline") == b"sleep\x0098\0"], 20)


def find(server, name):
    for pid in server.others():
        if f"DROVER_JOB_ID={name}\0".encode() in read(f"/proc/{pid}/environ"):
            return pid
    return None


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, server, *words):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(DROVER, [DROVER, *words], environment(server))
        self.text = ""

    def size(self, rows, columns):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text):
        os.write(self.fd, text.encode())

    def until(self, text, seconds=20):
        deadline = time.monotonic() + seconds
        while text not in self.text:
            ready, _, _ = select.select([self.fd], [], [], max(0, deadline - time.monotonic()))
            require(ready, f"{text!r} did not come; so far: {self.text[-400:]!r}")
            try:
                self.text += os.read(self.fd, 4096).decode("utf-8", "replace")
            except OSError:
                self.text += "\0closed"
                require(text in self.text, self.text[-400:])
        self.text = self.text[self.text.index(text) + len(text):]

    def wait(self):
        try:
            while os.read(self.fd, 4096):
                pass
        except OSError:
            pass
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.fd)
        return status


def shell_cases(server, long):
    with case("a shell has a terminal that follows the size of ours, signals, and an exit code"):
        t = Terminal(server, "shell", long)
        t.size(33, 111)
        t.type("echo re''ady; stty size\n")
        t.until("ready")
        t.size(44, 99)
        until(lambda: (t.type("stty size | sed s/^/at:/\n"), time.sleep(0.3), t.until("at:"),
                       t.until("\n"), True)[-1])
        t.type("stty size | sed s/^/now:/\n")
        t.until("now:44 99")
        t.type("sleep 100\n")
        time.sleep(0.5)
        t.type("\x03")
        t.type("echo st''ill here\n")
        t.until("still here", 10)
        t.type("exit 5\n")
        check(t.wait() == 5)
        check(server.local("GET", f"/v1/jobs/{long}").json["state"] == "running")
    with case("a shell without a terminal is refused with the way out"):
        done = drover(server, "shell", long)
        check(done.returncode == 2 and b"drover exec" in done.stderr, done.stderr)


def listens(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def port_cases(server):
    with case("100 MiB go through a forwarded port both ways, and many connections at once"):
        port, local = free_port(), free_port()
        script = os.path.join(server.home, "echo.py")
        with open(script, "w") as f:
            f.write(ECHO)
        echo = running(server, job(server, sys.executable, script, str(port)))
        p = subprocess.Popen([DROVER, "port-forward", echo, f"{local}:{port}"], env=environment(server),
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        check(b"127.0.0.1:%d" % local in p.stdout.readline())
        good = []

        def through(n):
            data = os.urandom(1 << 20) * (n >> 20)
            with socket.create_connection(("127.0.0.1", local), 60) as s:
                writer = threading.Thread(target=lambda: (s.sendall(data), s.shutdown(socket.SHUT_WR)))
                writer.start()
                back = hashlib.sha256()
                while part := s.recv(1 << 16):
                    back.update(part)
                writer.join()
            good.append(back.digest() == hashlib.sha256(data).digest())
        until(lambda: listens(port), 20, what="the job's port")
        through(100 << 20)
        threads = [threading.Thread(target=through, args=(1 << 20,)) for _ in range(20)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        check(good == [True] * 21, good)
        p.send_signal(signal.SIGINT)
        check(p.wait(10) == 130)
        p.stdout.close()
        p.stderr.close()
        until(lambda: not helpers(server), 20, what="the end of the helpers")


def copy_cases(server, long):
    here = os.path.join(server.home, "here")
    os.makedirs(os.path.join(here, "a/b"))
    with open(os.path.join(here, "big"), "wb") as f:
        f.write(os.urandom(1 << 20) * 24)
    with open(os.path.join(here, "a/b/run.sh"), "w") as f:
        f.write("#!/bin/sh\n")
    os.chmod(os.path.join(here, "a/b/run.sh"), 0o755)
    os.chmod(os.path.join(here, "a"), 0o750)
    os.symlink("../../big", os.path.join(here, "a/b/link"))
    open(os.path.join(here, "empty ü"), "w").close()
    with case("folders are copied both ways with modes, links and names"):
        done = drover(server, "cp", here, f"{long}:there")
        check(done.returncode == 0, done.stderr)
        check(tree(os.path.join(server.home, "there")) == tree(here))
        done = drover(server, "cp", f"{long}:there", "back")
        check(done.returncode == 0, done.stderr)
        check(tree(os.path.join(server.home, "back")) == tree(here))
    with case("a copy that was cut goes on where it was"):
        part = os.path.join(server.home, ".big.drover-part")
        with open(os.path.join(here, "big"), "rb") as f, open(part, "wb") as to:
            to.write(f.read(20 << 20))
        inode = os.stat(part).st_ino
        done = drover(server, "cp", f"{long}:there/big", "big")
        whole = os.path.join(server.home, "big")
        check(done.returncode == 0 and os.stat(whole).st_ino == inode, done.stderr)
        check(read(whole) == read(os.path.join(here, "big")))
        with open(part, "wb") as to:        # what is there is another file's beginning
            to.write(b"x" * (1 << 20))
        os.unlink(whole)
        done = drover(server, "cp", f"{long}:there/big", "big")
        check(done.returncode == 0 and read(whole) == read(os.path.join(here, "big")), done.stderr)
    with case("what cannot be copied is named"):
        done = drover(server, "cp", f"{long}:nowhere", ".")
        check(done.returncode == 1 and b"nowhere: No such file" in done.stderr, done.stderr)
        done = drover(server, "cp", "here/big", f"{long}:/no/such/place")
        check(done.returncode == 1 and b"/no/such" in done.stderr, done.stderr)
        done = drover(server, "cp", "nowhere", f"{long}:x")
        check(done.returncode != 0 and b"nowhere" in done.stderr, done.stderr)


def sync_cases(server):
    code = os.path.join(server.home, "code")
    os.makedirs(os.path.join(code, "pkg/data"))
    for i in range(2000):
        with open(os.path.join(code, f"pkg/m{i}.py"), "w") as f:
            f.write(f"x = {i}\n")
    with open(os.path.join(code, "big"), "wb") as f:
        f.write(os.urandom(6 << 20))
    with open(os.path.join(code, "run.sh"), "w") as f:
        f.write("#!/bin/sh\nfind . | sort; mkdir -p out/sub; cp big out/sub; echo 1 > out/a.csv; echo n > no.txt; exit 3\n")
    os.chmod(os.path.join(code, "run.sh"), 0o755)
    os.symlink("../run.sh", os.path.join(code, "pkg/link"))
    os.symlink("/etc/passwd", os.path.join(code, "outside"))
    with open(os.path.join(code, ".gitignore"), "w") as f:
        f.write("*.log\n/pkg/data/\n!keep.log\n")
    for name in ("a.log", "keep.log", "pkg/data/x"):
        open(os.path.join(code, name), "w").close()

    def submit(*words):
        return drover(server, "submit", "--sync", code, *words)
    with case("code travels to the job, results come back, also when it failed and its folder is gone"):
        done = submit("--out", "out", "--out", "*.none", "--wait", "--", "./run.sh")
        check(done.returncode == 3, done.stderr)
        check(b"outside" in done.stderr and b"leads outside" in done.stderr, done.stderr)
        name = done.stderr.decode().split("job ")[1].split()[0]
        listed = drover(server, "logs", name).stdout.decode().splitlines()
        check("./pkg/m1999.py" in listed and "./keep.log" in listed and "./pkg/link" in listed, len(listed))
        check(not {"./a.log", "./pkg/data", "./outside"} & set(listed), listed[:20])
        until(lambda: not os.listdir(os.path.join(server.data, "agent/work")), 20)
        done = drover(server, "cp", f"{name}:", "results")
        check(done.returncode == 0, done.stderr)
        results = os.path.join(server.home, "results")
        check(sorted(tree(results)) == ["out", "out/a.csv", "out/sub", "out/sub/big"], tree(results))
        check(read(results + "/out/sub/big") == read(code + "/big"))
        check(drover(server, "cp", f"{name}:out/a.csv", "one.csv").returncode == 0)
        check(read(os.path.join(server.home, "one.csv")) == b"1\n")
        done = drover(server, "cp", f"{name}:no.txt", ".")
        check(done.returncode == 1 and b"not among the results" in done.stderr, done.stderr)
    with case("a second sync sends nothing; a changed file is all that a third one sends"):
        done = submit("--wait", "--", "true")
        check(b": 0.0 MiB were sent" in done.stderr, done.stderr)
        with open(os.path.join(code, "big"), "r+b") as f:
            f.seek(3 << 20)
            f.write(os.urandom(100))
        done = submit("--wait", "--", "true")
        check(b": 1.0 MiB were sent" in done.stderr, done.stderr)
    with case("an upload goes on after kill -9 of the server"):
        with open(os.path.join(code, "big"), "wb") as f:
            f.write(os.urandom(64 << 20))
        before = stored(server)
        p = subprocess.Popen([DROVER, "submit", "--sync", code, "--", "true"], env=environment(server),
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(lambda: stored(server) > before + (6 << 20), 20, every=0.002, what="a part of the upload")
        server.kill()
        p.wait(30)
        had = stored(server) - before
        server.start()
        done = until(lambda: [d for d in [submit("--wait", "--", "true")] if d.returncode == 0], 40)[0]
        sent = float(done.stderr.decode().split("code ")[1].split(": ")[1].split()[0])
        check(sent <= 64 - had / (1 << 20) + 2, sent, had)
    with case("a tree of somebody else, or one that was never sent, cannot be named"):
        ids = os.listdir(os.path.join(server.data, "blobs/0/trees"))
        token = server.sign_in("eve@example.com", "correct-horse-battery")
        answer = server.post("/v1/jobs", {"command": ["true"], "code": ids[0]}, token=token)
        check(answer.status == 422 and "code" in answer.text, answer)
        check(server.local("POST", "/v1/jobs", {"command": ["true"], "code": "0" * 64}).status == 422)
        for out in ("/etc", "../x", ""):
            check(server.local("POST", "/v1/jobs", {"command": ["true"], "out": [out]}).status == 422, out)
    with case("a job that leaves nothing says so"):
        done = submit("--out", "nothing", "--wait", "--", "true")
        name = done.stderr.decode().split("job ")[1].split()[0]
        done = drover(server, "cp", f"{name}:", "none")
        check(done.returncode == 1 and b"left nothing at the paths" in done.stderr, done.stderr)


def stored(server):
    total = 0
    for top, _, files in os.walk(os.path.join(server.data, "blobs")):
        for name in files:
            try:
                total += os.path.getsize(os.path.join(top, name))
            except OSError:
                pass
    return total


def rights_cases(server, long):
    with case("only the owner and administrators get a stream; the audit and the events say who did what"):
        server.new_user("eve@example.com", "correct-horse-battery")
        server.new_user("op@example.com", "correct-horse-battery", "operator")
        ask = {"kind": "exec", "argv": ["id"]}
        for who in ("eve@example.com", "op@example.com"):
            token = server.sign_in(who, "correct-horse-battery")
            check(server.post(f"/v1/jobs/{long}/streams", ask, token=token).status == 404)
        check(server.post(f"/v1/jobs/{long}/streams", ask, token=None).status == 401)
        stream = server.local("POST", f"/v1/jobs/{long}/streams", ask)
        check(stream.status == 201, stream)
        # somebody else cannot take what was asked for by another one
        with WebSocket(server.port, f"/v1/streams/{stream.json['id']}", {"Authorization": "Bearer " + token}) as ws:
            check(ws.status == 404, ws.status)
        events = server.local("GET", f"/v1/jobs/{long}/events?limit=1000").json["items"]
        told = [e["summary"] for e in events if e["type"] == "job.stream.opened"]
        check("local runs id in it" in told and "local opens a shell in it" in told, told)
    with case("bad asks name their field"):
        for ask, field in (({"kind": "exec"}, "argv"), ({"kind": "tcp"}, "port"), ({"kind": "read"}, "path"),
                           ({"kind": "peek"}, "kind")):
            answer = server.local("POST", f"/v1/jobs/{long}/streams", ask)
            check(answer.status in (400, 422) and field in answer.text, answer)


def fault_cases(server, long):
    with case("a stream ends cleanly when the server is killed; the job goes on, and streams work again"):
        p = subprocess.Popen([DROVER, "exec", long, "--", "sleep", "96"], env=environment(server),
                             stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        until(lambda: [x for x in server.others() if read(f"/proc/{x}/cmdline") == b"sleep\x0096\0"], 20)
        server.kill()
        _, told = p.communicate(timeout=20)
        check(p.returncode not in (0, None) and told, told)
        until(lambda: not [x for x in server.others() if read(f"/proc/{x}/cmdline") == b"sleep\x0096\0"], 20)
        server.start()
        until(lambda: drover(server, "exec", long, "--", "echo", "again").stdout == b"again\n", 30)


def main():
    with Server(demo=True) as server:
        long = running(server, job(server, "sleep", "1000"))
        exec_cases(server, long)
        shell_cases(server, long)
        port_cases(server)
        copy_cases(server, long)
        rights_cases(server, long)
        fault_cases(server, long)
        server.local("POST", f"/v1/jobs/{long}/cancel", {"grace_s": 0})
        sync_cases(server)
    finish()


main()
