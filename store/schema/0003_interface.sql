-- What applications call, in any language. A role needs USAGE on schema rehome
-- for the functions and SELECT on a view to read it. Functions that write run
-- with the rights of their owner, under a search_path nobody else can set.

-- Where files are is open to every role that may use the schema; current_path
-- reads it with the rights of its caller, which is faster.
GRANT SELECT (name, mapping) ON rehome.memories TO PUBLIC;
GRANT SELECT (memory, original_path, current_path, expires_at) ON rehome.version_aliases TO PUBLIC;
GRANT SELECT (memory, path, gone_at) ON rehome.files TO PUBLIC;

-- strip_prefix is what stands before the paths of a memory, or an error.
CREATE FUNCTION rehome.strip_prefix(in_memory text) RETURNS text
LANGUAGE plpgsql STABLE AS $$
DECLARE
    prefix text;
BEGIN
    SELECT coalesce(m.mapping->>'strip_prefix', '') INTO prefix FROM rehome.memories m WHERE m.name = in_memory;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'rehome: there is no memory %', coalesce(quote_literal(in_memory), 'NULL')
            USING ERRCODE = 'no_data_found', HINT = 'SELECT name FROM rehome.memories, or add it with: starter memory add';
    END IF;
    RETURN prefix;
END $$;

-- below is what stands in a path below as many components as a directory has,
-- as it is written: normal forms may differ in length, never in components.
CREATE FUNCTION rehome.below(path text, dir text) RETURNS text
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    rest text[] := (string_to_array(path, '/'))[cardinality(string_to_array(dir, '/')) + 1:];
BEGIN
    RETURN CASE WHEN cardinality(rest) = 0 THEN '' ELSE '/' || array_to_string(rest, '/') END;
END $$;

-- locate finds the alias in force for a path as an application has it: relative
-- to the root, or in the memory's own form, whose prefix comes back in lead. It
-- looks from the path upwards; the longest prefix with an alias answers (of two
-- prefixes the longer one sorts last), unless an alias leads to a longer one: what
-- was brought there is at home, also below a directory that has an alias itself.
-- So is a file of the catalogue. (SELECT dirs) hides from the planner how many
-- directories there are, for which it would plan anew at each call.
CREATE FUNCTION rehome.locate(in_memory text, path text, prefix text,
    OUT original text, OUT lead text, OUT target text, OUT rest text, OUT moved text)
LANGUAGE plpgsql STABLE AS $$
DECLARE
    relative text := rehome.path_rest(path, prefix);
    key text := normalize(relative, NFC);
    dirs text[] := rehome.path_prefixes(key);
BEGIN
    SELECT a.original_path, a.current_path INTO original, target FROM rehome.version_aliases a
    WHERE a.memory = in_memory AND a.original_path = ANY ((SELECT dirs)::text[]) AND (a.expires_at IS NULL OR a.expires_at > now())
    ORDER BY a.original_path DESC LIMIT 1;
    IF original IS NULL THEN
        RETURN;
    END IF;
    IF EXISTS (SELECT FROM rehome.files f WHERE f.memory = in_memory AND f.path = key AND f.gone_at IS NULL)
        OR EXISTS (
            SELECT FROM rehome.version_aliases a
            WHERE a.memory = in_memory AND a.current_path = ANY ((SELECT dirs)::text[]) AND length(a.current_path) > length(original)) THEN
        original := NULL;
        target := NULL;
        RETURN;
    END IF;
    lead := left(path, length(path) - length(relative));
    rest := CASE relative WHEN key THEN substr(key, length(original) + 1) ELSE rehome.below(relative, original) END;
    moved := lead || target || rest;
END $$;

-- where_is says where the file of a canonical key is now.
CREATE FUNCTION rehome.where_is(in_memory text, key text) RETURNS text
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN coalesce((rehome.locate(in_memory COLLATE "default", key COLLATE "default", '')).moved, key COLLATE "default");
END $$;

-- current_path says where the file of a path is now, in the form the path was
-- given in; a path without an alias comes back as it is. It writes nothing.
-- Nearly every path has an alias of its own or is a living file (never both), and
-- is answered by a look at one index or two. The collations are ours whatever a
-- caller's column has, or no index would serve.
CREATE FUNCTION rehome.current_path(memory text, path text) RETURNS text
LANGUAGE plpgsql STABLE AS $$
DECLARE
    answer text;
BEGIN
    SELECT a.current_path INTO answer FROM rehome.version_aliases a
    WHERE a.memory = $1 COLLATE "default" AND a.original_path = $2 COLLATE "C" AND (a.expires_at IS NULL OR a.expires_at > now());
    IF answer IS NULL THEN
        SELECT f.path INTO answer FROM rehome.files f
        WHERE f.memory = $1 COLLATE "default" AND f.path = $2 COLLATE "C" AND f.gone_at IS NULL;
    END IF;
    IF answer IS NULL THEN
        answer := (rehome.locate($1 COLLATE "default", $2 COLLATE "default", rehome.strip_prefix($1 COLLATE "default"))).moved;
    END IF;
    RETURN coalesce(answer, $2);
END $$;

-- resolve does the same and counts the access at the alias. The alias's row
-- stays locked until the caller's transaction ends: long ones use current_path.
CREATE FUNCTION rehome.resolve(memory text, path text) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    name text COLLATE "default" := memory; -- as in current_path
    given text COLLATE "default" := path;
    moved text COLLATE "default" := rehome.current_path(name, given);
    used text COLLATE "default" := given;
BEGIN
    IF moved IS DISTINCT FROM given THEN
        PERFORM FROM rehome.version_aliases a WHERE a.memory = name AND a.original_path = given AND a.current_path = moved;
        IF NOT FOUND THEN
            SELECT l.original INTO used FROM rehome.locate(name, given, rehome.strip_prefix(name)) l;
        END IF;
        UPDATE rehome.version_aliases a SET access_count = a.access_count + 1, last_accessed_at = clock_timestamp()
        WHERE a.memory = name AND a.original_path = used;
    END IF;
    RETURN moved;
END $$;

-- touch counts the use of chunks, once for each time an id is given.
CREATE FUNCTION rehome.touch(memory text, chunk_ids text[]) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM rehome.strip_prefix($1);
    -- In the order of ids, so that two callers never wait for each other.
    INSERT INTO rehome.chunk_access AS c (memory, chunk_id, last_accessed_at, access_count)
    SELECT $1, id, clock_timestamp(), count(*) FROM unnest($2) AS id WHERE id IS NOT NULL GROUP BY id ORDER BY id COLLATE "C"
    ON CONFLICT ON CONSTRAINT chunk_access_pkey DO UPDATE
    SET last_accessed_at = greatest(c.last_accessed_at, excluded.last_accessed_at),
        access_count = c.access_count + excluded.access_count;
END $$;

-- refer records that a referrer uses a chunk.
CREATE FUNCTION rehome.refer(memory text, chunk_id text, referrer text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM rehome.strip_prefix($1);
    INSERT INTO rehome.chunk_references AS r (memory, chunk_id, referrer, last_referenced_at, reference_count)
    VALUES ($1, $2, $3, clock_timestamp(), 1)
    ON CONFLICT ON CONSTRAINT chunk_references_pkey DO UPDATE
    SET last_referenced_at = greatest(r.last_referenced_at, excluded.last_referenced_at),
        reference_count = r.reference_count + 1;
END $$;

-- A file that is seen at a path ends the alias of that path.
CREATE FUNCTION rehome.end_aliases() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM rehome.version_aliases a USING seen f
    WHERE f.gone_at IS NULL AND a.memory = f.memory AND a.original_path = f.path;
    RETURN NULL;
END $$;
CREATE TRIGGER files_seen AFTER INSERT ON rehome.files
    REFERENCING NEW TABLE AS seen FOR EACH STATEMENT EXECUTE FUNCTION rehome.end_aliases();
CREATE TRIGGER files_seen_again AFTER UPDATE ON rehome.files
    REFERENCING NEW TABLE AS seen FOR EACH STATEMENT EXECUTE FUNCTION rehome.end_aliases();

-- add_version appends a path to an alias's history and keeps the newest.
CREATE FUNCTION rehome.add_version(history jsonb, path text, keep integer) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT jsonb_agg(v ORDER BY n)
    FROM jsonb_array_elements(history || jsonb_build_object('path', path, 'at', now())) WITH ORDINALITY AS e (v, n)
    WHERE n > jsonb_array_length(history) + 1 - keep
$$;

-- What a plan does to aliases and catalogue: the row before, whole, and what the
-- plan makes of it. An undo restores the rows that still are what the plan made.
CREATE TABLE rehome.migration_aliases (
    plan_id       text NOT NULL,
    original_path text COLLATE "C" NOT NULL,
    current_path  text COLLATE "C",             -- NULL: the alias ends
    before        jsonb,                        -- NULL: there was none
    PRIMARY KEY (plan_id, original_path)
);
CREATE TABLE rehome.migration_files (
    plan_id  text NOT NULL,
    path     text COLLATE "C" NOT NULL,
    moved_to text COLLATE "C",                  -- where the file that lived here went
    before   jsonb,
    after    jsonb NOT NULL,
    PRIMARY KEY (plan_id, path)
);

CREATE VIEW rehome.aliases AS
    SELECT memory, original_path, current_path, jsonb_array_length(version_history) AS versions,
        access_count, last_accessed_at, metadata, plan_id AS migration_id, created_at, updated_at, expires_at,
        coalesce(expires_at <= now(), false) AS expired
    FROM rehome.version_aliases;

CREATE VIEW rehome.orphans AS
    SELECT o.memory, o.chunk_id, o.file_path, o.kind, o.reason, o.bytes, o.priority,
        o.last_accessed_at, o.access_count, o.first_missing_at, o.last_missing_at, o.missing_scans,
        h.chunk_id IS NOT NULL AS held
    FROM rehome.orphan_chunks o LEFT JOIN rehome.holds h USING (memory, chunk_id);

CREATE VIEW rehome.migrations AS
    SELECT p.plan_id AS migration_id, p.memory, p.strategy, p.kind, p.status, p.undoes, p.moves,
        coalesce(g.last, 0) AS done, p.disagree, p.bytes, p.reason, p.workflow_id, p.created_at, p.finished_at
    FROM rehome.migration_plans p LEFT JOIN rehome.migration_progress g USING (plan_id);

CREATE VIEW rehome.quarantined AS
    SELECT quarantine_id, memory, chunk_id, file_path, reason, run_id, bytes, quarantined_at, retain_until
    FROM rehome.quarantine WHERE restored_at IS NULL;
