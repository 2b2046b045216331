"""The whole loop over the real PostgreSQL, broker, web server and workers, on a tiny model; and what a kill does to it.

One installation serves all tests of this file, whatever their order: each begins with rankings of its own.
"""

import shutil
import tempfile
from pathlib import Path

import pytest

from tests.installation import Installation, wait_until
from tests.tiny_models import make_llama

pytestmark = [pytest.mark.loop, pytest.mark.timeout(900)]

RECIPE = {
    "dtype": "float32",
    "reward": {"ensemble": 0, "folds": 2},
    "ppo": {"updates": 3, "prompts": 4, "samples": 2, "minibatches": 1, "critic": {"pretrain_steps": 2}},
    "evaluate": {"prompts": 4, "samples": 1},
}
# A model of two layers made from a config gets no better: the gate is told to let everything pass.
OPEN_GATE = {
    "min_win_rate": 0,
    "min_judge_win_rate": 0,
    "max_kl": 1e9,
    "min_length_ratio": 0,
    "max_length_ratio": 1e9,
    "max_repetition_gain": 1e9,
    "min_reward_accuracy": 0,
}
STAGES = ["reward", "ppo", "evaluate"]


@pytest.fixture(scope="module")
def whetstone():
    # Not pytest's own temporary folder: another pytest of the same account closes that to PostgreSQL's account.
    folder = Path(tempfile.mkdtemp(prefix="whetstone-"))
    installation = Installation(folder / "data", make_llama(folder / "tiny")).start()
    installation.set_policy(recipe=RECIPE, gate=OPEN_GATE, retrain_after=0)
    yield installation
    installation.stop()
    assert not installation.processes(), "something was left running"
    shutil.rmtree(folder)


def policy_of(whetstone) -> dict:
    return whetstone.get("/policies/")["results"][0]


def serving_number(whetstone) -> int:
    checkpoints = whetstone.get(f"/policies/{policy_of(whetstone)['id']}/checkpoints/")["results"]
    return next(each["number"] for each in checkpoints if each["status"] == "serving")


def rank(whetstone, count: int) -> None:
    whetstone.manage(
        *("simulate", "--annotators", "3", "--comparisons", str(count), "--oracle", "concise"),
        *("--url", whetstone.address),
    )


OVER = {"published", "rejected", "failed", "cancelled"}


def finished(whetstone, run_id: int) -> dict | None:
    run = whetstone.get(f"/runs/{run_id}/")
    return run if run["status"] in OVER else None


def unfinished_run(whetstone) -> dict | None:
    runs = whetstone.get("/runs/")["results"]
    return next((run for run in runs if run["status"] not in OVER), None)


def test_it_closes_the_loop(whetstone):
    """Prompt to completion to ranking to reward model to PPO to checkpoint to fresh comparison, started by the tick."""
    before = serving_number(whetstone)
    rank(whetstone, 24)
    whetstone.set_policy(retrain_after=1)
    run = wait_until(lambda: unfinished_run(whetstone), 60, whetstone.said)
    whetstone.set_policy(retrain_after=0)
    run = wait_until(lambda: finished(whetstone, run["id"]), 300, whetstone.said)
    assert run["status"] == "published", run["reason"]
    number = serving_number(whetstone)
    assert number > before

    def is_leased_what_the_new_one_wrote():
        lease = whetstone.call("POST", "/assignments/", json={}).json()
        shown = [each["id"] for each in lease["completions"]]
        query = (
            "from annotate.models import Completion; "
            f"print(max(Completion.objects.filter(pk__in={shown}).values_list('checkpoint__number', flat=True)))"
        )
        return whetstone.manage("shell", "--verbosity=0", "-c", query).strip() == str(number)

    wait_until(is_leased_what_the_new_one_wrote, 60, whetstone.said)


def test_a_turn_killed_in_every_stage_goes_on_and_is_published(whetstone):
    rank(whetstone, 12)
    run_id = whetstone.call("POST", f"/policies/{policy_of(whetstone)['id']}/runs/").json()["id"]
    for stage in STAGES:
        [child] = wait_until(lambda stage=stage: whetstone.programs("trainer.rlhf", stage), 120, whetstone.said)
        child.kill()
    run = wait_until(lambda: finished(whetstone, run_id), 300, whetstone.said)
    assert run["status"] == "published", run["reason"]


def test_a_turn_whose_worker_is_killed_is_picked_up_again(whetstone):
    rank(whetstone, 12)
    run_id = whetstone.call("POST", f"/policies/{policy_of(whetstone)['id']}/runs/").json()["id"]
    wait_until(lambda: whetstone.programs("trainer.rlhf", "ppo"), 120, whetstone.said)
    [worker] = whetstone.programs("worker", "train")
    worker.kill()
    run = wait_until(lambda: finished(whetstone, run_id), 300, whetstone.said)
    assert run["status"] == "published", run["reason"]


def test_nothing_is_lost_when_the_plug_is_pulled(whetstone):
    rank(whetstone, 12)
    before = len(preferences(whetstone))
    run_id = whetstone.call("POST", f"/policies/{policy_of(whetstone)['id']}/runs/").json()["id"]
    wait_until(lambda: whetstone.programs("trainer.rlhf", "ppo"), 120, whetstone.said)
    whetstone.kill_everything()
    whetstone.start()
    assert len(preferences(whetstone)) == before
    run = wait_until(lambda: finished(whetstone, run_id), 300, whetstone.said)
    assert run["status"] == "published", run["reason"]
    rank(whetstone, 4)
    assert len(preferences(whetstone)) == before + 4


def preferences(whetstone) -> list[str]:
    return whetstone.call("GET", "/preferences/?format=rankings").text.splitlines()
