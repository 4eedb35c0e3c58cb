package workflows

import (
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"rehome/activities"
	"rehome/resilience"
)

// Nil receivers that give activities their names.
var (
	database *activities.Database
	files    *activities.Files
)

// registered is the one list of workflows.
var registered = map[string]any{
	CleanupName:                         Cleanup,
	IngestName:                          Ingest,
	MigrateName(resilience.Batch):       MigrateBatch,
	MigrateName(resilience.Gradual):     MigrateGradual,
	MigrateName(resilience.Immediate):   MigrateImmediate,
	MigrateName(resilience.Intelligent): MigrateIntelligent,
	RollbackName:                        Rollback,
	ScanName:                            OrphanScan,
}

// Register adds every workflow under its name.
func Register(r worker.WorkflowRegistry) {
	for name, run := range registered {
		r.RegisterWorkflowWithOptions(run, workflow.RegisterOptions{Name: name})
	}
}
