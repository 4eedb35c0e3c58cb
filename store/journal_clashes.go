package store

import "fmt"

// clashes finds, of the files that a query lists with their path_id, key, target_key
// and new_path, those whose targets hold chunks that are not of this plan: at them,
// above or below, or in look-alikes. Two files of a memory that look alike already
// may do so where they go; those of another memory never were side by side.
func (j *journal) clashes(fold folder, files string) string {
	apart := "was <> other_fold"
	if j.transfer != nil {
		apart = "true"
	}
	return fmt.Sprintf(`going AS MATERIALIZED (
			SELECT g.*, %[1]s AS fold, %[2]s AS was FROM (%[4]s) g),
		others AS MATERIALIZED (
			SELECT raw, key, %[2]s AS fold FROM (%[5]s) o WHERE key IS NOT NULL),
		`+meeting("going", "g.*, o.raw, o.key AS other, o.fold AS other_fold")+`,
		judged AS (
			SELECT *, raw = new_path OR starts_with(target_key, other || '/') OR starts_with(other, target_key || '/') AS same FROM met),
		clashes AS (
			SELECT DISTINCT ON (key, path_id) path_id, CASE WHEN same THEN 'target_taken' ELSE 'lookalike' END AS kind, key AS source, target_key AS target, other
			FROM judged WHERE same OR %[3]s ORDER BY key, path_id, same DESC, other)`,
		fold("target_key"), fold("key"), apart, files, j.others())
}

// meeting joins the files g that go somewhere to the others o that are there, above
// that, or below it, as far as their folds say.
func meeting(going, columns string) string {
	return fmt.Sprintf(`met AS (
			SELECT %[2]s
			FROM %[1]s g CROSS JOIN LATERAL unnest(rehome.path_prefixes(g.fold)) AS way (path) JOIN others o ON o.fold = way.path
			UNION ALL
			SELECT %[2]s
			FROM others o CROSS JOIN LATERAL unnest(rehome.path_prefixes(o.fold)) AS way (path) JOIN %[1]s g ON g.fold = way.path)`, going, columns)
}

// others lists where chunks are that are not of this plan, where its targets lie.
func (j *journal) others() string {
	if t := j.transfer; t != nil {
		return fmt.Sprintf(`
			SELECT CASE WHEN rest IS NULL THEN raw ELSE @to_prefix || rest END AS raw, coalesce(`+keyOf("rest")+`, raw) COLLATE "C" AS key
			FROM (
				SELECT raw, rehome.path_rest(raw, @to_prefix) AS rest
				FROM (SELECT DISTINCT %s AS raw FROM %s t WHERE %s AND NOT EXISTS (
					SELECT FROM rehome.migration_copies c WHERE c.plan = @number AND c.target_id = %s)) d
				OFFSET 0) r`,
			t.targetPath(), t.to.name(), t.targetScope(), t.to.id())
	}
	t := j.table
	return fmt.Sprintf(`
			SELECT raw, rehome.path_key(raw, @prefix) COLLATE "C" AS key
			FROM (SELECT DISTINCT %s AS raw FROM %s t WHERE %s AND NOT EXISTS (
				SELECT FROM rehome.migration_moves m WHERE m.plan = @number AND m.chunk_id = %s)) r`,
		t.path(), t.name(), t.scope(), t.id())
}
