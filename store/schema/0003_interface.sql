-- What applications call, in any language. A role needs USAGE on schema rehome
-- for the functions and SELECT on a view to read it; functions that write run
-- with the rights of their owner, under a search_path nobody else can set.

-- find_alias looks from a canonical key upwards; the longest prefix with an
-- alias answers, unless an alias leads to a longer one: what was brought there is
-- at home, also below a directory that has an alias itself. (Left to itself the
-- planner plans anew at each call, for the number of directories at hand.)
CREATE FUNCTION rehome.find_alias(in_memory text, key text, OUT original text, OUT target text)
LANGUAGE plpgsql STABLE SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    dirs text[] := rehome.path_prefixes(key);
BEGIN
    SELECT x.original_path, x.current_path INTO original, target
    FROM (
        SELECT a.original_path AS at, a.original_path, a.current_path FROM rehome.version_aliases a
        WHERE a.memory = in_memory AND a.original_path = ANY (dirs) AND (a.expires_at IS NULL OR a.expires_at > now())
        UNION ALL
        SELECT a.current_path, NULL, NULL FROM rehome.version_aliases a
        WHERE a.memory = in_memory AND a.current_path = ANY (dirs)) x
    ORDER BY x.at DESC, x.original_path LIMIT 1; -- of two prefixes the longer one sorts last
END $$;

-- where_is says where the file of a canonical key is now. A file of the
-- catalogue is at home.
CREATE FUNCTION rehome.where_is(in_memory text, in_key text) RETURNS text
LANGUAGE plpgsql STABLE AS $$
DECLARE
    name text COLLATE "default" := in_memory; -- as in current_path
    key text COLLATE "default" := in_key;
    hit record;
BEGIN
    PERFORM FROM rehome.files f WHERE f.memory = name AND f.path = key AND f.gone_at IS NULL;
    IF FOUND THEN
        RETURN key;
    END IF;
    hit := rehome.find_alias(name, key);
    RETURN coalesce(hit.target || substr(key, length(hit.original) + 1), key);
END $$;

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
-- to the root, or in the memory's own form, whose prefix comes back in lead.
CREATE FUNCTION rehome.locate(in_memory text, path text, OUT original text, OUT target text, OUT lead text, OUT rest text)
LANGUAGE plpgsql STABLE AS $$
DECLARE
    relative text := rehome.path_rest(path, rehome.strip_prefix(in_memory));
    key text := normalize(relative, NFC);
    hit record;
BEGIN
    IF key <> path THEN -- as it stands it was looked for already
        PERFORM FROM rehome.files f WHERE f.memory = in_memory AND f.path = key AND f.gone_at IS NULL;
        IF FOUND THEN
            RETURN;
        END IF;
    END IF;
    hit := rehome.find_alias(in_memory, key);
    original := hit.original;
    target := hit.target;
    lead := left(path, length(path) - length(relative));
    rest := CASE relative WHEN key THEN substr(key, length(original) + 1) ELSE rehome.below(relative, original) END;
END $$;

-- current_path says where the file of a path is now, in the form the path was
-- given in; a path without an alias comes back as it is. It writes nothing.
-- Nearly every path has an alias of its own or is a living file, and is answered
-- by its key in an index; a path that has an alias never is a living file.
CREATE FUNCTION rehome.current_path(memory text, path text) RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- A caller's column may have a collation of its own, which would be compared
    -- by, and no index of ours would serve.
    name text COLLATE "default" := memory;
    given text COLLATE "default" := path;
    moved text;
    hit record;
BEGIN
    SELECT a.current_path INTO moved FROM rehome.version_aliases a
    WHERE a.memory = name AND a.original_path = given AND (a.expires_at IS NULL OR a.expires_at > now());
    IF FOUND THEN
        RETURN moved;
    END IF;
    PERFORM FROM rehome.files f WHERE f.memory = name AND f.path = given AND f.gone_at IS NULL;
    IF FOUND THEN
        RETURN given;
    END IF;
    hit := rehome.locate(name, given);
    RETURN coalesce(hit.lead || hit.target || hit.rest, given);
END $$;

-- resolve does the same and counts the access at the alias. The alias's row
-- stays locked until the caller's transaction ends: long ones use current_path.
CREATE FUNCTION rehome.resolve(memory text, path text) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    name text COLLATE "default" := memory; -- as in current_path
    given text COLLATE "default" := path;
    moved text := rehome.current_path(name, given);
    used text := given;
BEGIN
    IF moved IS DISTINCT FROM given THEN
        PERFORM FROM rehome.version_aliases a WHERE a.memory = name AND a.original_path = given AND a.current_path = moved;
        IF NOT FOUND THEN
            SELECT l.original INTO used FROM rehome.locate(name, given) l;
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
    SELECT $1, id, clock_timestamp(), count(*) FROM unnest($2) AS id WHERE id IS NOT NULL GROUP BY id ORDER BY id
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
