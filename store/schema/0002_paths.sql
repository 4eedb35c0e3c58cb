-- The canonicaliser, as SQL sees it: what corpus.Clean accepts, this finds.

-- path_rest returns the part of a locator's text that is relative to the root,
-- as it is written, or NULL when the text names no file of the tree: empty, a
-- URL, absolute outside the prefix, or with ., .. or empty components.
CREATE FUNCTION rehome.path_rest(raw text, prefix text) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    rest text := raw;
    probe text;
BEGIN
    IF raw IS NULL THEN
        RETURN NULL;
    ELSIF prefix <> '' AND starts_with(raw, prefix) THEN
        rest := substr(raw, length(prefix) + 1);
    ELSIF strpos(raw, '://') > 0 THEN
        RETURN NULL;
    ELSIF starts_with(raw, './') THEN
        rest := substr(raw, 3);
    END IF;
    probe := '/' || rest || '/';
    IF strpos(probe, '//') > 0 OR strpos(probe, '/../') > 0 OR strpos(probe, '/./') > 0 THEN
        RETURN NULL;
    END IF;
    RETURN rest;
END $$;

-- path_key returns the canonical key of a locator's text, or NULL as path_rest does.
CREATE FUNCTION rehome.path_key(raw text, prefix text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT normalize(rehome.path_rest(raw, prefix), NFC)
$$;

-- path_prefixes returns a path and the directories above it, longest first.
CREATE FUNCTION rehome.path_prefixes(path text) RETURNS text[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    found text[] := ARRAY[path];
    dir text := path;
BEGIN
    WHILE strpos(dir, '/') > 0 LOOP
        dir := left(dir, -strpos(reverse(dir), '/'));
        found := found || dir;
    END LOOP;
    RETURN found;
END $$;

-- json_put replaces the value at a path of keys in a json document and keeps
-- the order and the spelling of everything else, which a cast to jsonb loses.
CREATE FUNCTION rehome.json_put(document json, keys text[], put text) RETURNS json
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    IF cardinality(keys) = 0 THEN
        RETURN to_json(put);
    END IF;
    RETURN (
        SELECT ('{' || string_agg(to_json(e.key)::text || ': ' || CASE
                    WHEN e.key = keys[1] THEN rehome.json_put(e.value, keys[2:], put)::text
                    ELSE e.value::text END, ', ' ORDER BY e.place) || '}')::json
        FROM json_each(document) WITH ORDINALITY AS e (key, value, place));
END $$;
