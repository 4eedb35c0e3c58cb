// Package workflows orders the activities. It is deterministic: no clock, no
// database, no file; only ids, cursors and counts pass through it.
//
//	ingest         reads the root into a builtin memory
//	orphan-scan    finds chunks whose source is gone
//	cleanup        moves confirmed orphans to quarantine
//	migrate-batch  lets chunks follow their files, batch by batch
//	rollback       undoes a finished migration, or the rest of one that was terminated
//
// A migration answers the updates pause, resume, throttle and abort, and the
// query progress. Its plan goes through the states of resilience.Status; every
// step that has an effect registers its compensation first (see saga.go).
package workflows
