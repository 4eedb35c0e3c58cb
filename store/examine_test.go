package store_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"rehome/internal/dev/devtest"
	"rehome/resilience"
	"rehome/store"
)

func locators(t *testing.T, texts ...string) []resilience.Locator {
	t.Helper()
	found := make([]resilience.Locator, len(texts))
	for i, text := range texts {
		var err error
		found[i], err = resilience.ParseLocator(text)
		require.NoError(t, err)
	}
	return found
}

// chunks is the plain table that most cases bend a little.
const chunksTable = `CREATE TABLE chunks (id text PRIMARY KEY, content text, path text, hits integer, at timestamptz)`

func chunksMapping() resilience.Mapping {
	return resilience.Mapping{Table: "chunks", ID: "id", Content: "content", Locators: []resilience.Locator{{Column: "path"}}}
}

func TestExamineCompletesTheMappingsThatPeopleHave(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		setup   string
		mapping resilience.Mapping
		idType  string
		types   []string
	}{
		"Plain": {chunksTable, chunksMapping(), "text", []string{"text"}},
		"LangChain": {
			`
			CREATE TABLE langchain_pg_collection (uuid uuid PRIMARY KEY, name varchar NOT NULL);
			CREATE TABLE langchain_pg_embedding (id varchar PRIMARY KEY, collection_id uuid REFERENCES langchain_pg_collection ON DELETE CASCADE,
				embedding real[], document varchar, cmetadata jsonb)`,
			resilience.Mapping{
				Table: "langchain_pg_embedding", ID: "id", Content: "document", Embedding: "embedding", Metadata: "cmetadata",
				Locators: locators(t, "cmetadata->source"), Scope: []resilience.Scope{{Column: "collection_id", Value: "6ad5c4b2-3a5c-4a0e-8f4e-0d4cbe1f2a3b"}},
			},
			"character varying",
			[]string{"jsonb"},
		},
		"LangChainJS": {
			`CREATE TABLE testlangchainjs (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), text text, metadata jsonb, embedding real[])`,
			resilience.Mapping{Table: "testlangchainjs", ID: "id", Content: "text", Locators: locators(t, "metadata->'source'")},
			"uuid",
			[]string{"jsonb"},
		},
		"LlamaIndex": {
			`CREATE TABLE data_llamaindex (id bigserial PRIMARY KEY, text varchar NOT NULL, metadata_ json, node_id varchar, embedding real[])`,
			resilience.Mapping{Table: "data_llamaindex", ID: "id", Content: "text", Locators: locators(t, "metadata_->>file_path", "metadata_->>doc->>path")},
			"bigint",
			[]string{"json", "json"},
		},
		"AwkwardNames": {
			`CREATE SCHEMA "My ""Schema"; CREATE TABLE "My ""Schema"."Ta.ble; --" ("ID" integer PRIMARY KEY, "we""ird col" text, "Pa th" varchar(10), "Scope'd" text)`,
			resilience.Mapping{
				Schema: `My "Schema`, Table: "Ta.ble; --", ID: "ID", Content: `we"ird col`,
				Locators: []resilience.Locator{{Column: "Pa th"}}, Scope: []resilience.Scope{{Column: "Scope'd", Value: `'; DROP TABLE x --`}},
			},
			"integer",
			[]string{"character varying"},
		},
		"Partitioned": {
			`CREATE TABLE chunks (id smallint PRIMARY KEY, content text, path text) PARTITION BY HASH (id);
			CREATE TABLE chunks_0 PARTITION OF chunks FOR VALUES WITH (MODULUS 1, REMAINDER 0)`, chunksMapping(), "smallint", []string{"text"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := devtest.Pool(t)
			ctx := context.Background()
			_, err := pool.Exec(ctx, "SET search_path = public; "+c.setup)
			require.NoError(t, err)
			got, _, err := store.New(pool).Examine(ctx, c.mapping)
			require.NoError(t, err)
			require.Equal(t, c.idType, got.IDType)
			for i, want := range c.types {
				require.Equal(t, want, got.Locators[i].Type)
				require.Empty(t, c.mapping.Locators[i].Type, "the caller's mapping was changed")
			}
			require.NotEmpty(t, got.Schema)
			paths, err := store.New(pool).SamplePaths(ctx, got, 10)
			require.NoError(t, err)
			require.Empty(t, paths)
		})
	}
}

func TestExamineRefuses(t *testing.T) {
	t.Parallel()
	pool := devtest.Pool(t)
	cases := map[string]struct {
		setup string
		bend  func(*resilience.Mapping)
		kind  error
		say   string // what the message names
	}{
		"NoTable":       {bend: func(m *resilience.Mapping) { m.Table = "chunk" }, kind: store.ErrNotFound, say: "there is chunks"},
		"NoSchema":      {bend: func(m *resilience.Mapping) { m.Schema = "nowhere" }, kind: store.ErrNotFound, say: ".chunks"},
		"NoColumn":      {bend: func(m *resilience.Mapping) { m.Content = "contents" }, kind: store.ErrNotFound, say: `"contents" for the content; there is id, content`},
		"NoContent":     {bend: func(m *resilience.Mapping) { m.Content = "" }, kind: store.ErrNotFound, say: "for the content"},
		"NoPath":        {bend: func(m *resilience.Mapping) { m.Locators = nil }, kind: store.ErrInvalid, say: "no path locator"},
		"PathTwice":     {bend: func(m *resilience.Mapping) { m.Locators = locators(t, "path", "path") }, kind: store.ErrInvalid, say: "given twice"},
		"PathIsID":      {bend: func(m *resilience.Mapping) { m.Locators = locators(t, "id") }, kind: store.ErrUnfit, say: "cannot be the path too"},
		"PathIsNumber":  {bend: func(m *resilience.Mapping) { m.Locators = locators(t, "hits") }, kind: store.ErrUnfit, say: "of type integer; want text"},
		"PathHasNoKeys": {bend: func(m *resilience.Mapping) { m.Locators = locators(t, "path->source") }, kind: store.ErrUnfit, say: "has no keys"},
		"PathIsScope": {
			bend: func(m *resilience.Mapping) { m.Scope = []resilience.Scope{{Column: "path", Value: "a"}} }, kind: store.ErrUnfit, say: "cannot be the path too",
		},
		"PathIsGenerated": {
			setup: `ALTER TABLE chunks ADD made text GENERATED ALWAYS AS (upper(path)) STORED`,
			bend:  func(m *resilience.Mapping) { m.Locators = locators(t, "made") }, kind: store.ErrUnfit, say: "generated",
		},
		"DocumentWithoutKey": {
			setup: `ALTER TABLE chunks ADD meta jsonb`,
			bend:  func(m *resilience.Mapping) { m.Locators = locators(t, "meta") }, kind: store.ErrUnfit, say: "name the key: meta->source",
		},
		"ScopeValue": {
			bend: func(m *resilience.Mapping) { m.Scope = []resilience.Scope{{Column: "hits", Value: "many"}} }, kind: store.ErrUnfit, say: "scope",
		},
		"ScopeCannotBeCompared": {
			setup: `ALTER TABLE chunks ADD meta json`,
			bend:  func(m *resilience.Mapping) { m.Scope = []resilience.Scope{{Column: "meta", Value: "{}"}} }, kind: store.ErrUnfit, say: "scope",
		},
		"AccessedIsText":   {bend: func(m *resilience.Mapping) { m.Accessed = "path" }, kind: store.ErrUnfit, say: "access time column"},
		"AccessCountIsNot": {bend: func(m *resilience.Mapping) { m.AccessCount = "at" }, kind: store.ErrUnfit, say: "access count column"},
		"IDOfOddType": {
			setup: `ALTER TABLE chunks DROP CONSTRAINT %[1]s_pkey; ALTER TABLE chunks ALTER id TYPE numeric USING 1`, kind: store.ErrUnfit, say: "numeric; want one of text",
		},
		"IDNotUnique": {setup: `ALTER TABLE chunks DROP CONSTRAINT %[1]s_pkey`, kind: store.ErrUnfit, say: "not unique by itself"},
		"IDUniqueWithAnother": {
			setup: `ALTER TABLE chunks DROP CONSTRAINT %[1]s_pkey; ALTER TABLE chunks ADD PRIMARY KEY (id, path)`, kind: store.ErrUnfit, say: "not unique by itself",
		},
		"IDUniqueInPart": {
			setup: `ALTER TABLE chunks DROP CONSTRAINT %[1]s_pkey; CREATE UNIQUE INDEX ON chunks (id) WHERE hits > 0`, kind: store.ErrUnfit, say: "not unique by itself",
		},
		"IDNull": {
			setup: `ALTER TABLE chunks DROP CONSTRAINT %[1]s_pkey, ALTER id DROP NOT NULL, ADD UNIQUE (id); INSERT INTO chunks (path) VALUES ('a')`,
			kind:  store.ErrUnfit, say: "holds NULL",
		},
		"View":             {setup: `CREATE VIEW seen AS TABLE chunks`, bend: func(m *resilience.Mapping) { m.Table = "seen" }, kind: store.ErrUnfit, say: "is a view"},
		"MaterializedView": {setup: `CREATE MATERIALIZED VIEW seen AS TABLE chunks`, bend: func(m *resilience.Mapping) { m.Table = "seen" }, kind: store.ErrUnfit, say: "materialized"},
		"Inherited":        {setup: `CREATE TABLE child () INHERITS (chunks)`, kind: store.ErrUnfit, say: "inherit"},
		"RehomesOwn":       {bend: func(m *resilience.Mapping) { m.Schema, m.Table = "rehome", "quarantine" }, kind: store.ErrRefused, say: "rehome's own"},
		"NUL":              {bend: func(m *resilience.Mapping) { m.Table = "a\x00b" }, kind: store.ErrUnfit, say: "examine table"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := context.Background()
			schema := "s_" + fmt.Sprintf("%x", name)
			m := chunksMapping()
			m.Schema = schema
			inSchema(t, pool, schema, chunksTable, fmt.Sprintf(c.setup+"%.0[1]s", "chunks"))
			if c.bend != nil {
				c.bend(&m)
			}
			_, _, err := store.New(pool).Examine(ctx, m)
			require.ErrorIs(t, err, c.kind)
			require.ErrorContains(t, err, c.say)
		})
	}
}

// inSchema runs statements in a new schema.
func inSchema(t *testing.T, pool *pgxpool.Pool, schema string, statements ...string) {
	t.Helper()
	ctx := context.Background()
	require.NoError(t, pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		for _, statement := range append([]string{"CREATE SCHEMA " + schema, "SET LOCAL search_path = " + schema}, statements...) {
			if _, err := tx.Exec(ctx, statement); err != nil {
				return fmt.Errorf("%s: %w", statement, err)
			}
		}
		return nil
	}))
}

func TestExamineSeesWhatSurroundsTheTable(t *testing.T) {
	t.Parallel()
	pool := devtest.Pool(t)
	inSchema(t, pool, "s", `
		CREATE TABLE chunks (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, content text, path text, meta jsonb,
			words tsvector GENERATED ALWAYS AS (to_tsvector('simple', content)) STORED, UNIQUE (path, content))`,
		`CREATE UNIQUE INDEX by_source ON chunks ((meta->>'source'), content)`,
		`CREATE UNIQUE INDEX elsewhere ON chunks (content)`,
		`CREATE TABLE answers (chunk bigint REFERENCES chunks ON DELETE CASCADE)`,
		`CREATE TABLE votes (chunk bigint REFERENCES chunks)`,
		`CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'`,
		`CREATE TRIGGER stamped BEFORE INSERT OR UPDATE ON chunks FOR EACH ROW EXECUTE FUNCTION stamp()`,
		`CREATE TRIGGER asleep BEFORE DELETE ON chunks FOR EACH ROW EXECUTE FUNCTION stamp()`,
		`ALTER TABLE chunks DISABLE TRIGGER asleep`,
		`INSERT INTO chunks (content, path) SELECT i, i FROM generate_series(1, 12) i`,
		`INSERT INTO answers SELECT id FROM chunks`)
	m := chunksMapping()
	m.Schema, m.Locators = "s", locators(t, "path", "meta->source")
	_, around, err := store.New(pool).Examine(context.Background(), m)
	require.NoError(t, err)
	require.Equal(t, []resilience.ForeignKey{
		{Name: "answers_chunk_fkey", Table: "s.answers", OnDelete: "CASCADE", Rows: 12},
		{Name: "votes_chunk_fkey", Table: "s.votes", OnDelete: "NO ACTION"},
	}, around.ForeignKeys)
	require.Equal(t, []resilience.Trigger{{Name: "stamped", Events: []string{"INSERT", "UPDATE"}}}, around.Triggers)
	require.Equal(t, []string{"by_source", "chunks_path_content_key"}, around.UniqueIndexes)
	require.Equal(t, []string{"words"}, around.Generated)
	require.Equal(t, []string{"id"}, around.Identity)
	require.Empty(t, around.MissingRights)
	require.Contains(t, around.CleanupRefusal(), "answers_chunk_fkey")
	require.Contains(t, around.Notes(), "12 rows in s.answers point here (answers_chunk_fkey); their foreign key would CASCADE, so cleanup will refuse.")
}

// A chunk that went could not come back: see Surroundings.CleanupRefusal.
func TestADeferrableConstraintLetsNoChunkGo(t *testing.T) {
	t.Parallel()
	pool := devtest.Pool(t)
	inSchema(t, pool, "s", `
		CREATE TABLE chunks (id bigint PRIMARY KEY, content text, path text, place int, UNIQUE (path, content),
			CONSTRAINT one_place UNIQUE (place) DEFERRABLE,
			CONSTRAINT apart EXCLUDE USING btree (place WITH =) DEFERRABLE INITIALLY DEFERRED)`)
	m := chunksMapping()
	m.Schema = "s"
	_, around, err := store.New(pool).Examine(context.Background(), m)
	require.NoError(t, err)
	require.Equal(t, []string{"apart", "one_place"}, around.Deferrable)
	require.Contains(t, around.CleanupRefusal(), "constraint apart is deferrable")
}

func TestExamineAsARoleWithFewRights(t *testing.T) {
	t.Parallel()
	url := devtest.Database(t)
	pool := devtest.Connect(t, url)
	ctx := context.Background()
	role := roleFor(t, pool)
	inSchema(t, pool, "s", chunksTable, `GRANT USAGE ON SCHEMA s, rehome TO `+role)
	m := chunksMapping()
	m.Schema = "s"
	low := store.New(connectAs(t, url, role))

	_, _, err := low.Examine(ctx, m)
	require.ErrorIs(t, err, store.ErrRights)
	require.ErrorContains(t, err, `SELECT column "id"`)

	_, err = pool.Exec(ctx, `GRANT SELECT ON s.chunks TO `+role)
	require.NoError(t, err)
	_, around, err := low.Examine(ctx, m)
	require.NoError(t, err)
	require.Equal(t, []string{"UPDATE", "DELETE", "INSERT"}, around.MissingRights)
	require.Contains(t, around.CleanupRefusal(), "may not DELETE")

	_, err = pool.Exec(ctx, `ALTER TABLE s.chunks ENABLE ROW LEVEL SECURITY`)
	require.NoError(t, err)
	_, _, err = low.Examine(ctx, m)
	require.ErrorIs(t, err, store.ErrRefused)
	require.ErrorContains(t, err, "row-level security")
	_, _, err = store.New(pool).Examine(ctx, m)
	require.NoError(t, err, "the owner is not held by it")
}

func TestSamplePaths(t *testing.T) {
	t.Parallel()
	pool := devtest.Pool(t)
	inSchema(t, pool, "s", chunksTable,
		`INSERT INTO chunks (id, path, hits) SELECT i, '/srv/docs/f' || i % 300, i % 2 FROM generate_series(1, 3000) i`,
		`INSERT INTO chunks (id, path, hits) VALUES ('null', NULL, 0), ('url', 'https://example.org/a', 0), ('empty', '', 0)`)
	ctx := context.Background()
	m := chunksMapping()
	m.Schema, m.StripPrefix, m.Scope = "s", "/srv/docs/", []resilience.Scope{{Column: "hits", Value: "0"}}
	s := store.New(pool)
	m, _, err := s.Examine(ctx, m)
	require.NoError(t, err)

	all, err := s.SamplePaths(ctx, m, 1000)
	require.NoError(t, err)
	require.Len(t, all, 151)
	require.Contains(t, all, "f2")
	require.NotContains(t, all, "f1", "out of scope")
	require.Contains(t, all, "https://example.org/a", "what is no path counts as not found")

	some, err := s.SamplePaths(ctx, m, 5)
	require.NoError(t, err)
	require.Len(t, some, 5)
	require.Subset(t, all, some)
}
