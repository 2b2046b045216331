"""How quick the server is for annotators: lease and submit, at 100,000 and at 1,000,000 stored rankings.

    make bench-web            (python -m bench.web --help lists what can be changed)

The web server and the PostgreSQL that `make run` starts, in a folder of their own, filled by SQL. Annotators are
threads with a session each, and do what the page does: three comparisons in hand, an answer, the next lease (the
rendered fragment of `/rank/next/`, all K texts in it), an answer through the API. Times are the client's, with the
network, the waiting and this program's own share of the two cores in them: the server's are below. The processor time
of a cycle (one lease, one submit) does not depend on what else the machine does.

Two loads at each size: 50 annotators with two seconds of thought, where p95 counts; and 20 without any, where cycles a
second count. The last line is the worse p95 of the two sizes with thought, in milliseconds: lease, then submit.
"""

import argparse
import http.client
import json
import random
import re
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

import psutil

from bench.web_server import Site, site_in
from bench.web_world import K, fill, make_world

THOUGHT = {"annotators": 50, "seconds": 2.0}
SATURATION = {"annotators": 20, "seconds": 0.0}
IN_HAND = 3  # one on the stage, two fetched ahead


@dataclass
class Load:
    """What a number of annotators at once met: seconds of each request, in the order they ended."""

    lease: list[float] = field(default_factory=list)
    submit: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0
    cycles: int = 0  # warm-up included
    cpu: dict[str, float] = field(default_factory=dict)  # seconds of processor, warm-up included, a cycle

    def line(self, name: str) -> str:
        requests = len(self.lease) + len(self.submit)
        cpu = ", ".join(f"{name} {1000 * seconds:.1f}" for name, seconds in self.cpu.items())
        return (
            f"{name:34} lease p50 {quantile(self.lease, 0.5):6.1f} p95 {quantile(self.lease, 0.95):6.1f} ms"
            f" · submit p50 {quantile(self.submit, 0.5):6.1f} p95 {quantile(self.submit, 0.95):6.1f} ms"
            f" · {requests / self.seconds:6.1f} requests/s · {len(self.submit) / self.seconds:6.1f} cycles/s"
            f" · processor a cycle: {cpu} ms"
            f" · {len(self.failures)} failed"
        )


def quantile(seconds: list[float], share: float) -> float:
    """In milliseconds."""
    return 1000 * sorted(seconds)[min(len(seconds) - 1, int(share * len(seconds)))] if seconds else float("nan")


class Annotator(threading.Thread):
    """One person's page: a session, a connection that stays open, three comparisons in hand."""

    def __init__(self, port: int, session: str, thought: float, load: Load, clock: Callable[[], bool | None]):
        super().__init__(daemon=True)
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self.token = uuid.uuid4().hex
        self.cookie = f"sessionid={session}; csrftoken={self.token}"
        self.thought, self.load, self.clock = thought, load, clock
        self.cycles = 0
        self.in_hand: list[tuple[int, str, list[int]]] = []

    def run(self) -> None:
        time.sleep(random.uniform(0, self.thought))
        while self.clock() is not None:
            while len(self.in_hand) < IN_HAND:
                self.lease()
            if self.thought:
                time.sleep(random.uniform(0.5, 1.5) * self.thought)
            self.submit()
            self.cycles += 1

    def lease(self) -> None:
        holding = [("holding", assignment) for assignment, _token, _order in self.in_hand]
        page = self.post("/rank/next/", urlencode(holding), "application/x-www-form-urlencoded", self.load.lease)
        assignment = re.search(r'data-assignment="(\d+)" data-token="([^"]+)"', page)
        order = [int(found) for found in re.findall(r'class="completion" data-id="(\d+)"', page)]
        self.in_hand.append((int(assignment[1]), assignment[2], order))

    def submit(self) -> None:
        assignment, token, order = self.in_hand.pop(0)
        ranks = dict(zip(map(str, order), random.sample(range(1, K + 1), K), strict=True))
        body = json.dumps({"token": token, "ranks": ranks, "active_ms": 2000})
        self.post(f"/api/v1/assignments/{assignment}/ranking/", body, "application/json", self.load.submit)

    def post(self, path: str, body: str, kind: str, times: list[float]) -> str:
        headers = {"Content-Type": kind, "Cookie": self.cookie, "X-CSRFToken": self.token}
        headers["Idempotency-Key"] = uuid.uuid4().hex
        start = time.perf_counter()
        self.connection.request("POST", path, body, headers)
        response = self.connection.getresponse()
        text = response.read().decode()
        if self.clock():
            times.append(time.perf_counter() - start)
        if self.thought:
            self.connection.close()  # the server closes it while one thinks
        if response.status not in (200, 201):
            self.load.failures.append(f"{response.status} {path}: {text[:200]}")
            raise SystemExit
        return text


def processor_seconds(process: psutil.Process) -> float:
    """Of a process and everything it started, as far as it still lives."""
    times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    return sum(time.user + time.system for time in times)


def measure(port: int, sessions: list[str], *, annotators: int, seconds: float, warm_up: float, length: float) -> Load:
    """Let that many annotators work; only what begins after the warm-up counts."""
    load, start = Load(seconds=length), time.monotonic()

    def clock() -> bool | None:
        """None: stop. Otherwise whether it counts."""
        gone = time.monotonic() - start
        return None if gone > warm_up + length else gone > warm_up

    people = [Annotator(port, session, seconds, load, clock) for session in sessions[:annotators]]
    for person in people:
        person.start()
    for person in people:
        person.join()
    load.cycles = sum(person.cycles for person in people)
    return load


def statements_per_request(session: str) -> tuple[int, int]:
    """SQL statements of one lease and one submit, as Django counts them: BEGIN and COMMIT are among them."""
    from django.conf import settings
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    settings.ALLOWED_HOSTS = ["testserver"]
    client = Client()
    client.cookies["sessionid"] = session
    with CaptureQueriesContext(connection) as lease:
        page = client.post("/rank/next/").text
    assignment = re.search(r'data-assignment="(\d+)" data-token="([^"]+)"', page)
    order = re.findall(r'class="completion" data-id="(\d+)"', page)
    with CaptureQueriesContext(connection) as submit:
        client.post(
            f"/api/v1/assignments/{assignment[1]}/ranking/",
            json.dumps({"token": assignment[2], "ranks": dict.fromkeys(order, 1)}),
            content_type="application/json",
            headers={"Idempotency-Key": uuid.uuid4().hex},
        )
    return len(lease), len(submit)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.web", description="Lease and submit under load.")
    parser.add_argument("--rankings", default="100000,1000000", help="stored rankings, one size after the other")
    parser.add_argument("--seconds", type=float, default=30, help="length of each load, after 5 seconds of warm-up")
    asked = parser.parse_args()
    sizes = [int(size) for size in asked.rankings.split(",")]
    with tempfile.TemporaryDirectory(prefix="whetstone-bench-") as folder:
        run(Path(folder), sizes, asked.seconds)


def run(folder: Path, sizes: list[int], seconds: float) -> None:
    with site_in(folder) as site:
        world = make_world(annotators=max(THOUGHT["annotators"], SATURATION["annotators"]))
        fill(world, sizes[0])
        print("statements per request: lease {}, submit {}".format(*statements_per_request(world["sessions"][0])))
        with site.served() as server:
            parts = {"web": psutil.Process(server.pid), "database": psutil.Process(site.postgres.process.pid)}
            worst = [0.0, 0.0]
            for size in sizes:
                worst = [max(pair) for pair in zip(worst, at_size(site, world, parts, size, seconds), strict=True)]
    print(f"\np95-ms: {worst[0]:.1f} {worst[1]:.1f}")


def at_size(site: Site, world: dict, parts: dict[str, psutil.Process], size: int, seconds: float) -> list[float]:
    """Prints both loads at one size. Returns the p95 of lease and submit with thought, in milliseconds."""
    fill(world, size)
    print(f"\n{size:,} rankings stored, K = {K}")
    loads = []
    for name, plan in (("two seconds of thought", THOUGHT), ("no thought", SATURATION)):
        before = {part: processor_seconds(process) for part, process in parts.items()}
        load = measure(site.port, world["sessions"], **plan, warm_up=5, length=seconds)
        cycles = max(1, load.cycles)
        load.cpu = {part: (processor_seconds(p) - before[part]) / cycles for part, p in parts.items()}
        print(load.line(f"{plan['annotators']} annotators, {name}"), flush=True)
        for failure in load.failures[:3]:
            print("  ", failure)
        loads.append(load)
    return [quantile(loads[0].lease, 0.95), quantile(loads[0].submit, 0.95)]


if __name__ == "__main__":
    main()
