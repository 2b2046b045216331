import pytest

# Models are imported inside: pytest may read this file before Django is set up.


@pytest.fixture
def policy(db):
    from tests.worlds import make_policy

    return make_policy()


@pytest.fixture
def pool(policy):
    from tests.worlds import make_pool

    return make_pool(policy, k=2)


@pytest.fixture
def rank(pool):
    """Rank `count` fresh comparisons of the pool, each by the same person; the first text is the better one."""
    from tests.worlds import make_comparison, make_person, make_prompt, make_ranking

    alice = make_person("alice", "annotator")

    def rank_some(count: int) -> list:
        rankings = []
        for number in range(count):
            prompt = make_prompt(pool, f"Say something, {alice.rankings.count()}-{number}")
            rankings.append(make_ranking(make_comparison(prompt, ["yes, gladly", "no"]), alice, [1, 2]))
        return rankings

    return rank_some


@pytest.fixture
def queued(monkeypatch):
    """The run ids that were sent to the train worker; the broker is crossed for real in test_closed_loop.py."""
    sent = []
    monkeypatch.setattr("trainer.tasks.advance_run.apply_async", lambda args, **_: sent.extend(args))
    monkeypatch.setattr("trainer.tasks.fill_buffers.delay", lambda: sent.append("fill"))
    return sent
