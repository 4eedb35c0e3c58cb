-- Rehome's own schema. Everything rehome knows lives here, in the database of
-- the memories' own tables, so that a batch, its journal and its progress
-- commit together.

-- One row: the installation. Its id begins the names of task queues, workflows
-- and schedules, so that two installations can share one Temporal.
CREATE TABLE rehome.installation (
    singleton  boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    id         text NOT NULL DEFAULT 'r' || substr(md5(gen_random_uuid()::text), 1, 7),
    created_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO rehome.installation DEFAULT VALUES;

CREATE TABLE rehome.settings (
    key    text PRIMARY KEY,
    value  text NOT NULL,
    set_at timestamptz NOT NULL DEFAULT now(),
    set_by text NOT NULL DEFAULT current_user
);

CREATE TABLE rehome.memories (
    name       text PRIMARY KEY CHECK (name ~ '^[a-z0-9][a-z0-9_-]{0,40}$'),
    root       text NOT NULL UNIQUE,
    builtin    boolean NOT NULL,
    mapping    jsonb NOT NULL,
    marker     text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now()
);

-- The builtin chunk table. Ids never change; the application fills embedding,
-- and may change its type (to pgvector's, say). No foreign key to memories: a
-- memory that is removed and added again finds its chunks.
CREATE TABLE rehome.chunks (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    memory     text NOT NULL,
    path       text COLLATE "C" NOT NULL,
    ordinal    integer NOT NULL,
    content    text NOT NULL,
    embedding  real[],
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX chunks_source ON rehome.chunks (memory, path);

-- When and how often a chunk was used, told by rehome.touch(). Apart from the
-- chunks, so that counting never writes to a user's table.
CREATE TABLE rehome.chunk_access (
    memory           text NOT NULL,
    chunk_id         text NOT NULL,
    last_accessed_at timestamptz NOT NULL,
    access_count     bigint NOT NULL,
    PRIMARY KEY (memory, chunk_id)
) WITH (fillfactor = 80);

CREATE TABLE rehome.chunk_references (
    memory             text NOT NULL,
    chunk_id           text NOT NULL,
    referrer           text NOT NULL,
    last_referenced_at timestamptz NOT NULL,
    reference_count    bigint NOT NULL,
    PRIMARY KEY (memory, chunk_id, referrer)
) WITH (fillfactor = 80);

-- The catalogue: files as ingest, scans and migrations last knew them. A path
-- with a row that is not gone is a living file, which resolves to itself.
CREATE TABLE rehome.files (
    memory        text NOT NULL,
    path          text COLLATE "C" NOT NULL,      -- canonical key
    raw_path      bytea NOT NULL,                 -- bytes as the file system gave them
    size          bigint NOT NULL,
    mtime         timestamptz NOT NULL,
    content_hash  bytea,                          -- sha256; NULL until it was read
    skipped       text,                           -- why ingest left it out; NULL when it did not
    first_seen_at timestamptz NOT NULL DEFAULT now(),
    seen_at       timestamptz NOT NULL DEFAULT now(),
    gone_at       timestamptz,
    PRIMARY KEY (memory, path)
);

-- One owner per memory and kind of work. Each transaction of that work moves
-- the cursor from where it read it, so an attempt that was given up for dead
-- can do nothing twice.
CREATE TABLE rehome.claims (
    memory      text NOT NULL,
    kind        text NOT NULL,
    workflow_id text NOT NULL,
    run_id      text NOT NULL,
    epoch       bigint NOT NULL DEFAULT 1,
    cursor      text NOT NULL DEFAULT '',
    counters    jsonb NOT NULL DEFAULT '{}',
    claimed_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (memory, kind)
);

CREATE TABLE rehome.version_aliases (
    memory           text NOT NULL,
    original_path    text COLLATE "C" NOT NULL,
    current_path     text COLLATE "C" NOT NULL,
    version_history  jsonb NOT NULL DEFAULT '[]', -- [{"path", "at"}], newest last
    access_count     bigint NOT NULL DEFAULT 0,
    last_accessed_at timestamptz,
    metadata         jsonb NOT NULL DEFAULT '{}',
    plan_id          text,                        -- the migration that made or last changed it
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    expires_at       timestamptz,
    PRIMARY KEY (memory, original_path),
    CHECK (original_path <> current_path)
) WITH (fillfactor = 80);
CREATE INDEX version_aliases_current ON rehome.version_aliases (memory, current_path);

CREATE TABLE rehome.scans (
    scan_id     text PRIMARY KEY,
    memory      text NOT NULL,
    workflow_id text NOT NULL,
    run_id      text NOT NULL,
    status      text NOT NULL DEFAULT 'running' CHECK (status IN ('running', 'complete', 'incomplete', 'aborted')),
    policy      jsonb NOT NULL,
    result      jsonb NOT NULL DEFAULT '{}',  -- as the command line shows it
    device      text NOT NULL DEFAULT '',     -- of the root
    canaries    text[] NOT NULL DEFAULT '{}', -- a sample of files that the next scan must find again
    mounts      text[] NOT NULL DEFAULT '{}', -- directories where another file system was mounted, now or in an earlier scan
    reason      text NOT NULL DEFAULT '',     -- why it is not complete
    cutoff      timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz
);
CREATE INDEX scans_latest ON rehome.scans (memory, cutoff DESC);

-- The evidence of one scan; kept until the next one begins. No index on paths:
-- it is written once, in bulk, and joined as a whole.
CREATE TABLE rehome.scan_sources (
    scan_id text NOT NULL,
    ordinal bigint NOT NULL,
    locator text COLLATE "C",                   -- as it stands in the table; NULL for a file of the catalogue that has no chunks
    path    text COLLATE "C",                   -- canonical key; NULL when it names no file of the tree
    chunks  bigint NOT NULL,
    bytes   bigint NOT NULL,
    verdict text,                               -- NULL: seen by the walk
    witness text,                               -- the deepest directory on the way that the walk found
    folds   text[],                             -- of the path and the directories above it: see corpus.Fold
    lost    boolean NOT NULL DEFAULT false,     -- a known file that is missing and was not found elsewhere
    PRIMARY KEY (scan_id, ordinal)
);
CREATE TABLE rehome.scan_dirs (
    scan_id text NOT NULL,
    path    text COLLATE "C" NOT NULL,          -- '.' is the root
    error   text NOT NULL DEFAULT '',           -- empty: read to its end
    mounted boolean NOT NULL DEFAULT false      -- another file system is mounted here
);
CREATE INDEX scan_dirs_scan ON rehome.scan_dirs (scan_id);
CREATE TABLE rehome.scan_files (
    scan_id  text NOT NULL,
    path     text COLLATE "C" NOT NULL,         -- canonical key; empty when the name cannot be one
    fold     text COLLATE "C" NOT NULL,         -- equal for paths that differ only in case, normalisation or encoding
    raw_path bytea NOT NULL,
    kind     text NOT NULL,                     -- file, dir, symlink, excluded, other
    size     bigint NOT NULL,
    mtime    timestamptz NOT NULL
);
CREATE INDEX scan_files_scan ON rehome.scan_files (scan_id);

CREATE TABLE rehome.orphan_chunks (
    memory           text NOT NULL,
    chunk_id         text NOT NULL,
    file_path        text NOT NULL,             -- canonical key
    locator          text NOT NULL,             -- as it stands in the table
    kind             text NOT NULL DEFAULT 'missing',
    reason           text NOT NULL,
    bytes            bigint NOT NULL,
    content_hash     bytea NOT NULL,            -- sha256 of the text when it was found
    last_accessed_at timestamptz,
    access_count     bigint NOT NULL DEFAULT 0,
    priority         real NOT NULL CHECK (priority BETWEEN 0 AND 1),
    first_missing_at timestamptz NOT NULL,
    last_missing_at  timestamptz NOT NULL,
    missing_scans    integer NOT NULL,          -- complete scans in a row that missed it
    last_scan        text NOT NULL,
    PRIMARY KEY (memory, chunk_id)
);

-- Chunks that are never orphans: held by a person, or restored and not changed since.
CREATE TABLE rehome.holds (
    memory       text NOT NULL,
    chunk_id     text NOT NULL,
    reason       text NOT NULL,
    locator      text,                          -- where it was when it was restored; NULL: held whatever happens to it
    content_hash bytea,                         -- sha256 of its text then
    held_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (memory, chunk_id)
);

CREATE TABLE rehome.cleanup_runs (
    run_id          text PRIMARY KEY,
    memory          text NOT NULL,
    workflow_id     text NOT NULL,
    dry_run         boolean NOT NULL,
    policy          jsonb NOT NULL,
    total_orphans   bigint NOT NULL DEFAULT 0,
    cleaned_orphans bigint NOT NULL DEFAULT 0,
    failed_cleanups bigint NOT NULL DEFAULT 0,
    skipped         bigint NOT NULL DEFAULT 0,
    bytes_freed     bigint NOT NULL DEFAULT 0,
    started_at      timestamptz NOT NULL DEFAULT now(),
    finished_at     timestamptz
);

-- What a cleanup under way has taken on, by priority; gone when it is over.
CREATE TABLE rehome.cleanup_chunks (
    run_id   text NOT NULL,
    ordinal  bigint NOT NULL,
    chunk_id text NOT NULL,
    PRIMARY KEY (run_id, ordinal)
);

-- What was taken out of a memory. The row itself is in the twin table, typed
-- like the user's; rehome never reads it into a program.
CREATE TABLE rehome.quarantine (
    quarantine_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    memory         text NOT NULL,
    chunk_id       text NOT NULL,
    file_path      text NOT NULL,
    reason         text NOT NULL,               -- missing; replaced: its text was edited away
    run_id         text NOT NULL,
    twin           text NOT NULL,
    bytes          bigint NOT NULL,
    quarantined_at timestamptz NOT NULL DEFAULT now(),
    retain_until   timestamptz NOT NULL,
    restored_at    timestamptz
);
CREATE INDEX quarantine_kept ON rehome.quarantine (memory, file_path) WHERE restored_at IS NULL;
CREATE INDEX quarantine_run ON rehome.quarantine (run_id, chunk_id);

CREATE TABLE rehome.migration_plans (
    plan_id     text PRIMARY KEY,
    number      integer GENERATED ALWAYS AS IDENTITY UNIQUE, -- short, for the journal
    memory      text NOT NULL,
    strategy    text NOT NULL,
    kind        text NOT NULL,
    status      text NOT NULL DEFAULT 'pending' CHECK (status IN
        ('pending', 'executing', 'paused', 'completed', 'rolling_back', 'rolled_back', 'failed', 'cancelled')),
    undoes      text REFERENCES rehome.migration_plans,
    policy      jsonb NOT NULL,
    mapping     jsonb NOT NULL,                 -- the memory's mapping when the plan was made
    moves       bigint NOT NULL DEFAULT 0,
    disagree    bigint NOT NULL DEFAULT 0,
    bytes       bigint NOT NULL DEFAULT 0,
    plan_hash   text NOT NULL DEFAULT '',
    journal     text NOT NULL DEFAULT '',       -- digest of the plan's rows, which an undo compares
    workflow_id text NOT NULL,
    run_id      text NOT NULL,
    reason      text NOT NULL DEFAULT '',
    rollback    text[] NOT NULL DEFAULT '{}',   -- the compensations, newest first
    planning_ms bigint NOT NULL DEFAULT 0,
    created_at  timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz
);
CREATE INDEX migration_plans_memory ON rehome.migration_plans (memory, created_at DESC);

-- What people said: this path is now that one.
CREATE TABLE rehome.migration_renames (
    plan_id  text NOT NULL REFERENCES rehome.migration_plans ON DELETE CASCADE,
    ordinal  bigint NOT NULL,
    old_path text COLLATE "C" NOT NULL,
    new_path text COLLATE "C" NOT NULL,
    PRIMARY KEY (plan_id, ordinal),                   -- chains backwards: what leaves a place comes before what takes it
    UNIQUE (plan_id, old_path)
);

-- The files a plan moves: each source path as it stands in the table, with the
-- rule that moves it and its canonical key.
CREATE TABLE rehome.migration_paths (
    path_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    plan_id  text NOT NULL,                     -- a foreign key would be checked for every file
    old_path text COLLATE "C" NOT NULL,
    old_key  text COLLATE "C" NOT NULL,
    new_path text COLLATE "C" NOT NULL,
    new_key  text COLLATE "C" NOT NULL,
    rule     bigint NOT NULL
);
CREATE INDEX migration_paths_plan ON rehome.migration_paths (plan_id);

-- The journal: every row of a plan, with all that undo needs. A run is of chunks
-- of one file that lie near each other in their table, and move one after another.
-- Planning writes, and a batch finds, many chunks by one row.
CREATE TABLE rehome.migration_runs (
    plan      integer NOT NULL,                 -- migration_plans.number; a foreign key would be checked for every run
    path_id   bigint NOT NULL,                  -- the file's old and new path
    first     bigint NOT NULL,                  -- ordinal of its first chunk
    last      bigint NOT NULL,                  -- and of its last
    bytes     bigint NOT NULL,                  -- of the texts of its chunks
    chunk_ids text[] NOT NULL CHECK (cardinality(chunk_ids) = last - first + 1),
    PRIMARY KEY (plan, last)
) WITH (toast_tuple_target = 8160);             -- ids are not worth compressing

-- The journal as it is read: a row for each chunk.
CREATE VIEW rehome.migration_moves AS
SELECT r.plan, r.last, r.path_id, p.old_path, p.new_path, generate_series(r.first, r.last) AS ordinal, unnest(r.chunk_ids) AS chunk_id,
    r.bytes / cardinality(r.chunk_ids)::float8 AS bytes -- its share of its run's
FROM rehome.migration_runs r JOIN rehome.migration_paths p USING (path_id);

-- Columns of type json of the chunks of a plan, verbatim; none for other tables.
CREATE TABLE rehome.migration_documents (
    plan      integer NOT NULL,
    chunk_id  text NOT NULL,
    documents text[] NOT NULL,                  -- before the move
    restores  text[],                           -- to put back, in a plan that undoes
    PRIMARY KEY (plan, chunk_id)
);

-- Rows of a plan that did not move, and why. A row below the watermark without
-- an entry here has moved, so moving costs no write of its own.
CREATE TABLE rehome.migration_exceptions (
    plan_id text NOT NULL,
    ordinal bigint NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('drifted', 'vanished')),
    undoing boolean NOT NULL,                   -- found while undoing
    PRIMARY KEY (plan_id, ordinal, undoing)
);

-- The watermark: rows 1 to last are at their new place. Each batch moves it in
-- its own transaction, forward to apply and back to undo.
CREATE TABLE rehome.migration_progress (
    plan_id    text PRIMARY KEY REFERENCES rehome.migration_plans ON DELETE CASCADE,
    last       bigint NOT NULL DEFAULT 0,
    total      bigint NOT NULL,
    epoch      bigint NOT NULL DEFAULT 1,       -- raised by abort and rollback only
    wish       text NOT NULL DEFAULT 'run' CHECK (wish IN ('run', 'pause', 'undo')),
    batch_size integer NOT NULL,
    rate       double precision NOT NULL DEFAULT 0,
    first_at   timestamptz,                     -- start of the first batch
    last_at    timestamptz,                     -- commit of the last one; NULL while rows are left
    CHECK (last BETWEEN 0 AND total)
) WITH (fillfactor = 50);

CREATE TABLE rehome.migration_events (
    event_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    plan_id  text NOT NULL,
    at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    event    text NOT NULL,
    author   text NOT NULL DEFAULT '',
    detail   text NOT NULL DEFAULT ''
);
CREATE INDEX migration_events_plan ON rehome.migration_events (plan_id, event_id);
