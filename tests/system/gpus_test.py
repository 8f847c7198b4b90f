"""GPUs through the whole server, on a stand-in for NVIDIA's library that does what a script says: every
fact arrives, one GPU that hangs is driver_hung with a growing age while the others go on and take jobs,
an XID is an event that heals, and memory is told by whose it is."""
import os
import re
import tempfile

from lib import BUILD, Server, case, check, finish, require, until

SCRIPT = os.path.join(tempfile.mkdtemp(prefix="drover-gpus-"), "script")
FAKE = os.path.join(BUILD, "tests", "fake_nvml", "libnvidia-ml.so.1")
CARDS = """gpu 0 temp 60
gpu 1 temp 61
gpu 2 name NVIDIA A100-SXM4-40GB
fact 2 nvmlDeviceGetMigMode 1 1
mig 2 0 NVIDIA A100-SXM4-40GB MIG 3g.20gb
fact 0 nvmlDeviceGetClockInfo/1 1395
fact 0 nvmlDeviceGetCurrentClocksEventReasons 4
fact 0 nvmlDeviceGetTotalEnergyConsumption 7200000000
fact 0 nvmlDeviceGetNvLinkState/0 1
fact 0 nvmlDeviceGetTotalEccErrors/0 5
gpu 0 used 5368709120
process 0 4194001 1073741824
"""


def script(text):
    with open(SCRIPT + ".new", "w") as f:
        f.write(text)
    os.rename(SCRIPT + ".new", SCRIPT)


def gpu(server, index):
    return next((g for g in server.get("/v1/gpus").json["items"] if g["index"] == index), None)


def detail(server, index):
    return server.get(f"/v1/gpus/{gpu(server, index)['id']}").json


def events(server, kind):
    return [e for e in server.get("/v1/events?limit=200").json["items"] if e["type"] == kind]


script(CARDS)
ENV = {"DROVER_NVML_PATH": FAKE, "FAKE_NVML_SCRIPT": SCRIPT, "DROVER_NVML_DEADLINE_MS": "400",
       "GPU_MONITOR_INTERVAL": "1", "GPU_SIMULATE": "off", "DROVER_GPU_PIDS": "trust"}
with Server(env=ENV) as server:
    until(lambda: len(server.get("/v1/gpus").json["items"]) == 4, 30, what="four rows")
    with case("every fact of a GPU is told, and what is unknown is null"):
        until(lambda: detail(server, 0)["facts"]["clock_sm_mhz"] == 1395, 15)
        g = detail(server, 0)
        check(g["throttle"] == ["power_cap"], g["throttle"])
        check(abs(g["energy_kwh"] - 2.0) < 1e-6, g["energy_kwh"])
        check(g["facts"]["nvlinks_active"] == 1 and g["links"][0]["active"] is True, g["links"])
        check(g["facts"]["ecc_corrected"] == 5 and g["serial"] == "1324222000123", g)
        check(g["facts"]["fan_percent"] is None and g["facts"]["pcie_replays"] is None, g)
        check(g["health"] == "ok", g["health_reason"])
        metrics = server.get("/metrics").text
        check(re.search(r'drover_gpu_clock_sm_mhz\{[^}]*gpu="gpu-001"[^}]*\} 1395', metrics))
        check("drover_gpu_fan_percent" not in metrics)
    with case("a MIG instance is a GPU of its own, and its parent is split"):
        check(gpu(server, 2)["state"] == "split", gpu(server, 2))
        mig = gpu(server, 300)
        check(mig["state"] == "available" and mig["type"] == "A100-3g.20gb" and mig["parent"] == 2, mig)
    with case("memory is told by whose it is: dead, nobody's, free"):
        until(lambda: detail(server, 0)["memory_dead_mib"] == 1024, 15, what="dead memory")
        g = detail(server, 0)
        check(g["memory_nobody_mib"] == 4096, g["memory"])
        check(g["memory_free_mib"] == g["memory_total_mib"] - 5120, g["memory"])
        check(any(r["kind"] == "dead" and r["pid"] == 4194001 for r in g["memory"]), g["memory"])
    with case("an XID is told once, with what to do, and only that GPU leaves the fleet"):
        script(CARDS + "xid 1 79\n")
        until(lambda: gpu(server, 1)["health"] == "failed", 15, what="failed")
        g = detail(server, 1)
        check(g["state"] == "error" and "bus" in g["health_reason"], g["health_reason"])
        check(g["xids"][0]["code"] == 79 and g["xids"][0]["count"] == 1 and g["xids"][0]["action"], g["xids"])
        check(len(events(server, "gpu.xid")) == 1, events(server, "gpu.xid"))
        check(len(events(server, "gpu.status.changed")) == 1, events(server, "gpu.status.changed"))
        check(gpu(server, 0)["state"] != "error")
with Server(env=ENV) as server:
    script(CARDS.replace("process 0 4194001 1073741824\n", "") + "gpu 0 used 0\n")
    until(lambda: len(server.get("/v1/gpus").json["items"]) == 4, 30, what="four rows")
    with case("one GPU that hangs grows old alone, and no job is placed on it"):
        hang = CARDS.replace("process 0 4194001 1073741824\n", "") + "gpu 0 used 0\n"
        script(hang + "do nvmlDeviceGetUtilizationRates 1 block\n")
        until(lambda: gpu(server, 1)["state"] == "driver_hung", 20, what="driver_hung")
        age = gpu(server, 1)["age_ms"]
        until(lambda: gpu(server, 1)["age_ms"] > age + 2000, 20, what="a growing age")
        until(lambda: gpu(server, 0)["age_ms"] < 2500, 20, what="the other goes on")
        check(gpu(server, 0)["state"] == "available", gpu(server, 0))
        job = server.post("/v1/jobs", {"command": ["sh", "-c", "echo $CUDA_VISIBLE_DEVICES"], "gpus": 1}).json
        done = server.wait_job(job["id"], 30)
        require(done["state"] == "completed", done)
        check(done["gpu_ids"] == [gpu(server, 0)["id"]], done["gpu_ids"])
        job = server.post("/v1/jobs", {"command": ["true"], "gpus": 2, "gpu_type": ["RTX4090"]}).json
        until(lambda: server.get(f"/v1/jobs/{job['id']}").json["reason"], 10, what="a reason")
        check(server.get(f"/v1/jobs/{job['id']}").json["state"] == "queued")
        script(hang)
        done = server.wait_job(job["id"], 40)
        check(done["state"] == "completed", done)
finish()
