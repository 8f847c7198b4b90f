"""Agents of other hosts, each in a network namespace of its own behind a link that the test can cut:
joining, running, an outage with a server that is killed meanwhile, an agent that is killed, a host
that dies and comes back, one that is declared lost, one that is taken out.

Every job writes a line into a file each time its process begins: that file says what ran twice.

Environment: REMOTE_TEST_CUT_S (8) length of the outage; more in soak runs."""
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import BUILD, DROVER, Server, case, check, finish, note, require, until  # noqa: E402

AGENT = os.path.join(BUILD, "drover-agent")
CUT_S = float(os.environ.get("REMOTE_TEST_CUT_S", "8"))
SILENT_S = 4


def sh(*argv, fails=False):
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode and not fails:
        raise RuntimeError(f"{' '.join(argv)}: {done.stdout}")
    return done


def possible():
    if os.geteuid() != 0:
        return "needs root for network namespaces"
    for tool in ("ip", "nsenter", "unshare", "curl"):
        if not shutil.which(tool):
            return f"there is no {tool}"
    probe = sh("unshare", "-n", "-m", "true", fails=True)
    return None if probe.returncode == 0 else "no namespaces here: " + probe.stdout.strip()


class Host:
    """A host: a network namespace, one cable to the server's, an agent, a boot."""
    made = 0

    def __init__(self, server, name, gpus=0):
        Host.made += 1
        self.server, self.name, self.gpus, self.boot = server, name, gpus, 1
        self.ns = f"drv{os.getpid()}h{Host.made}"
        self.near, self.far = f"d{os.getpid() % 100000}n{Host.made}", f"d{os.getpid() % 100000}f{Host.made}"
        net = f"10.{193 + os.getpid() % 50}.{os.getpid() % 250}"
        self.gateway, self.address = f"{net}.{4 * Host.made + 1}", f"{net}.{4 * Host.made + 2}"
        self.data = os.path.join(server.home, name)
        self.log = open(os.path.join(server.home, name + ".log"), "ab")
        self.process = None
        sh("ip", "netns", "add", self.ns)
        sh("ip", "link", "add", self.near, "type", "veth", "peer", "name", self.far, "netns", self.ns)
        sh("ip", "addr", "add", self.gateway + "/30", "dev", self.near)
        sh("ip", "-n", self.ns, "addr", "add", self.address + "/30", "dev", self.far)
        for dev in ("lo", self.far):
            sh("ip", "-n", self.ns, "link", "set", dev, "up")
        self.plug()

    def plug(self):
        sh("ip", "link", "set", self.near, "up")

    def cut(self):
        """The cable is out: no packet, and nobody is told."""
        sh("ip", "link", "set", self.near, "down")

    @property
    def url(self):
        return f"http://{self.gateway}:{self.server.port}"

    def command(self, *args):
        # the boot id of a host of its own: a file over the kernel's, in a mount namespace of its own
        boot = os.path.join(self.server.home, f"{self.name}.boot{self.boot}")
        if not os.path.exists(boot):
            with open("/proc/sys/kernel/random/uuid") as f, open(boot, "w") as to:
                to.write(f.read())
        return ["nsenter", f"--net=/var/run/netns/{self.ns}", "unshare", "-m", "sh", "-c",
                'mount --bind "$1" /proc/sys/kernel/random/boot_id && shift && exec "$@"', "sh", boot,
                AGENT, "--isolation", "basic", "--data", self.data, "--gpu", f"simulated:{self.gpus}" if self.gpus else "none", *args]

    def join(self, token, *args):
        return sh(*self.command("--server", self.url, "--join", token, "--join-only", "--name", self.name, *args),
                  fails=True)

    def up(self, *args):
        self.process = subprocess.Popen(self.command(*args), stdin=subprocess.DEVNULL, stdout=self.log,
                                        stderr=self.log, cwd="/")

    def kill(self, sig=signal.SIGKILL):
        self.process.send_signal(sig)
        return self.process.wait(15)

    def processes(self):
        inside, found = os.stat(f"/var/run/netns/{self.ns}").st_ino, []
        for pid in os.listdir("/proc"):
            with contextlib.suppress(OSError):
                if pid.isdigit() and os.stat(f"/proc/{pid}/ns/net").st_ino == inside:
                    found.append(int(pid))
        return found

    def die(self):
        """The power is off: everything on it ends at once, nothing is said."""
        self.cut()
        while left := self.processes():
            for pid in left:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            if self.process:
                self.process.wait()
            time.sleep(0.02)
        self.boot += 1

    def page(self, path, header="X: y", *args):
        return sh("nsenter", f"--net=/var/run/netns/{self.ns}", "curl", "-sS", "-m", "5", "-H", header, *args,
                  "http://127.0.0.1:7417" + path).stdout

    def listens(self):
        """Addresses other than loopback on which something inside waits for connections."""
        out = sh("nsenter", f"--net=/var/run/netns/{self.ns}", "cat", "/proc/net/tcp", "/proc/net/tcp6").stdout
        rows = [line.split() for line in out.splitlines()]
        return [r[1] for r in rows if len(r) > 3 and r[3] == "0A" and not r[1].startswith("0100007F")]

    @property
    def node(self):
        for node in self.server.local("GET", "/v1/nodes").json["items"]:
            if node["name"] == self.name:
                return node
        return None

    def is_(self, *states, seconds=30):
        return until(lambda: (n := self.node) and n["state"] in states and n, seconds, 0.1,
                     f"{self.name} is {' or '.join(states)}")

    def said(self):
        with open(self.log.name, errors="replace") as f:
            return f.read()

    def away(self):
        with contextlib.suppress(Exception):
            self.die()
        sh("ip", "netns", "del", self.ns, fails=True)
        sh("ip", "link", "del", self.near, fails=True)
        self.log.close()


class Fleet:
    def __init__(self):
        self.server = Server(env={"SERVER_HOST": "0.0.0.0", "LOCAL_AGENT": "off", "GPU_MONITOR_INTERVAL": "1",
                                  "AGENT_SILENT": f"{SILENT_S}s", "AUTH_MODE": "strict"})
        self.hosts = []

    def __enter__(self):
        self.server.start()
        self.ran = os.path.join(self.server.home, "ran")
        open(self.ran, "w").close()
        return self

    def __exit__(self, kind, *_):
        if kind:
            for host in self.hosts:
                note(f"{host.name} said:\n" + "\n".join(host.said().splitlines()[-20:]))
        for host in self.hosts:
            host.away()
        self.server.close()
        if kind:
            note("the server said:\n" + "".join(self.server.output[-30:]))

    def host(self, name, gpus=0):
        self.hosts.append(Host(self.server, name, gpus))
        return self.hosts[-1]

    def again(self):
        """kill -9 of the server, and the next one on the same data and port."""
        self.server.kill()
        self.server.start()

    def token(self, **more):
        answer = self.server.local("POST", "/v1/agents/tokens", more)
        require(answer.status == 201, answer)
        return answer.json["token"]

    def submit(self, name, script, **more):
        """A job that first notes that it began. Its script sees what it is in $NAME."""
        command = ["sh", "-c", f"echo {name} $DROVER_ATTEMPT >>{self.ran}; " + script]
        answer = self.server.local("POST", "/v1/jobs", {"name": name, "command": command, **more})
        require(answer.status == 201, answer)
        return answer.json["id"]

    def job(self, job):
        return self.server.local("GET", f"/v1/jobs/{job}").json

    def ended(self, job, seconds=40):
        return until(lambda: (j := self.job(job))["ended_at"] and j, seconds, 0.1, f"the end of {job}")

    def reaches(self, job, *states, seconds=40):
        return until(lambda: (j := self.job(job))["state"] in states and j, seconds, 0.1, f"{job} {states}")

    def text(self, job):
        return self.server.local("GET", f"/v1/jobs/{job}/log.txt").text

    def begun(self, name):
        with open(self.ran) as f:
            return sum(line.split()[0] == name for line in f)

    def events(self, source, kind):
        items = self.server.local("GET", f"/v1/events?source_type=node&source_id={source}&limit=200").json["items"]
        return [e for e in items if e["type"] == kind]


COUNT = "i=0; while [ $i -lt {n} ]; do i=$((i+1)); echo line $i; sleep {each}; done"


def counted(text, n):
    return text == "".join(f"line {i}\n" for i in range(1, n + 1))


def main():
    why = possible()
    if why:
        print(why)
        sys.exit(77)
    with Fleet() as f:
        a, b = f.host("gpu-a", gpus=2), f.host("cpu-b")

        with case("a host joins with a token of that name, as often as the token says, and keeps a credential"):
            token = f.token(name="*-[ab]", uses=2)
            other = f.host("other")
            refused = other.join(token)
            check(refused.returncode == 1 and "--name" in refused.stdout, refused.stdout)
            for h in (a, b):
                done = h.join(token)
                require(done.returncode == 0, done.stdout)
            kept = os.path.join(a.data, "agent", "credential")
            check(os.stat(kept).st_mode & 0o777 == 0o600)
            secret = json.load(open(kept))["credential"]
            used_up = other.join(token, "--name", "x-a")
            check(used_up.returncode == 78 and "used up" in used_up.stdout, used_up.stdout)
            check("already joined" in a.join(token).stdout)
            database = b"".join(open(os.path.join(f.server.data, n), "rb").read()
                                for n in os.listdir(f.server.data) if n.startswith("database"))
            check(secret.encode() not in database and token.encode() not in database, "a secret is in the database")
            check(token not in str(f.server.local("GET", "/v1/agents/tokens").json))

        with case("its agent keeps one outgoing connection and listens on nothing that others can reach"):
            a.up()
            b.up()
            nodes = [a.is_("online"), b.is_("online")]
            check([n["gpus"] for n in nodes] == [2, 0] and not any(n["is_local"] for n in nodes), nodes)
            check(a.listens() == [] and b.listens() == [], a.listens(), b.listens())
            credential = json.load(open(kept))["credential"]
            for path in ("/v1/nodes", "/v1/jobs"):
                check(f.server.get(path, token=credential).status == 403, "the credential opens more than the link")

        with case("jobs go to any of them: GPUs where there are some, many small ones to all"):
            gpu = f.submit("gpu", "echo $CUDA_VISIBLE_DEVICES", gpus=1)
            small = [f.submit(f"small{i}", "sleep 0.5") for i in range(6)]
            check(f.ended(gpu)["node_name"] == "gpu-a", f.job(gpu))
            where = {f.ended(j)["node_name"] for j in small}
            check(where == {"gpu-a", "cpu-b"}, where)
            check(all(f.job(j)["state"] == "completed" for j in small))
            check(re.fullmatch(r"GPU-[0-9a-f-]+\n|\d\n", f.text(gpu)), f.text(gpu))

        with case("an outage in which the server is killed: nothing lost, nothing twice, nothing elsewhere"):
            n = int(CUT_S * 10 + 60)
            long = f.submit("long", COUNT.format(n=n, each=0.1), gpus=1)
            short = f.submit("short", COUNT.format(n=20, each=0.1), gpus=1)
            f.reaches(long, "running")
            f.reaches(short, "running")
            a.cut()
            began = time.monotonic()
            node = a.is_("unreachable", seconds=3 * SILENT_S + 10)
            note(f"unreachable after {time.monotonic() - began:.1f} s: {node['state_reason']}")
            f.again()
            waits = f.submit("waits", "echo came", gpus=1)
            shown = a.page("/")
            check("down" in shown and long in shown and short in shown and "<script" not in shown, shown)
            check("断开" in a.page("/", "Accept-Language: zh-CN,zh"), a.page("/", "Accept-Language: zh-CN"))
            told = json.loads(a.page("/status.json"))
            check(not told["link"]["up"] and told["link"]["since"] and told["link"]["why"], told["link"])
            check({j["job"]: j["state"] for j in told["jobs"]}.get(long) == "running", told["jobs"])
            check("drover_agent_link_up 0" in a.page("/metrics"))
            check("403" in a.page("/", "Host: evil.example", "-i") and "405" in a.page("/", "X: y", "-i", "-XPOST"))
            time.sleep(max(0, CUT_S - (time.monotonic() - began)))
            check(f.job(long)["state"] in ("running", "unknown"), f.job(long))
            check(f.job(waits)["state"] == "queued", f.job(waits))
            a.plug()
            a.is_("online")
            check(f.ended(short)["state"] == "completed" and counted(f.text(short), 20), f.text(short)[-200:])
            check(f.ended(long, 60)["state"] == "completed" and counted(f.text(long), n), f.text(long)[-200:])
            check(f.ended(waits)["state"] == "completed")
            check([f.begun(j) for j in ("long", "short", "waits")] == [1, 1, 1], open(f.ran).read())

        with case("an agent that is killed during an outage is replaced, and its job knows nothing of it"):
            job = f.submit("orphan", COUNT.format(n=80, each=0.1), gpus=1)
            f.reaches(job, "running")
            a.cut()
            a.kill()
            a.up()
            time.sleep(1)
            a.plug()
            check(f.ended(job, 60)["state"] == "completed" and counted(f.text(job), 80), f.text(job)[-200:])
            check(f.begun("orphan") == 1)

        with case("a host that died is told apart: it comes back with another boot, its job may be tried again"):
            job = f.submit("twice", f"[ $(grep -c ^twice {f.ran}) = 2 ] || sleep 300; echo second", gpus=1, retries=1)
            once = f.submit("once", "sleep 300", gpus=1)
            f.reaches(job, "running")
            f.reaches(once, "running")
            a.die()
            a.is_("unreachable", seconds=3 * SILENT_S + 10)
            check(f.begun("twice") == 1)
            a.plug()
            a.up()
            node = a.is_("online")
            check(f.ended(once)["end_reason"] == "node_rebooted", f.job(once))
            check(f.ended(job)["state"] == "completed" and f.text(job) == "second\n", f.job(job), f.text(job))
            check((f.begun("twice"), f.begun("once")) == (2, 1))
            check(len(f.events(node["id"], "node.rebooted")) == 1)

        with case("a node that is declared lost gives its jobs back; what still ran there is ended when it returns"):
            job = f.submit("lost", f"[ $(grep -c ^lost {f.ran}) = 2 ] || sleep 300; echo again", cpus=1, retries=1)
            where = f.reaches(job, "running")["node_name"]
            h = a if where == a.name else b
            node = h.node["id"]
            early = f.server.local("POST", f"/v1/nodes/{node}/lost", {"confirm": True})
            check(early.status == 409 and "not lost" in early.text, early)
            h.cut()
            h.is_("unreachable", seconds=3 * SILENT_S + 10)
            env = {"PATH": os.environ["PATH"], "HOME": f.server.home, "LC_ALL": "C.UTF-8",
                   "DROVER_URL": "unix:" + f.server.socket}
            asks = subprocess.run([DROVER, "node", "lost", h.name], env=env, stdin=subprocess.DEVNULL,
                                  capture_output=True, text=True)
            check(asks.returncode == 2 and job in asks.stderr, asks)
            told = subprocess.run([DROVER, "node", "lost", h.name, "--yes"], env=env, stdin=subprocess.DEVNULL,
                                  capture_output=True, text=True)
            check(told.returncode == 0 and "1 jobs ended" in told.stdout, told)
            check(f.ended(job)["state"] == "completed" and f.job(job)["node_name"] != h.name, f.job(job))
            h.plug()
            h.is_("online")
            until(lambda: not any("sleep" in open(f"/proc/{p}/cmdline").read() for p in h.processes()
                                  if os.path.exists(f"/proc/{p}/cmdline")), 20, 0.1, "the old process ends")
            check(f.begun("lost") == 2 and f.text(job) == "again\n", f.text(job))

        with case("a node is not taken out while it runs something, unless one insists; its agent ends"):
            job = f.submit("stays", "sleep 300", gpus=1)
            f.reaches(job, "running")
            node = a.node["id"]
            answer = f.server.delete(f"/v1/nodes/{node}", token=None, unix=True)
            check(answer.status == 409 and job in answer.text, answer)
            check(f.server.delete(f"/v1/nodes/{node}?force=true", token=None, unix=True).status == 204)
            check(f.ended(job)["end_reason"] == "node_lost", f.job(job))
            check(a.process.wait(30) == 78 and a.node is None)
            check(not os.path.exists(kept))
            until(lambda: not a.processes(), 20, 0.1, "nothing is left of it")
            check(a.join(f.token()).returncode == 0, "the name is free again")
    finish()


if __name__ == "__main__":
    main()
