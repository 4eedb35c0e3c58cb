package store_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"rehome/resilience"
	"rehome/store"
)

// TestChunksThatBreakACheckAreRefusedBeforeAnythingMoves, by its name, what it says, how
// many there are and one of them.
func TestChunksThatBreakACheckAreRefusedBeforeAnythingMoves(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		target string
		breaks int // chunks, of 6
		says   string
	}{
		"a text":                        {`ADD CONSTRAINT polite CHECK (body NOT LIKE '%@rude%')`, 1, `CHECK polite, (body !~~ '%@rude%'::text), chunk 2 of guide/a.md for one`},
		"of which old rows were spared": {`ADD CONSTRAINT polite CHECK (body NOT LIKE '%@rude%') NOT VALID`, 1, "CHECK polite"},
		"that compares as its column":   {`ALTER body TYPE text COLLATE "C", ADD CONSTRAINT late CHECK (body > 'a')`, 1, "CHECK late"},
		"a path in a document":          {`ADD CONSTRAINT places CHECK (meta #>> '{loc,source}' NOT LIKE '/srv/guide/b%')`, 3, "CHECK places"},
		"a scope":                       {`ADD CONSTRAINT teams CHECK (team = 'red') NOT VALID`, 6, "CHECK teams"},
		"an embedding":                  {`ADD CONSTRAINT pairs CHECK (cardinality(vec) <> 2)`, 1, "CHECK pairs"},
		"a default":                     {`ADD rank int DEFAULT 3, ADD CONSTRAINT ranks CHECK (rank > 3)`, 6, "CHECK ranks"},
		"a default of another type":     {`ADD CONSTRAINT seen CHECK (seen > 0)`, 6, "CHECK seen"},
		"a text by default":             {`ADD lang text DEFAULT 'it''s', ADD CONSTRAINT lang CHECK (lang = 'en')`, 6, "CHECK lang"},
		"no default":                    {`ADD rank int, ADD CONSTRAINT ranks CHECK (rank IS NOT NULL)`, 6, "CHECK ranks"},
		"two of them":                   {`ADD rank int DEFAULT 3, ADD CONSTRAINT either CHECK (rank > 3 OR body NOT LIKE '%@rude%')`, 1, "CHECK either"},
		"one that holds":                {`ADD rank int, ADD CHECK (length(body) > 2), ADD CHECK (rank > 3), ADD CHECK (team = 'blue' AND meta ? 'loc')`, 0, ""},
		"a default that is made":        {`ADD made date DEFAULT now(), ADD CHECK (made < '2000-01-01')`, 0, ""},
		"an id":                         {`ADD CHECK (id::text = '')`, 0, ""},
		"a whole row":                   {`ADD CHECK (notes IS NULL)`, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMigrations(t, resilience.BuiltinMapping("docs"))
			m.memory("notes", notes(m, "uuid", "DEFAULT gen_random_uuid()"))
			m.fill(3, "guide/a.md", "guide/b.md", "zoo.md")
			m.exec(`UPDATE rehome.chunks SET embedding = CASE WHEN id = 5 THEN '{1,2}'::real[] END, content = CASE id WHEN 2 THEN 'b@rude' WHEN 3 THEN 'Zoo' ELSE 'quiet' END`)
			m.exec(`ALTER TABLE public.notes ` + c.target)
			start := m.tables()
			id, err := m.transfer("docs", "", resilience.TransferOrder{To: "notes", Prefix: "guide"})
			require.Equal(t, start, m.tables())
			if c.breaks == 0 {
				require.NoError(t, err)
				require.Empty(t, m.recheck(id))
				return
			}
			require.ErrorIs(t, err, store.ErrUnfit)
			require.ErrorContains(t, err, fmt.Sprintf(": %d chunks break its ", c.breaks))
			require.ErrorContains(t, err, c.says)
		})
	}
}

// TestATriggerMayGiveWhatACheckWants: nobody knows what it makes of a default.
func TestATriggerMayGiveWhatACheckWants(t *testing.T) {
	t.Parallel()
	m := newMigrations(t, resilience.BuiltinMapping("docs"))
	m.memory("notes", notes(m, "uuid", "DEFAULT gen_random_uuid()"))
	m.exec(`ALTER TABLE public.notes ADD rank int, ADD CHECK (rank IS NOT NULL)`)
	m.exec(`CREATE FUNCTION public.ranks() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.rank := 1; RETURN NEW; END $$;
		CREATE TRIGGER ranks BEFORE INSERT ON public.notes FOR EACH ROW EXECUTE FUNCTION public.ranks()`)
	m.fill(5, "guide/a.md")
	id, err := m.transfer("docs", "", resilience.TransferOrder{To: "notes"})
	require.NoError(t, err)
	m.apply(id, -1)
	require.EqualValues(t, 5, m.finish(id).Moved)
}

// TestACheckThatCameLateIsFound, when the plan is looked at again.
func TestACheckThatCameLateIsFound(t *testing.T) {
	t.Parallel()
	m, id := toNotes(t, 5)
	m.exec(`ALTER TABLE public.notes ADD CONSTRAINT never CHECK (team <> 'blue')`)
	require.Equal(t, "memory notes cannot take them: 5 chunks break its CHECK never, (team <> 'blue'::text), chunk 1 of guide/a.md for one. Mend these rows or that table, or leave them out by --prefix. Nothing was moved", m.recheck(id))
}
