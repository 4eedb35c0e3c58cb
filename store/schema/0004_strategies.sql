-- Four strategies: what a plan was found to be, who approved it, where it waits,
-- how it goes, and what past runs cost.

ALTER TABLE rehome.migration_plans DROP CONSTRAINT migration_plans_status_check;
ALTER TABLE rehome.migration_plans
    ADD CONSTRAINT migration_plans_status_check CHECK (status IN
        ('pending', 'awaiting_approval', 'queued', 'executing', 'paused', 'completed', 'rolling_back', 'rolled_back', 'failed', 'cancelled')),
    ADD COLUMN conflicts     bigint NOT NULL DEFAULT 0,   -- rows of migration_conflicts
    ADD COLUMN physics       jsonb NOT NULL DEFAULT '{}', -- what stands around the path: resilience.Physics
    ADD COLUMN way           text NOT NULL DEFAULT 'update', -- how rows change their path: resilience.Way
    ADD COLUMN risk          jsonb NOT NULL DEFAULT '{}', -- resilience.Risk
    ADD COLUMN estimate      jsonb NOT NULL DEFAULT '{}', -- resilience.Estimate
    ADD COLUMN approved_hash text NOT NULL DEFAULT '',    -- plan_hash that a person approved
    ADD COLUMN approved_by   text NOT NULL DEFAULT '',
    ADD COLUMN approved_at   timestamptz,
    ADD COLUMN queued_at     timestamptz;                 -- the queue is served in this order

-- Why a plan cannot be carried out as it was asked for.
CREATE TABLE rehome.migration_conflicts (
    plan_id text NOT NULL REFERENCES rehome.migration_plans ON DELETE CASCADE,
    ordinal bigint NOT NULL,
    kind    text NOT NULL,                      -- resilience.ConflictKind
    source  text NOT NULL,
    target  text NOT NULL,
    detail  text NOT NULL,
    PRIMARY KEY (plan_id, ordinal)
);

-- Renames that wait for their plan to be made: a list too long to travel with
-- the request. Lines are as its author counts them.
CREATE TABLE rehome.migration_staged (
    plan_id   text NOT NULL,
    line      bigint NOT NULL,
    old_path  text COLLATE "C" NOT NULL,
    new_path  text COLLATE "C" NOT NULL,
    staged_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (plan_id, line)
);

-- An operator's throttle, while it lasts, stands above what the plan asks for.
ALTER TABLE rehome.migration_progress
    ADD COLUMN throttle_rate  double precision,
    ADD COLUMN throttle_batch integer,
    ADD COLUMN throttle_until timestamptz;      -- NULL: there is none

-- Why a row did not go where it should.
ALTER TABLE rehome.migration_exceptions
    ADD COLUMN detail text NOT NULL DEFAULT '',
    DROP CONSTRAINT migration_exceptions_outcome_check;
ALTER TABLE rehome.migration_exceptions
    ADD CONSTRAINT migration_exceptions_outcome_check CHECK (outcome IN ('drifted', 'vanished', 'conflict', 'edited'));

-- The groups an intelligent plan runs one after another, and why it made them so.
CREATE TABLE rehome.migration_groups (
    plan_id      text NOT NULL REFERENCES rehome.migration_plans ON DELETE CASCADE,
    position     integer NOT NULL,              -- 1 runs first
    name         text NOT NULL,                 -- what its chunks have in common
    until        bigint NOT NULL,               -- last ordinal
    rows         bigint NOT NULL,               -- so many up to there
    way          text NOT NULL,                 -- as the plan's
    decision     jsonb NOT NULL,                -- resilience.Group: strategy, size, pace, what was measured, alternatives, reason
    course       jsonb,                         -- resilience.Course: how its batches go; NULL before the first
    PRIMARY KEY (plan_id, position)
);

-- The vector indexes that a plan took away, which it does once.
CREATE TABLE rehome.migration_indexes (
    plan_id    text NOT NULL REFERENCES rehome.migration_plans,
    name       text NOT NULL,                   -- without its schema, which is the table's
    definition text NOT NULL,                   -- as pg_get_indexdef gave it
    tablespace text NOT NULL,                   -- empty: the default one
    comment    text,
    bytes      bigint NOT NULL,                 -- it had
    built_at   timestamptz,                     -- NULL: it is not there
    PRIMARY KEY (plan_id, name)
);

-- What a group's or a whole plan's moves really cost.
CREATE TABLE rehome.performance_samples (
    sample_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    memory       text NOT NULL,
    plan_id      text NOT NULL,
    kind         text NOT NULL,
    strategy     text NOT NULL,
    way          text NOT NULL,
    index_class  text NOT NULL,                 -- resilience.IndexClass
    batch_size   integer NOT NULL,
    rows         bigint NOT NULL,
    row_bytes    bigint NOT NULL,
    apply_ms     double precision NOT NULL,     -- first batch to last commit
    duration_ms  double precision NOT NULL,     -- without waiting for people, queue and pauses
    estimated_ms double precision NOT NULL,     -- p50 as it was shown; 0: none was
    by_rule_ms   double precision NOT NULL DEFAULT 0, -- what resilience's built-in costs make of the same work
    at           timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX performance_samples_like ON rehome.performance_samples (memory, kind, index_class, at DESC);

-- Why a plan waits, for as long as it does; and which signals are near that, or not to be had.
CREATE TABLE rehome.migration_gates (
    plan_id text NOT NULL REFERENCES rehome.migration_plans ON DELETE CASCADE,
    gate    text NOT NULL,                      -- resilience.GateName
    state   text NOT NULL DEFAULT 'shut' CHECK (state IN ('near', 'shut', 'not_available')),
    detail  text NOT NULL,
    since   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (plan_id, gate)
);

CREATE OR REPLACE VIEW rehome.migrations AS
    SELECT p.plan_id AS migration_id, p.memory, p.strategy, p.kind, p.status, p.undoes, p.moves,
        coalesce(g.last, 0) AS done, p.disagree, p.bytes, p.reason, p.workflow_id, p.created_at, p.finished_at,
        p.conflicts, p.risk, p.estimate
    FROM rehome.migration_plans p LEFT JOIN rehome.migration_progress g USING (plan_id);

-- The plans that may work at this moment, at most max_concurrent_migrations.
CREATE TABLE rehome.migration_slots (
    plan_id  text PRIMARY KEY REFERENCES rehome.migration_plans ON DELETE CASCADE,
    taken_at timestamptz NOT NULL DEFAULT now()
);

-- What a look at the table found that was not planned, and which of it was there
-- when a person approved the plan: store.surprises.
ALTER TABLE rehome.migration_plans
    ADD COLUMN surprises jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN accepted  jsonb NOT NULL DEFAULT '{}';

-- Transfers: a plan that takes chunks from one memory to another.

-- What a builtin chunk's columns cannot hold of a chunk that came from elsewhere.
ALTER TABLE rehome.chunks ADD COLUMN metadata jsonb;
UPDATE rehome.memories SET mapping = mapping || '{"metadata": "metadata"}' WHERE builtin;

CREATE TABLE rehome.migration_transfers (
    plan_id text PRIMARY KEY REFERENCES rehome.migration_plans ON DELETE CASCADE,
    origin  text NOT NULL,                      -- the plan that made the copies: this one, or the first of those it undoes
    back    boolean NOT NULL,                   -- rows come home and copies go
    target  text NOT NULL,                      -- memory
    prefix  text NOT NULL,                      -- a file or a directory of the source; empty: all of it
    soak    double precision NOT NULL,          -- seconds
    mapping jsonb NOT NULL,                     -- the target's when the plan was made
    fit     jsonb NOT NULL,                     -- resilience.Fit
    retired bigint NOT NULL DEFAULT 0           -- watermark of the last step, as migration_progress.last is of the copies
);

-- The copies of a transfer, under the number and the ordinals of its origin.
CREATE TABLE rehome.migration_copies (
    plan      integer NOT NULL,
    ordinal   bigint NOT NULL,
    target_id text NOT NULL,                    -- kept when the copy is taken away, so that it comes back under its id
    made      bytea NOT NULL,                   -- print of the copy as we made it: only such a one is ours to remove
    here      boolean NOT NULL,                 -- the copy stands in the target
    PRIMARY KEY (plan, ordinal)
);

-- jsonb_changed makes the changes of an object's keys, from was to now, in another.
CREATE FUNCTION rehome.jsonb_changed(document jsonb, was jsonb, now jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (document - ARRAY(SELECT key FROM jsonb_object_keys(was) key WHERE NOT now ? key))
        || coalesce((SELECT jsonb_object_agg(key, value) FROM jsonb_each(now) WHERE value::text IS DISTINCT FROM (was -> key)::text), '{}')
$$;

-- jsonb_put sets a value in a document and makes the objects above it.
CREATE FUNCTION rehome.jsonb_put(document jsonb, keys text[], put text) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    IF cardinality(keys) = 0 THEN
        RETURN to_jsonb(put);
    END IF;
    RETURN CASE WHEN jsonb_typeof(document) = 'object' THEN document ELSE '{}' END
        || jsonb_build_object(keys[1], rehome.jsonb_put(document -> keys[1], keys[2:], put));
END $$;
