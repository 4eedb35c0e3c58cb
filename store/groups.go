package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"rehome/resilience"
)

// Journalled is what a look at the rest of a plan's journal found.
type Journalled struct {
	Directories []resilience.Directory
	Settled     bool // the order of the rows has to stay: some leave a place that others take, or the plan was begun, or undoes another
	Late        bool // the plan is queued or was begun
	Undoing     bool // it puts back what another moved
}

// Grouping decides on the groups of a plan by what its journal has.
type Grouping func(Journalled) []resilience.Group

// Group splits the rest of a plan's journal into groups as decide says, orders
// the rows by them, and the hash with them where that changes the order, and records
// the groups, and, when it is to rebuild its indexes, the rollback plan of that. A plan that has
// its groups keeps them. It returns them in the order in which they run.
func (s *Store) Group(ctx context.Context, plan string, rebuilding []string, decide Grouping) ([]resilience.Group, error) {
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		j, err := openJournal(ctx, tx, plan)
		if err != nil {
			return err
		}
		if j.strategy != resilience.Intelligent {
			return problem(ErrFenced, "migration %s goes on by %s, which has no groups; see `starter migration show %s`", plan, j.strategy, plan)
		}
		var grouped bool
		if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM rehome.migration_groups WHERE plan_id = $1)`, plan).Scan(&grouped); err != nil || grouped {
			return err
		}
		return j.group(ctx, rebuilding, decide)
	})
	if err != nil {
		return nil, fmt.Errorf("group the journal of plan %s: %w", plan, err)
	}
	return s.Groups(ctx, plan)
}

// chained says whether some rows of a plan take the places that others leave.
const chained = `EXISTS (
			SELECT FROM rehome.migration_paths leaves JOIN rehome.migration_paths takes ON takes.new_key = leaves.old_key
			WHERE leaves.plan_id = @plan AND takes.plan_id = @plan)`

func (j *journal) group(ctx context.Context, rebuilding []string, decide Grouping) error {
	var found Journalled
	var last int64
	err := j.tx.QueryRow(ctx, `
		SELECT g.last, p.status <> 'pending', p.status NOT IN ('pending', 'queued') OR NOT @copies AND `+chained+`
		FROM rehome.migration_plans p JOIN rehome.migration_progress g USING (plan_id) WHERE plan_id = @plan`, j.args(pgx.NamedArgs{"copies": j.transfer != nil})).
		Scan(&last, &found.Late, &found.Settled)
	if err != nil {
		return err
	}
	found.Undoing = j.undoes != ""
	found.Settled = found.Settled || found.Undoing
	if found.Directories, err = j.directories(ctx, last, found.Settled); err != nil {
		return err
	}
	groups := decide(found)
	if len(groups) > 1 || inTurns(groups) {
		if err := j.arrange(ctx, groups); err != nil {
			return err
		}
	}
	return j.recordGroups(ctx, last, groups, rebuilding)
}

// mostDirectories is how many directories are looked at one by one: of more, the
// smallest are taken together.
const mostDirectories = 2000

// directory is the name of what a path of a plan is counted under: the first
// directory below what is asked to move, what lies right in it, or, where that is
// a single file, that file's directory; of a URL its host.
const directory = `CASE
	WHEN p.old_key = p.asked THEN coalesce(nullif(regexp_replace(p.asked, '/?[^/]*$', ''), ''), '.')
	WHEN p.below ~ '^[^/]+://' THEN substring(p.below FROM '^[^/]+://[^/]*')
	WHEN strpos(p.below, '/') > 0 THEN concat_ws('/', nullif(p.asked, ''), split_part(p.below, '/', 1))
	ELSE coalesce(nullif(p.asked, ''), '.') END`

// asked are the paths of a plan with what was asked to move, and what of them is below
// that: of a rename its old path, and of a transfer its prefix, or all of a memory.
func (j *journal) asked() string {
	asked, from := "r.old_path", "rehome.migration_paths p JOIN rehome.migration_renames r ON r.plan_id = p.plan_id AND r.ordinal = p.rule"
	if j.transfer != nil {
		asked, from = "@only::text", "rehome.migration_paths p"
	}
	return fmt.Sprintf(`(
			SELECT p.path_id, p.old_key, %[1]s AS asked, CASE WHEN %[1]s = '' THEN p.old_key ELSE substr(p.old_key, length(%[1]s) + 2) END AS below
			FROM %[2]s WHERE p.plan_id = @plan) p`, asked, from)
}

// directories sums up the rows after the watermark by directory; all in one
// when whole is set.
func (j *journal) directories(ctx context.Context, last int64, whole bool) ([]resilience.Directory, error) {
	name := directory
	if whole {
		name = `'all chunks'`
	}
	rows, err := j.tx.Query(ctx, fmt.Sprintf(`
		WITH named AS MATERIALIZED (
			SELECT p.path_id, %s COLLATE "C" AS name FROM %s),
		summed AS (
			SELECT n.name, sum(m.left) AS rows, round(sum(m.bytes::float8 * m.left / cardinality(m.chunk_ids))) AS bytes
			FROM (SELECT *, last - greatest(first - 1, @last) AS left FROM rehome.migration_runs WHERE plan = @number AND last > @last) m
			JOIN named n USING (path_id) GROUP BY n.name),
		used AS (
			SELECT n.name, sum(%s) AS uses, max(%s) AS used
			FROM rehome.migration_moves m JOIN named n USING (path_id) %s
			WHERE m.plan = @number AND m.ordinal > @last GROUP BY n.name),
		ranked AS (SELECT *, row_number() OVER (ORDER BY rows DESC, name) <= @most AS large FROM summed LEFT JOIN used USING (name))
		SELECT CASE WHEN large THEN name ELSE 'the smallest directories' END, sum(rows)::bigint, coalesce(sum(bytes), 0)::bigint,
			coalesce(sum(uses), 0)::bigint, CASE WHEN max(used) IS NOT NULL THEN greatest(now() - max(used), interval '0') END, large
		FROM ranked GROUP BY 1, large ORDER BY 1`, name, j.asked(), j.table.uses(), j.table.accessed(), j.table.withAccess()),
		j.args(pgx.NamedArgs{"last": last, "most": mostDirectories}))
	if err != nil {
		return nil, err
	}
	var directories []resilience.Directory
	var d resilience.Directory
	var idle *time.Duration
	var large bool
	_, err = pgx.ForEachRow(rows, []any{&d.Name, &d.Rows, &d.Bytes, &d.Uses, &idle, &large}, func() error {
		d.Idle, d.Rest = idle, !large
		directories = append(directories, d)
		return nil
	})
	return directories, err
}

// withAccess joins what is known of the use of the chunks m: where only rehome counts
// it, of those that were used, which are few or none.
func (t table) withAccess() string {
	const counted = "JOIN rehome.chunk_access a ON a.memory = @memory AND a.chunk_id = m.chunk_id"
	if t.m.Accessed == "" && t.m.AccessCount == "" {
		return counted
	}
	return fmt.Sprintf("LEFT JOIN %s t ON %s AND %s LEFT %s", t.name(), t.hasID("m.chunk_id"), t.scope(), counted)
}

// inTurns reports whether rows of a page are moved in turns.
func inTurns(groups []resilience.Group) bool {
	return slices.ContainsFunc(groups, func(g resilience.Group) bool { return g.Way == resilience.Turns })
}

// wholeRuns are those of the journal, each in its group.
const wholeRuns = `SELECT p.position, 0 AS turn, m.last, m.path_id, m.bytes, m.chunk_ids FROM taken m JOIN placed p USING (path_id)`

// runsInTurns numbers the rows of a page, for each group anew, and takes those of
// a run together that have the same number. Where they lie may have changed by the
// time they move: then fewer find room, and nothing else.
func (t table) runsInTurns() string {
	return fmt.Sprintf(`
			SELECT position, turn, last, path_id, max(bytes) * count(*) / max(of) AS bytes, array_agg(chunk_id ORDER BY ordinal) AS chunk_ids
			FROM (
				SELECT m.*, row_number() OVER (PARTITION BY position, t.tableoid, (t.ctid::text::point)[0] ORDER BY t.ctid) AS turn
				FROM (
					SELECT p.position, m.last, m.path_id, m.bytes, cardinality(m.chunk_ids) AS of, generate_series(m.first, m.last) AS ordinal, unnest(m.chunk_ids) AS chunk_id
					FROM taken m JOIN placed p USING (path_id)) m
				LEFT JOIN %s t ON %s AND %s) m
			GROUP BY position, turn, last, path_id`, t.name(), t.hasID("m.chunk_id"), t.scope())
}

// placed says in which group the rows of a path are.
func (j *journal) placed() string {
	return `
	placed AS MATERIALIZED (
		SELECT p.path_id, coalesce(g.position, @others::integer) AS position
		FROM ` + j.asked() + `
		LEFT JOIN unnest(@names::text[], @positions::integer[]) g (name, position) ON g.name = ` + directory + `)`
}

// arrange puts the rows of the journal into the order of the groups, and within
// one leaves them in the order they had. Where they have it already, as they do
// when no directory is warmer than those before it, it writes nothing.
func (j *journal) arrange(ctx context.Context, groups []resilience.Group) error {
	var names []string
	var positions []int
	others := len(groups)
	for _, g := range groups {
		if g.Rest {
			others = g.Position
		}
		for _, m := range g.Members {
			names, positions = append(names, m), append(positions, g.Position)
		}
	}
	args := j.args(pgx.NamedArgs{"names": names, "positions": positions, "others": others})
	var rows int64
	var arranged bool
	var err error
	if !inTurns(groups) {
		rows, arranged, err = j.arranged(ctx, args)
	}
	if err == nil && !arranged {
		rows, err = j.renumber(ctx, groups, args)
	}
	if err == nil && (rows != j.total || rows != groups[len(groups)-1].Until) {
		err = problem(ErrVerify, "the groups of %s hold %d rows, and its journal %d of %d: others changed its journal (rehome.migration_runs) while it was planned; nothing has moved, so plan it again",
			j.plan, groups[len(groups)-1].Until, rows, j.total)
	}
	return err
}

// arranged counts the rows, and reports whether they are in the order of the groups.
func (j *journal) arranged(ctx context.Context, args pgx.NamedArgs) (rows int64, arranged bool, err error) {
	err = j.tx.QueryRow(ctx, `
		WITH `+j.placed()+`
		SELECT coalesce(sum(rows), 0)::bigint, coalesce(bool_and(position >= before), true) FROM (
			SELECT m.last - m.first + 1 AS rows, p.position, lag(p.position, 1, 0) OVER (ORDER BY m.last) AS before
			FROM rehome.migration_runs m JOIN placed p USING (path_id) WHERE m.plan = @number) m`, args).Scan(&rows, &arranged)
	return rows, arranged, err
}

// renumber writes the journal anew in the order of the groups, which the plan's hash
// takes in.
func (j *journal) renumber(ctx context.Context, groups []resilience.Group, args pgx.NamedArgs) (rows int64, err error) {
	runs := wholeRuns
	if inTurns(groups) {
		runs = j.table.runsInTurns()
	}
	rows, err = j.rewrite(ctx, j.placed(), runs, "position, turn, last", args)
	if err == nil {
		err = j.rehash(ctx)
	}
	return rows, err
}

// rehash takes the new order of the journal into the plan's hash.
func (j *journal) rehash(ctx context.Context) error {
	hash, digest, err := j.hash(ctx)
	if err == nil {
		_, err = j.tx.Exec(ctx, `
			UPDATE rehome.migration_plans SET plan_hash = $2, approved_hash = `+approvedStill("$2")+`, journal = $3 WHERE plan_id = $1`, j.plan, hash, digest)
	}
	return err
}

// recordGroups stores the groups, whose rows come after the last one that is
// done, and what the plan is by them.
func (j *journal) recordGroups(ctx context.Context, last int64, groups []resilience.Group, rebuilding []string) error {
	batch := &pgx.Batch{}
	for _, g := range groups {
		g.Until += last
		batch.Queue(`
			INSERT INTO rehome.migration_groups (plan_id, position, name, until, rows, way, decision) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
			j.plan, g.Position, g.Name, g.Until, g.Rows, g.Way, g)
	}
	if err := j.tx.SendBatch(ctx, batch).Close(); err != nil {
		return err
	}
	way := resilience.PlanWay(groups)
	decided := event{Plan: j.plan, What: "decided", Detail: fmt.Sprintf("%d groups, by %s", len(groups), way)}
	if err := recordEvent(ctx, j.tx, decided); err != nil {
		return err
	}
	_, err := j.tx.Exec(ctx, `
		UPDATE rehome.migration_plans
		SET way = @way, rollback = CASE WHEN @way = 'rebuild' THEN @rebuilding::text[] ELSE rollback END, planning_ms = planning_ms + (extract(epoch FROM clock_timestamp() - now()) * 1000)::bigint
		WHERE plan_id = @plan`, j.args(pgx.NamedArgs{"way": way, "rebuilding": rebuilding}))
	return err
}

// Groups lists the groups of a plan in the order in which they run; a plan of
// another strategy has none.
func (s *Store) Groups(ctx context.Context, plan string) ([]resilience.Group, error) {
	rows, err := s.pool.Query(ctx, `
		SELECT decision || jsonb_build_object('until', until, 'course', course) FROM rehome.migration_groups WHERE plan_id = $1 ORDER BY position`, plan)
	if err != nil {
		return nil, fmt.Errorf("read the groups of %s: %w", plan, interpret(err))
	}
	groups, err := pgx.CollectRows(rows, pgx.RowTo[resilience.Group])
	if err != nil {
		return nil, fmt.Errorf("read the groups of %s: %w", plan, interpret(err))
	}
	return groups, nil
}

// Course returns how the batches of the group go that the row after the
// watermark belongs to, and the ordinal of the group's last row: 0 where there is
// no such group or nothing is to be adapted.
func (s *Store) Course(ctx context.Context, plan string, after int64) (course resilience.Course, until int64, err error) {
	var group resilience.Group
	var size int
	err = s.pool.QueryRow(ctx, `
		SELECT decision || jsonb_build_object('until', until, 'course', course), batch_size
		FROM rehome.migration_groups JOIN rehome.migration_progress USING (plan_id)
		WHERE plan_id = $1 AND until > $2 ORDER BY position LIMIT 1`, plan, after).Scan(&group, &size)
	if errors.Is(err, pgx.ErrNoRows) || err == nil && group.TargetMS == 0 {
		return course, 0, nil
	}
	if err != nil {
		return course, 0, fmt.Errorf("read how the group of %s after row %d goes: %w", plan, after, interpret(err))
	}
	if group.Course != nil {
		return *group.Course, group.Until, nil
	}
	return group.Start(size), group.Until, nil
}

// Steer records how the batches of the group go on that the rows before the
// watermark belong to, and what changed.
func (s *Store) Steer(ctx context.Context, plan string, from int64, course resilience.Course, changes []string) error {
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `
			UPDATE rehome.migration_groups SET course = $3
			WHERE plan_id = $1 AND position = (SELECT min(position) FROM rehome.migration_groups WHERE plan_id = $1 AND until > $2)`,
			plan, from, course)
		for _, c := range changes {
			if err == nil {
				err = recordEvent(ctx, tx, event{Plan: plan, What: "batch size", Detail: c})
			}
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("record how the batches of %s go: %w", plan, err)
	}
	return nil
}
