"""A database full of rankings, for `bench.web` and `bench.page`: made by SQL, as the services would have left it."""

OPEN_COMPARISONS = 40_000
K = 4
OVERLAP = 2  # annotators a comparison
PAST_ANNOTATORS = 200

FILL = """
INSERT INTO annotate_prompt
    (pool_id, messages, language, tags, source_id, content_hash, is_held_out, created_at)
SELECT %(pool)s, jsonb_build_array(jsonb_build_object('role', 'user', 'content', 'Prompt ' || n || ': be kind.')), 'en',
    '{}', '', md5('bench' || n) || md5(n::text), false, now()
FROM generate_series(%(from)s, %(to)s) n;

INSERT INTO annotate_comparison
    (pool_id, prompt_id, kind, gold_explanation, overlap, taken, answered, priority, is_withdrawn, created_at)
SELECT p.pool_id, p.id, 'fresh', '', %(overlap)s, %(taken)s, %(taken)s, 0, false, now()
FROM annotate_prompt p LEFT JOIN annotate_comparison c ON c.prompt_id = p.id
WHERE p.pool_id = %(pool)s AND c.id IS NULL;

INSERT INTO annotate_completion
    (comparison_id, checkpoint_id, text, token_ids, sampling, seed, finish_reason, scores, names_its_model, created_at)
SELECT c.id, %(checkpoint)s,
    'You are doing **well**, number ' || k || ' of ' || c.id || '. ' || repeat('A kind word costs nothing. ', 5),
    '{1,2,3,4,5,6,7,8}', '{"temperature": 1.0}', k, 'stop', '{}', false, now()
FROM annotate_comparison c CROSS JOIN generate_series(1, %(k)s) k
WHERE c.pool_id = %(pool)s AND NOT EXISTS (SELECT 1 FROM annotate_completion t WHERE t.comparison_id = c.id);
"""

ANSWER = """
INSERT INTO annotate_assignment
    (comparison_id, annotator_id, status, token, "order", leased_at, expires_at, finished_at, skip_reason)
SELECT c.id, %(first)s + (c.id * 7 + n * 31) %% %(annotators)s, 'answered', 't', t.ids, now(), now(), now(), ''
FROM annotate_comparison c
    JOIN (SELECT comparison_id, array_agg(id ORDER BY id) ids FROM annotate_completion GROUP BY 1) t
        ON t.comparison_id = c.id
    CROSS JOIN generate_series(0, %(overlap)s - 1) n
WHERE c.answered = c.overlap AND NOT EXISTS (SELECT 1 FROM annotate_assignment a WHERE a.comparison_id = c.id);

INSERT INTO annotate_ranking
    (assignment_id, pool_id, annotator_id, revision, is_current, counts, ranks, all_bad, flags, axes, spans, rationale,
     chips, active_ms, idempotency_key, created_at)
SELECT a.id, c.pool_id, a.annotator_id, 1, true, true,
    (SELECT jsonb_object_agg(id::text, place) FROM unnest(a."order") WITH ORDINALITY AS o(id, place)),
    false, '{}', '{}', '[]', '', '[]', 9000, 'bench-' || a.id, now()
FROM annotate_assignment a JOIN annotate_comparison c ON c.id = a.comparison_id
WHERE a.status = 'answered' AND NOT EXISTS (SELECT 1 FROM annotate_ranking r WHERE r.assignment_id = a.id);
"""


def make_world(*, annotators: int, k: int = K) -> dict:
    """Accounts, a pool, the annotators' sessions."""
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
    from django.contrib.auth.models import Group
    from django.contrib.sessions.backends.db import SessionStore

    from annotate.models import Policy, PolicyCheckpoint, PromptPool, User

    group, _is_new = Group.objects.get_or_create(name="annotator")
    names = [f"annotator{n}" for n in range(PAST_ANNOTATORS + annotators)]
    people = User.objects.bulk_create(User(username=name, email=f"{name}@example.org") for name in names)
    group.user_set.set(people)
    sessions = []
    for person in people[PAST_ANNOTATORS:]:
        session = SessionStore()
        session[SESSION_KEY] = str(person.pk)
        session[BACKEND_SESSION_KEY] = "annotate.accounts.SignIn"
        session[HASH_SESSION_KEY] = person.get_session_auth_hash()
        session.save()
        sessions.append(session.session_key)
    policy = Policy.objects.create(name="bench", base_model="none")
    checkpoint = PolicyCheckpoint.objects.create(policy=policy, number=0, status="serving")
    pool = PromptPool.objects.create(name="bench", policy=policy, k=k, overlap=OVERLAP)
    values = {"pool": pool.pk, "checkpoint": checkpoint.pk, "k": k, "overlap": OVERLAP}
    return {"sessions": sessions, "values": values, "first": people[0].pk, "prompts": 0}


def fill(world: dict, rankings: int, open_comparisons: int | None = None) -> None:
    """Bring the stored rankings up to `rankings`, and the open comparisons up to OPEN_COMPARISONS or so many."""
    from django.db import connection

    from annotate.models import Comparison, Ranking

    open_now = Comparison.objects.filter(answered=0, taken=0).count()
    wanted = {
        OVERLAP: (rankings - Ranking.objects.count()) // OVERLAP,
        0: (open_comparisons or OPEN_COMPARISONS) - open_now,
    }
    with connection.cursor() as cursor:
        for taken, count in wanted.items():
            if count <= 0:
                continue
            span = {"from": world["prompts"], "to": world["prompts"] + count - 1, "taken": taken}
            cursor.execute(FILL, world["values"] | span)
            world["prompts"] += count
        cursor.execute(ANSWER, {"first": world["first"], "annotators": PAST_ANNOTATORS, "overlap": OVERLAP})
        cursor.execute("ANALYZE")
