"""A scenario of the docker SDK for Python (Debian's python3-docker) against an engine.

DOCKER_HOST says where the engine is, IMAGE which of its images has busybox in it, and
VERSION which API version to speak; "auto" asks the engine. Scenarios of several versions
may run side by side: what is made in one has the version in its name.
"""
import io
import os
import socket
import tarfile
import threading
import time
import unittest

import docker
import docker.errors
from docker.types import Healthcheck, LogConfig, Mount, Ulimit
from docker.utils.socket import consume_socket_output, demux_adaptor, frames_iter

IMAGE = os.environ["IMAGE"]
VERSION = os.environ["VERSION"]
OWN = "py" + VERSION.replace(".", "-")


def client():
    return docker.from_env(version=VERSION, timeout=20)


def packed(**files):
    """A tar with files of these names and contents."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.mtime = len(text), 0o640, 1700000000
            tar.addfile(info, io.BytesIO(text))
    return out.getvalue()


def unpacked(chunks):
    """The regular files of a tar, by name."""
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar if m.isreg()}


class Case(unittest.TestCase):
    def setUp(self):
        self.docker = client()
        self.addCleanup(self.docker.close)
        self.since = self.docker.api._version

    def has(self, version):
        return tuple(map(int, self.since.split("."))) >= tuple(map(int, version.split(".")))

    def up(self, command="sleep 1000", **options):
        c = self.docker.containers.run(IMAGE, command, detach=True, **options)
        self.addCleanup(self.gone, c)
        return c

    def made(self, command, **options):
        c = self.docker.containers.create(IMAGE, command, **options)
        self.addCleanup(self.gone, c)
        return c

    def pruned(self, kind, filters):
        """One prune at a time: another scenario's may be running."""
        for _ in range(100):
            try:
                return kind.prune(filters=filters)
            except docker.errors.APIError as told:
                if "already running" not in told.explanation:
                    raise
            time.sleep(0.05)
        self.fail("another prune runs for ever")

    def gone(self, c):
        try:
            c.remove(force=True, v=True)
        except docker.errors.NotFound:
            pass


class System(Case):
    def test_versions(self):
        self.assertTrue(self.docker.ping())
        v = self.docker.version()
        self.assertEqual((v["ApiVersion"], v["MinAPIVersion"], v["Os"]), ("1.51", "1.24", "linux"))
        self.assertIn("Engine", [c["Name"] for c in v["Components"]])

    def test_info(self):
        self.up()
        info = self.docker.info()
        self.assertEqual(info["OSType"], "linux")
        self.assertGreaterEqual(info["ContainersRunning"], 1)
        self.assertEqual("BridgeNfIptables" in info, not self.has("1.50"))
        names = all(not o.startswith("name=") for o in info["SecurityOptions"])
        self.assertEqual(names, not self.has("1.25"), info["SecurityOptions"])

    def test_disk_usage(self):
        c = self.up("sh -c 'echo hello >/new; sleep 1000'")
        if not self.has("1.25"):
            self.skipTest("since 1.25")
        df = self.docker.df()
        self.assertIn(c.id, [x["Id"] for x in df["Containers"]])
        self.assertGreater(df["LayersSize"], 0)
        self.assertEqual("VirtualSize" in df["Images"][0], not self.has("1.44"))

    def test_events(self):
        start = int(time.time()) - 1
        c = self.up("true", name=OWN + "-told", labels={"a": "b"})
        c.wait()
        c.remove()
        seen = self.docker.events(since=start, until=int(time.time()) + 1, decode=True,
                                  filters={"container": c.id})
        got = [e["Action"] for e in seen]
        self.assertEqual(got, ["create", "start", "die", "destroy"], got)

    def test_events_live(self):
        c = self.made("true")
        stream = self.docker.events(decode=True, filters={"event": "rename", "container": c.id})
        self.addCleanup(stream.close)
        threading.Timer(0.2, c.rename, [OWN + "-renamed"]).start()
        e = next(stream)
        self.assertEqual((e["Actor"]["ID"], e["Actor"]["Attributes"]["name"]), (c.id, OWN + "-renamed"))

    def test_errors(self):
        for status, call in [
            (404, lambda: self.docker.containers.get("nope")),
            (404, lambda: self.docker.containers.create("nope:latest", "true")),
            (400, lambda: self.docker.containers.create(IMAGE, "true", name="no/slash")),
            (400, lambda: self.docker.containers.list(filters={"nope": "x"})),
            (409, lambda: self.made("true").kill()),
            (404, lambda: self.docker.networks.get("nope")),
            (404, lambda: self.docker.volumes.get("nope")),
        ]:
            with self.assertRaises(docker.errors.APIError) as told:
                call()
            self.assertEqual(told.exception.status_code, status, told.exception)
            self.assertTrue(told.exception.explanation)


class Life(Case):
    def test_run(self):
        out = self.docker.containers.run(IMAGE, ["sh", "-c", "echo out; echo err >&2"], remove=True, stderr=True)
        self.assertEqual(sorted(out.split()), [b"err", b"out"])
        with self.assertRaises(docker.errors.ContainerError) as told:
            self.docker.containers.run(IMAGE, ["sh", "-c", "echo why >&2; exit 3"], remove=True)
        self.assertEqual((told.exception.exit_status, told.exception.stderr), (3, b"why\n"))

    def mounted(self, volume):
        if self.has("1.30"):
            return {"mounts": [Mount("/data", volume, type="volume")]}
        return {"volumes": {volume: {"bind": "/data", "mode": "rw"}}}

    def test_options(self):
        c = self.made(
            ["sh", "-c", "id -u; pwd; hostname; echo $A; ulimit -n; cat /data/f; touch /x"],
            user="7", working_dir="/tmp", hostname="own", environment={"A": "b"}, read_only=True,
            ulimits=[Ulimit(name="nofile", soft=77, hard=78)], cap_drop=["ALL"], mem_limit="64m", pids_limit=50,
            labels={"one": "1"}, tmpfs={"/scratch": "size=1m"}, **self.mounted(OWN + "-options"),
            log_config=LogConfig(type="json-file", config={"max-size": "1m"}), network_mode="none",
            healthcheck=Healthcheck(test=["CMD", "true"], interval=10**9) if self.has("1.25") else None,
        )
        self.addCleanup(self.docker.api.remove_volume, OWN + "-options")
        self.addCleanup(self.gone, c)
        with_file = self.made("true", **self.mounted(OWN + "-options"))
        with_file.put_archive("/data", packed(f=b"from a tar\n"))
        with_file.remove()
        c.start()
        self.assertEqual(c.wait()["StatusCode"], 1)
        self.assertEqual(c.logs(stderr=False).split(b"\n")[:6], [b"7", b"/tmp", b"own", b"b", b"77", b"from a tar"])
        self.assertIn(b"Read-only file system", c.logs(stdout=False))
        c.reload()
        h = c.attrs["HostConfig"]
        self.assertEqual((h["Memory"], h["PidsLimit"], h["NetworkMode"]), (64 << 20, 50, "none"))
        self.assertEqual(h["IpcMode"], "private" if self.has("1.40") else "shareable")
        self.assertEqual(c.labels["one"], "1")

    def test_states(self):
        c = self.up(["sh", "-c", "trap 'exit 5' TERM; while :; do sleep 0.1; done"])
        c.pause()
        c.reload()
        self.assertEqual(c.status, "paused")
        c.unpause()
        c.rename(OWN + "-other")
        self.assertEqual(self.docker.containers.get(OWN + "-other").id, c.id)
        c.update(mem_limit="128m", memswap_limit="256m", restart_policy={"Name": "on-failure", "MaximumRetryCount": 2})
        c.reload()
        self.assertEqual(c.attrs["HostConfig"]["Memory"], 128 << 20)
        self.assertEqual(c.attrs["HostConfig"]["RestartPolicy"]["MaximumRetryCount"], 2)
        c.stop(timeout=10)
        self.assertEqual(c.wait()["StatusCode"], 5)
        c.restart(timeout=1)
        self.assertGreater(c.top()["Processes"], [])
        c.kill(signal="KILL")
        self.assertEqual(c.wait()["StatusCode"], 137)
        c.remove()
        with self.assertRaises(docker.errors.NotFound):
            c.reload()

    def test_wait(self):
        c = self.made("sh -c 'sleep 1; exit 4'")
        answers = []
        if self.has("1.30"):
            other = client()
            self.addCleanup(other.close)
            waiting = threading.Thread(target=lambda: answers.append(other.containers.get(c.id).wait(condition="next-exit")))
            waiting.start()
            time.sleep(0.2)
        c.start()
        self.assertEqual(c.wait(timeout=10)["StatusCode"], 4)
        if self.has("1.30"):
            waiting.join(10)
            self.assertEqual([a["StatusCode"] for a in answers], [4])

    def test_auto_remove(self):
        if not self.has("1.25"):
            self.skipTest("since 1.25")
        c = self.made("sleep 0.2", auto_remove=True)
        c.start()
        try:
            c.wait(condition="removed" if self.has("1.30") else None)
        except docker.errors.NotFound:
            pass  # it may be gone before it is asked about
        for _ in range(100):
            if c.id not in [x["Id"] for x in self.docker.api.containers(all=True)]:
                return
            time.sleep(0.05)
        self.fail("still there")

    def test_list(self):
        one, two = self.up(name=OWN + "-list-one", labels={"list": OWN + "1"}), self.made("true", name=OWN + "-list-two", labels={"list": OWN + "2"})
        ids = lambda **k: {c["Id"] for c in self.docker.api.containers(**k)} & {one.id, two.id}
        self.assertEqual(ids(), {one.id})
        self.assertEqual(ids(all=True), {one.id, two.id})
        self.assertEqual(ids(all=True, filters={"label": "list=" + OWN + "2"}), {two.id})
        self.assertEqual(ids(all=True, filters={"status": "created"}), {two.id})
        self.assertEqual(ids(all=True, filters={"name": OWN + "-list-o"}), {one.id})
        self.assertEqual(ids(all=True, since=OWN + "-list-one"), {two.id})
        self.assertEqual(len(self.docker.api.containers(all=True, limit=1)), 1)
        self.assertEqual([c.name for c in self.docker.containers.list(filters={"name": OWN + "-list"})], [one.name])

    def test_prune(self):
        if not self.has("1.25"):
            self.skipTest("since 1.25")
        c = self.made("true", labels={"prune": OWN})
        got = self.pruned(self.docker.containers, filters={"label": ["prune=" + OWN]})
        self.assertEqual(got["ContainersDeleted"], [c.id])


class Streams(Case):
    def test_follow(self):
        c = self.up(["sh", "-c", "for i in 1 2 3; do echo line $i; sleep 0.1; done; sleep 0.2; echo last >&2"])
        self.assertEqual(b"".join(c.logs(stream=True, follow=True)), b"line 1\nline 2\nline 3\nlast\n")
        self.assertEqual(c.logs(tail=2, stderr=False), b"line 3\n")
        self.assertRegex(c.logs(timestamps=True, tail=1), rb"^\d{4}-\d\d-\d\dT\S+Z last\n$")
        self.assertEqual(c.logs(since=int(time.time()) + 100), b"")

    def test_attach(self):
        c = self.made(["sh", "-c", "echo out; sleep 0.1; echo err >&2"])
        stream = c.attach(stream=True, demux=True)
        c.start()
        self.assertEqual(list(stream), [(b"out\n", None), (None, b"err\n")])
        self.assertEqual(c.attach(logs=True, stream=False), b"out\nerr\n")

    def test_stdin(self):
        c = self.made("sh -c 'read a; echo got $a; read b; echo end $b'", stdin_open=True)
        s = c.attach_socket(params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
        c.start()
        s._sock.sendall(b"one\n")
        s._sock.shutdown(socket.SHUT_WR)
        out = consume_socket_output((demux_adaptor(*f) for f in frames_iter(s, tty=False)), demux=True)
        s.close()
        self.assertEqual(out, (b"got one\nend\n", None))

    def test_terminal(self):
        c = self.made("sh -c 'read a; stty size; tty'", stdin_open=True, tty=True)
        s = c.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
        c.start()
        c.resize(height=31, width=97)
        s._sock.sendall(b"go\n")
        out = b"".join(chunk for _, chunk in frames_iter(s, tty=True))
        s.close()
        self.assertIn(b"31 97\r\n", out)
        self.assertIn(b"/dev/", out)

    def test_exec(self):
        c = self.up()
        self.assertEqual(tuple(c.exec_run("sh -c 'echo out; echo err >&2; exit 3'", demux=True)), (3, (b"out\n", b"err\n")))
        got = c.exec_run(["sh", "-c", "id -u; pwd; echo $A"], user="9", privileged=False,
                         **({"environment": ["A=b"]} if self.has("1.25") else {}),
                         **({"workdir": "/tmp"} if self.has("1.35") else {}))
        self.assertEqual(got.output.split(b"\n")[:2], [b"9", b"/tmp" if self.has("1.35") else b"/"])
        self.assertEqual(b"".join(c.exec_run("sh -c 'echo a; sleep 0.1; echo b'", stream=True).output), b"a\nb\n")
        self.assertRegex(c.exec_run("tty", tty=True).output, rb"^/dev/\S+\r\n$")
        made = self.docker.api.exec_create(c.id, "cat", stdin=True)
        s = self.docker.api.exec_start(made["Id"], socket=True)
        s._sock.sendall(b"through cat")
        s._sock.shutdown(socket.SHUT_WR)
        self.assertEqual(b"".join(chunk for _, chunk in frames_iter(s, tty=False)), b"through cat")
        s.close()
        for _ in range(100):
            told = self.docker.api.exec_inspect(made["Id"])
            if not told["Running"]:
                break
            time.sleep(0.02)
        self.assertEqual((told["ExitCode"], told["ContainerID"]), (0, c.id))
        c.exec_run("sh -c 'echo done >/mark'", detach=True)
        for _ in range(100):
            if c.exec_run("cat /mark").output == b"done\n":
                return
            time.sleep(0.02)
        self.fail("the detached exec has not run")

    def test_stats(self):
        c = self.up(mem_limit="64m")
        now = c.stats(stream=False)
        self.assertEqual(now["memory_stats"]["limit"], 64 << 20)
        self.assertGreater(now["cpu_stats"]["cpu_usage"]["total_usage"], 0)
        self.assertIn("eth0", now["networks"])
        stream = c.stats(decode=True)
        first, second = next(stream), next(stream)
        stream.close()
        self.assertEqual(second["preread"], first["read"])

    def test_top(self):
        c = self.up("sleep 1000")
        top = c.top()
        self.assertEqual([p[top["Titles"].index("CMD")] for p in top["Processes"]], ["sleep 1000"])
        self.assertEqual(c.top(ps_args="-o pid,args")["Titles"], ["PID", "COMMAND"])


class Files(Case):
    def test_archive(self):
        c = self.up()
        self.assertTrue(c.put_archive("/tmp", packed(one=b"first", two=b"second")))
        self.assertEqual(c.exec_run("cat /tmp/one /tmp/two").output, b"firstsecond")
        chunks, stat = c.get_archive("/tmp/two")
        self.assertEqual((stat["name"], stat["size"], stat["mode"]), ("two", 6, 0o640))
        self.assertEqual(unpacked(chunks), {"two": b"second"})
        chunks, stat = c.get_archive("/tmp", encode_stream=True)
        self.assertEqual(stat["name"], "tmp")
        self.assertEqual(unpacked(chunks), {"tmp/one": b"first", "tmp/two": b"second"})
        with self.assertRaises(docker.errors.NotFound):
            c.get_archive("/nope")

    def test_changes(self):
        c = self.up(["sh", "-c", "mkdir /d; echo x >/d/new; rm /bin/true; sleep 1000"])
        for _ in range(100):
            got = {(d["Path"], d["Kind"]) for d in c.diff() or []}
            if ("/bin/true", 2) in got:
                break
            time.sleep(0.02)
        self.assertTrue({("/d", 1), ("/d/new", 1), ("/bin", 0), ("/bin/true", 2)} <= got, got)
        files = unpacked(c.export())
        self.assertEqual(files["d/new"], b"x\n")
        self.assertNotIn("bin/true", files)

    def test_commit(self):
        c = self.up(["sh", "-c", "echo kept >/kept; sleep 1000"])
        for _ in range(100):
            if c.exec_run("cat /kept").output == b"kept\n":
                break
            time.sleep(0.02)
        made = c.commit(repository=OWN + "/committed", tag="1", author="ann", message="by hand", changes='CMD ["cat", "/kept"]')
        self.addCleanup(self.docker.images.remove, OWN + "/committed:1", force=True)
        self.assertIn(OWN + "/committed:1", made.tags)
        self.assertEqual(made.attrs["Author"], "ann")
        self.assertEqual(self.docker.containers.run(OWN + "/committed:1", remove=True), b"kept\n")


class Others(Case):
    def test_networks(self):
        found = {n.name: n for n in self.docker.networks.list()}
        self.assertTrue({"bridge", "host", "none"} <= set(found), found)
        c = self.up()
        bridge = self.docker.networks.get(found["bridge"].id)
        self.assertIn(c.id, bridge.attrs["Containers"])
        self.assertEqual([n.name for n in self.docker.networks.list(names=["none"])], ["none"])

    def test_volumes(self):
        v = self.docker.volumes.create(OWN + "-volume", labels={"a": OWN})
        self.assertEqual((v.name, v.attrs["Driver"], v.attrs["Labels"]), (OWN + "-volume", "local", {"a": OWN}))
        self.docker.containers.run(IMAGE, "sh -c 'echo there >/v/f'", volumes={OWN + "-volume": {"bind": "/v", "mode": "rw"}}, remove=True)
        out = self.docker.containers.run(IMAGE, "cat /v/f", volumes={OWN + "-volume": {"bind": "/v", "mode": "ro"}}, remove=True)
        self.assertEqual(out, b"there\n")
        self.assertIn(OWN + "-volume", [x.name for x in self.docker.volumes.list(filters={"label": "a=" + OWN})])
        v.remove()
        with self.assertRaises(docker.errors.NotFound):
            self.docker.volumes.get(OWN + "-volume")
        if self.has("1.25"):
            self.docker.volumes.create(labels={"prune": OWN})
            self.assertEqual(len(self.pruned(self.docker.volumes, filters={"label": ["prune=" + OWN]})["VolumesDeleted"]), 1)

    def test_images(self):
        got = self.docker.images.get(IMAGE)
        self.assertIn(IMAGE, got.tags)
        self.assertIn(got.id, [i.id for i in self.docker.images.list()])
        self.assertTrue(got.tag(OWN + "/tagged", tag="2"))
        self.docker.images.remove(OWN + "/tagged:2")
        with self.assertRaises(docker.errors.ImageNotFound):
            self.docker.images.get(OWN + "/tagged:2")
        self.assertTrue(got.history())
        loaded = self.docker.images.load(b"".join(got.save(named=True)))
        self.assertEqual([i.id for i in loaded], [got.id])


if __name__ == "__main__":
    unittest.main()
