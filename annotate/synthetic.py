"""A synthetic annotator: signs in, leases, ranks and submits over HTTP, as a person's browser does.

Left out: reading time. No Django; whoever starts one brings the account.
"""

import math
import random
import threading
import time
import uuid
from collections.abc import Callable

import httpx

from annotate.oracles import Oracle

SECONDS_BETWEEN_TRIES = 0.5
LONGEST_PAUSE_SECONDS = 5.0
COME_BACK_LATER = {429, 502, 503, 504}


class GaveUp(Exception):
    """The site cannot be worked with; the message says why."""


def noisy_scores(scores: list[float], temperature: float, rng: random.Random) -> list[float]:
    """Scores plus Gumbel noise: sorting them draws from Plackett–Luce, whose pairs are Bradley–Terry,

        P(i before j) = σ((s_i − s_j) / temperature)        (Yellott 1977)

    Equal scores get the same noise: they stay equal, a tie.
    """
    noise = {score: -math.log(-math.log(rng.random() or 0.5)) for score in sorted(set(scores))}
    return [score + temperature * noise[score] for score in scores]


def ranks_of(scores: list[float]) -> list[int]:
    """Dense ranks: 1 for the highest score, the same for equal ones."""
    levels = {score: rank for rank, score in enumerate(sorted(set(scores), reverse=True), start=1)}
    return [levels[score] for score in scores]


def strength_of(scores: list[float], scale: int) -> int:
    """How much better the best is than the next, in steps of the pool's scale; a difference of 1 is the last step."""
    best, second = sorted(scores, reverse=True)[:2]
    return max(1, min(scale, math.ceil(scale * (best - second))))


class SyntheticAnnotator:
    """One account at work. `patience_seconds`: how long to wait for the site, or for something to rank."""

    def __init__(
        self,
        *,
        url: str,
        email: str,
        password: str,
        oracle: Oracle,
        temperature: float = 0.1,
        seed: int = 0,
        pool_id: int | None = None,
        patience_seconds: float = 600.0,
    ):
        self.email, self.password = email, password
        self.oracle, self.temperature = oracle, temperature
        self.rng = random.Random(f"{seed} {email}")
        self.pool_id = pool_id
        self.patience_seconds = patience_seconds
        self.is_stopped = threading.Event()
        self.client = httpx.Client(base_url=url, headers={"Referer": f"{url}/"}, timeout=60)

    def work(self, wants_another: Callable[[], bool]) -> int:
        """Rank while `wants_another()`. Returns how many answers were stored. Raises GaveUp."""
        answered = 0
        with self.client:
            self.sign_in()
            while wants_another() and not self.is_stopped.is_set():
                while not self.rank(self.next_assignment()):
                    pass
                answered += 1
        return answered

    def sign_in(self) -> None:
        page = self.request("GET", "/account/login/")
        if page.status_code != 200:
            raise GaveUp(f"The sign-in page answered {page.status_code}.")
        form = {"login": self.email, "password": self.password, "csrfmiddlewaretoken": self.client.cookies["csrftoken"]}
        self.request("POST", "/account/login/", data=form)
        if "sessionid" not in self.client.cookies:
            raise GaveUp(f"{self.email} could not sign in.")

    def next_assignment(self) -> dict:
        """Lease the next comparison. Holding nothing, it gets back what a lost connection swallowed."""
        deadline = time.monotonic() + self.patience_seconds
        while time.monotonic() < deadline:
            response = self.request("POST", "/api/v1/assignments/", json={"pool": self.pool_id, "holding": []})
            if response.status_code == 201:
                return response.json()
            if response.status_code != 204:
                raise GaveUp(f"Leasing answered {response.status_code}: {response.text[:300]}")
            self.pause(SECONDS_BETWEEN_TRIES)
        raise GaveUp(f"There was nothing to rank for {self.patience_seconds:.0f} seconds.")

    def rank(self, assignment: dict) -> bool:
        """Answer by the hidden preference. False: the lease was over before the answer came."""
        started = time.monotonic()
        completions = assignment["completions"]
        prompt = assignment["prompt"]["messages"][-1]["content"]
        scores = self.oracle(prompt, [completion["text"] for completion in completions])
        noisy = noisy_scores(scores, self.temperature, self.rng)
        ranks = ranks_of(noisy)
        if not assignment["ties_allowed"]:
            ranks = [1 + sorted(range(len(noisy)), key=lambda i: (ranks[i], i)).index(i) for i in range(len(noisy))]
        answer = {
            "token": assignment["token"],
            "ranks": {str(completion["id"]): rank for completion, rank in zip(completions, ranks, strict=True)},
            "active_ms": round(1000 * (time.monotonic() - started)),
        }
        if assignment["strength_scale"]:
            answer["strength"] = strength_of(noisy, assignment["strength_scale"])
        key = str(uuid.uuid4())  # not from the seed: a second run with the same seed sends other answers
        path = f"/api/v1/assignments/{assignment['id']}/ranking/"
        response = self.request("POST", path, json=answer, headers={"Idempotency-Key": key})
        if response.status_code not in (200, 201, 409):
            raise GaveUp(f"An answer was refused, {response.status_code}: {response.text[:300]}")
        return response.status_code != 409

    def request(self, method: str, path: str, **sent) -> httpx.Response:
        """Send, and send again while the site is away or asks to come back later."""
        deadline = time.monotonic() + self.patience_seconds
        pause = SECONDS_BETWEEN_TRIES
        headers = sent.pop("headers", {})
        while True:
            try:
                token = {"X-CSRFToken": self.client.cookies.get("csrftoken", "")}
                response = self.client.request(method, path, headers=headers | token, **sent)
                if response.status_code not in COME_BACK_LATER:
                    return response
                trouble = f"it answers {response.status_code}"
            except httpx.TransportError as error:
                trouble = str(error) or type(error).__name__
            if time.monotonic() > deadline:
                raise GaveUp(f"{self.client.base_url} cannot be reached: {trouble}.")
            self.pause(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def pause(self, seconds: float) -> None:
        """Wait about so long; at once over, with GaveUp, when somebody sets `is_stopped`."""
        if self.is_stopped.wait(self.rng.uniform(0.5, 1.5) * seconds):
            raise GaveUp("Stopped.")
