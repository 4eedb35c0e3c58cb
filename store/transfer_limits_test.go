package store_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
	"rehome/store"
)

// TestChunksThatTheTargetWouldRefuseAreNamedBeforeAnythingMoves: what refuses them, how many
// there are and one of them. Where the plan is made, they all arrive.
func TestChunksThatTheTargetWouldRefuseAreNamedBeforeAnythingMoves(t *testing.T) {
	t.Parallel()
	const there = `; INSERT INTO public.notes (id, body, meta, team) VALUES (gen_random_uuid(), 'Quiet 2', '{}', 'red'), (gen_random_uuid(), 'else', '{}', 'red')`
	const texts = `CREATE TABLE public.texts AS SELECT 'quiet ' || i AS body, i AS number FROM generate_series(1, 5) i; ALTER TABLE public.texts ADD PRIMARY KEY (body), ADD UNIQUE (body, number); `
	for name, c := range map[string]struct {
		target string
		breaks int // chunks, of 6 in two files: quiet 1 to 3, twice; -1: some
		says   string
	}{
		"a unique text":                   {`CREATE UNIQUE INDEX one ON public.notes (body, (meta #>> '{loc,source}'))` + there, 0, ``},
		"a unique text, twice among them": {`CREATE UNIQUE INDEX one ON public.notes (body)` + there, 6, `6 chunks meet each other in its unique index one (body), chunk 1 of guide/a.md for one`},
		"a unique expression":             {`CREATE UNIQUE INDEX one ON public.notes (lower(body), (meta #>> '{loc,source}') COLLATE "C")` + there, 0, ``},
		"one that a row has":              {`CREATE UNIQUE INDEX one ON public.notes (lower(body), (meta #>> '{loc,x}')) NULLS NOT DISTINCT` + there, 2, `2 chunks meet rows that are there in its unique index one (lower(body), (meta #>> '{loc,x}'::text[])), chunk 2 of guide/a.md for one`},
		"NULLs, which are not the same":   {`CREATE UNIQUE INDEX one ON public.notes (lower(body), (meta #>> '{loc,x}'))` + there, 0, ``},
		"unique where it says so":         {`CREATE UNIQUE INDEX one ON public.notes (body) WHERE body = 'quiet 3'`, 2, `unique index one (body)`},
		"unique elsewhere":                {`CREATE UNIQUE INDEX one ON public.notes (team) WHERE team <> 'blue'`, 0, ``},
		"unique by a default":             {`ALTER TABLE public.notes ADD rank int DEFAULT 3 UNIQUE`, 6, `notes_rank_key (rank)`},
		"unique by what is generated":     {`ALTER TABLE public.notes ADD print text GENERATED ALWAYS AS (md5(upper(body))) STORED UNIQUE`, 6, `notes_print_key (print)`},
		"unique by a number that is made": {`ALTER TABLE public.notes ADD rank serial UNIQUE`, 0, ``},
		"unique with the id":              {`CREATE UNIQUE INDEX one ON public.notes (id, body)`, 0, ``},
		"alike by a collation":            {`CREATE COLLATION public.loose (provider = icu, locale = 'und-u-ks-level1', deterministic = false); CREATE UNIQUE INDEX one ON public.notes (body COLLATE public.loose, (meta #>> '{loc,x}')) NULLS NOT DISTINCT` + there, 2, `2 chunks meet rows that are there in its unique index one`},
		"an exclusion":                    {`ALTER TABLE public.notes ADD CONSTRAINT apart EXCLUDE (body WITH =) WHERE (team = 'blue')`, 6, `its exclusion apart (body)`},
		"an exclusion by what overlaps":   {`ALTER TABLE public.notes ADD area int4range DEFAULT '[1,5)', ADD CONSTRAINT apart EXCLUDE USING gist (area WITH &&) WHERE (body <> 'x'); INSERT INTO public.notes (id, body, meta, team) VALUES (gen_random_uuid(), 'there', '{}', 'red')`, 6, `meet rows that are there in its exclusion apart (area)`},
		"a foreign key":                   {texts + `DELETE FROM public.texts WHERE body = 'quiet 3'; ALTER TABLE public.notes ADD CONSTRAINT known FOREIGN KEY (body) REFERENCES public.texts`, 2, `2 chunks point to no row of texts by its foreign key known, chunk 3 of guide/a.md for one`},
		"a foreign key that waits":        {texts + `DELETE FROM public.texts WHERE body = 'quiet 3'; ALTER TABLE public.notes ADD CONSTRAINT known FOREIGN KEY (body) REFERENCES public.texts DEFERRABLE INITIALLY DEFERRED`, 2, `foreign key known`},
		"a foreign key that holds":        {texts + `ALTER TABLE public.notes ADD CONSTRAINT known FOREIGN KEY (body) REFERENCES public.texts`, 0, ``},
		"a foreign key of NULLs":          {texts + `ALTER TABLE public.notes ADD number int, ADD CONSTRAINT known FOREIGN KEY (body, number) REFERENCES public.texts (body, number)`, 0, ``},
		"a foreign key that wants all":    {texts + `ALTER TABLE public.notes ADD number int, ADD CONSTRAINT known FOREIGN KEY (body, number) REFERENCES public.texts (body, number) MATCH FULL`, 6, `foreign key known`},
		"a foreign key that is off":       {texts + `DELETE FROM public.texts; ALTER TABLE public.notes ADD CONSTRAINT known FOREIGN KEY (body) REFERENCES public.texts; ALTER TABLE public.notes DISABLE TRIGGER ALL`, 0, ``},
		"a foreign key to parts": {`CREATE TABLE public.texts (body text PRIMARY KEY) PARTITION BY LIST (body); CREATE TABLE public.texts_1 PARTITION OF public.texts FOR VALUES IN ('quiet 1'); CREATE TABLE public.texts_2 PARTITION OF public.texts DEFAULT;
			INSERT INTO public.texts SELECT 'quiet ' || i FROM generate_series(1, 3) i; ALTER TABLE public.notes ADD CONSTRAINT known FOREIGN KEY (body) REFERENCES public.texts`, 0, ``},
		"a foreign key in another collation": {`CREATE TABLE public.texts (body text COLLATE "C" PRIMARY KEY); INSERT INTO public.texts SELECT 'quiet ' || i FROM generate_series(1, 2) i; ALTER TABLE public.notes ADD CONSTRAINT known FOREIGN KEY (body) REFERENCES public.texts`, 2, `foreign key known`},
		"a trigger that makes what is pointed to": {`CREATE TABLE public.texts (body text PRIMARY KEY); ALTER TABLE public.notes ADD CONSTRAINT known FOREIGN KEY (body) REFERENCES public.texts; CREATE FUNCTION public.make() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.texts VALUES (NEW.body) ON CONFLICT DO NOTHING; RETURN NEW; END $$;
			CREATE TRIGGER make BEFORE INSERT ON public.notes FOR EACH ROW EXECUTE FUNCTION public.make()`, 0, ``},
		"generated as another type":            {`ALTER TABLE public.notes ADD half int GENERATED ALWAYS AS (length(body) / 2.1) STORED, ADD CHECK (half IN (3))`, 0, ``},
		"a count that a trigger sets":          {`ALTER TABLE public.notes ADD CHECK (seen > 3); CREATE FUNCTION public.see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.seen := 7; RETURN NEW; END $$; CREATE TRIGGER see BEFORE INSERT ON public.notes FOR EACH ROW EXECUTE FUNCTION public.see()`, 0, ``},
		"unique with the id beside":            {`CREATE UNIQUE INDEX one ON public.notes (body) INCLUDE (id)`, 6, `unique index one (body)`},
		"an exclusion by an equality and more": {`ALTER TABLE public.notes ADD area int4range DEFAULT '[1,5)', ADD span int4range DEFAULT '[1,9)', ADD CONSTRAINT apart EXCLUDE USING gist (span WITH =, area WITH &&); INSERT INTO public.notes (id, body, meta, team) VALUES (gen_random_uuid(), 'there', '{}', 'blue')`, 6, `meet rows that are there in its exclusion apart (span, area)`},
		"a domain in a collation of its own":   {`CREATE DOMAIN public.rank AS text COLLATE "C" DEFAULT 'B' CHECK (VALUE < 'a'); ALTER TABLE public.notes ADD rank public.rank COLLATE "en-x-icu"`, 0, ``},
		"a domain that wants a value":          {`CREATE DOMAIN public.rank AS int NOT NULL; ALTER TABLE public.notes ADD rank public.rank`, 6, `have no value for its column rank, which must have one`},
		"a domain whose default breaks it":     {`CREATE DOMAIN public.low AS int DEFAULT 3; CREATE DOMAIN public.rank AS public.low CONSTRAINT positive CHECK ((VALUE)::integer > 5); ALTER TABLE public.notes ADD rank public.rank`, 6, `break CHECK positive of rank, ((VALUE)::integer > 5), in its column rank`},
		"a domain that holds":                  {`CREATE DOMAIN public.rank AS int DEFAULT 3 NOT NULL CHECK (VALUE > 2); ALTER TABLE public.notes ADD rank public.rank`, 0, ``},
		"generated from nothing":               {`ALTER TABLE public.notes ADD year text GENERATED ALWAYS AS (meta ->> 'year') STORED NOT NULL`, 6, `have no value for column year, which must have one`},
		"generated from what does not do":      {`ALTER TABLE public.notes ADD year int GENERATED ALWAYS AS (substr(body, 7)::int + (body || 'x')::int) STORED`, -1, `some chunks cannot have column year generated from them: invalid input syntax for type integer: "quiet `},
		"a CHECK that fails":                   {`ALTER TABLE public.notes ADD CONSTRAINT high CHECK (body::int > 0)`, -1, `some chunks cannot be checked by its CHECK high, ((body)::integer > 0): invalid input syntax for type integer: "quiet `},
		"a CHECK of what is generated":         {`ALTER TABLE public.notes ADD long int GENERATED ALWAYS AS (length(body)) STORED, ADD CONSTRAINT short CHECK (long < 7)`, 6, `CHECK short`},
		"a trigger that may mend what it has":  {`ALTER TABLE public.notes ADD rank int DEFAULT 3 UNIQUE; CREATE FUNCTION public.mend() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.rank := NULL; RETURN NEW; END $$; CREATE TRIGGER mend BEFORE INSERT ON public.notes FOR EACH ROW EXECUTE FUNCTION public.mend()`, 0, ``},
	} {
		if testing.Short() && c.breaks == 0 {
			continue // a whole transfer each
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMigrations(t, resilience.BuiltinMapping("docs"))
			if strings.Contains(c.target, "icu") && m.count(`SELECT count(*) FROM pg_collation WHERE collprovider = 'i'`) == 0 {
				t.Skip("the server was built without ICU")
			}
			m.memory("notes", notes(m, "uuid", "DEFAULT gen_random_uuid()"))
			m.limited(c.target, c.breaks, c.says)
		})
	}
}

// limited transfers six chunks to notes, with this done to it.
func (m *migrations) limited(target string, breaks int, says string) {
	m.Helper()
	m.fill(3, "guide/a.md", "guide/b.md", "zoo.md")
	m.exec(`UPDATE rehome.chunks SET embedding = NULL, content = 'quiet ' || ordinal`)
	m.exec(target)
	start := m.tables()
	id, err := m.transfer("docs", "", resilience.TransferOrder{To: "notes", Prefix: "guide"})
	require.Equal(m, start, m.tables())
	if breaks != 0 {
		require.ErrorIs(m, err, store.ErrUnfit)
		require.ErrorContains(m, err, says)
		if breaks > 0 {
			require.ErrorContains(m, err, fmt.Sprintf("%d chunks ", breaks))
		}
		require.ErrorContains(m, err, "Nothing was moved")
		return
	}
	require.NoError(m, err)
	require.Empty(m, m.recheck(id))
	m.apply(id, -1)
	require.Empty(m, m.recheck(id), "its own copies are not in its way")
	require.EqualValues(m, 6, m.finish(id).Moved)
}

// TestWhatPartitionsDoNotTakeIsNamed, of the whole table and of one of them alone.
func TestWhatPartitionsDoNotTakeIsNamed(t *testing.T) {
	t.Parallel()
	const rest = `CREATE TABLE public.rest PARTITION OF public.notes DEFAULT; `
	const texts = `CREATE TABLE public.texts (body text PRIMARY KEY); INSERT INTO public.texts VALUES ('quiet 1'); `
	for name, c := range map[string]struct {
		target string
		breaks int
		says   string
	}{
		"none at all":          {``, 6, `6 chunks have no partition to go to`},
		"one for some":         {`CREATE TABLE public.a PARTITION OF public.notes FOR VALUES FROM ('1') TO ('4')`, 3, `3 chunks have no partition to go to, chunk 4 of guide/b.md for one`},
		"one for the rest":     {rest, 0, ``},
		"parts of a part":      {rest + `CREATE TABLE public.a PARTITION OF public.notes FOR VALUES FROM ('1') TO ('4') PARTITION BY LIST (id); CREATE TABLE public.a1 PARTITION OF public.a FOR VALUES IN ('1')`, 2, `2 chunks have no partition to go to, chunk 2 of guide/a.md for one`},
		"a CHECK of one":       {rest + `ALTER TABLE public.rest ADD CONSTRAINT low CHECK (body <> 'quiet 2')`, 2, `break CHECK low of its partition rest, (body <> 'quiet 2'::text), chunk 2 of guide/a.md for one`},
		"a CHECK of another":   {rest + `CREATE TABLE public.x PARTITION OF public.notes FOR VALUES FROM ('x') TO ('y') ; ALTER TABLE public.x ADD CHECK (body <> 'quiet 2')`, 0, ``},
		"a value for one":      {rest + `ALTER TABLE public.notes ADD lang text; ALTER TABLE public.rest ALTER lang SET NOT NULL`, 6, `have no value for column lang of its partition rest, which must have one`},
		"a unique one of one":  {rest + `CREATE UNIQUE INDEX one ON public.rest (body)`, 6, `unique index one of its partition rest (body)`},
		"a foreign key":        {rest + texts + `ALTER TABLE public.notes ADD CONSTRAINT known FOREIGN KEY (body) REFERENCES public.texts`, 4, `4 chunks point to no row of texts by its foreign key known, chunk 2 of guide/a.md`},
		"a foreign key of one": {rest + texts + `ALTER TABLE public.rest ADD CONSTRAINT known FOREIGN KEY (body) REFERENCES public.texts`, 4, `by its foreign key known of its partition rest, chunk 2 of guide/a.md`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMigrations(t, resilience.BuiltinMapping("docs"))
			mapping := notes(m, "text", "")
			m.exec(`DROP TABLE public.notes; CREATE TABLE public.notes (id text PRIMARY KEY, body text, vec double precision[], meta jsonb, team text, seen int) PARTITION BY RANGE (id)`)
			m.memory("notes", mapping)
			m.limited(c.target, c.breaks, c.says)
		})
	}
}

// TestWhatAPartitionDoesNotTakeIsNamed where the target is one itself.
func TestWhatAPartitionDoesNotTakeIsNamed(t *testing.T) {
	t.Parallel()
	for bound, breaks := range map[string]int{"FROM ('1') TO ('9')": 0, "FROM ('1') TO ('5')": 2} {
		t.Run(bound, func(t *testing.T) {
			t.Parallel()
			m := newMigrations(t, resilience.BuiltinMapping("docs"))
			mapping := notes(m, "text", `COLLATE "C"`)
			m.exec(`CREATE TABLE public.all_notes (LIKE public.notes) PARTITION BY RANGE (id)`)
			m.memory("notes", mapping)
			m.limited(`ALTER TABLE public.all_notes ATTACH PARTITION public.notes FOR VALUES `+bound, breaks, "2 chunks have no partition to go to, chunk 5 of guide/b.md for one")
		})
	}
}

// TestAChunkPointsToOneThatGoesWithIt, by an id that its copy will have, and to no other.
func TestAChunkPointsToOneThatGoesWithIt(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.exec(`ALTER TABLE rehome.chunks ADD parent text`)
	mapping := notes(m, "text", "")
	m.exec(`ALTER TABLE public.notes ADD parent text CONSTRAINT tree REFERENCES public.notes`)
	m.memory("notes", mapping)
	m.fill(3, "guide/a.md", "guide/b.md")
	m.exec(`UPDATE rehome.chunks SET parent = '1', embedding = NULL`)
	_, err := m.transfer("docs", "", resilience.TransferOrder{To: "notes", Prefix: "guide/b.md"})
	require.ErrorIs(t, err, store.ErrUnfit)
	require.ErrorContains(t, err, "3 chunks point to no row of notes by its foreign key tree, chunk 4 of guide/b.md for one")
	id, err := m.transfer("docs", "", resilience.TransferOrder{To: "notes", Prefix: "guide"})
	require.NoError(t, err)
	m.apply(id, -1)
	require.EqualValues(t, 6, m.finish(id).Moved)
}
