package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"rehome/resilience"
)

// showPlan writes a migration as it stands.
func (s *session) showPlan(p resilience.Plan) error {
	return s.show(p, func(w io.Writer) { planRows(w, p) })
}

// planRows shows a migration: what it is, what it was expected to be, and how
// far it came.
func planRows(w io.Writer, p resilience.Plan) {
	row(w, "migration", p.ID)
	row(w, "memory", p.Memory)
	transferRows(w, p)
	row(w, "status", p.Status)
	if p.Reason != "" {
		row(w, "reason", p.Reason)
	}
	if p.Undoes != "" {
		row(w, "undoes", p.Undoes)
	}
	if p.UndoneBy != "" {
		row(w, "undone by", p.UndoneBy)
	}
	row(w, "strategy", fmt.Sprintf("%s, %s", p.Strategy, paceLine(p)))
	if t := p.Throttle; t != nil {
		row(w, "throttled", throttleLine(*t))
	}
	chunks := fmt.Sprintf("%d planned, %d moved, %d drifted, %d vanished", p.Moves, p.Moved, p.Drifted, p.Vanished)
	if p.Disagree > 0 {
		chunks += fmt.Sprintf(", %d left out since their paths disagree", p.Disagree)
	}
	row(w, "chunks", chunks)
	if p.Stayed > 0 {
		row(w, "stay", fmt.Sprintf("%d chunks keep their old path; rehome.current_path answers for them", p.Stayed))
	}
	if p.Tied > 0 && p.Strategy != resilience.Immediate {
		row(w, "together", fmt.Sprintf("%d chunks of files that change places go in transactions of their own size", p.Tied))
	}
	if p.Conflicts > 0 {
		row(w, "conflicts", p.Conflicts)
	}
	row(w, "text", size(p.Bytes))
	assessmentRows(w, p)
	row(w, "took", fmt.Sprintf("%s, of it planning %s and moving %s", resilience.Spell(p.DurationMS), resilience.Spell(p.PlanningMS), resilience.Spell(p.ApplyMS)))
	row(w, "workflow", p.WorkflowID)
}

// paceLine says how much moves at a time; some strategies find that out by themselves.
func paceLine(p resilience.Plan) string {
	pace := resilience.Pace{Rate: &p.Policy.Rate}
	switch p.Strategy {
	case resilience.Immediate:
		return "all in one transaction"
	case resilience.Gradual, resilience.Intelligent:
		line := pace.String() + ", batches by the time they take"
		if p.Strategy == resilience.Gradual && p.Policy.Sized {
			line += fmt.Sprintf(", of at most %d rows", p.Policy.BatchSize)
		}
		return line
	case resilience.Batch:
		pace.BatchSize = &p.Policy.BatchSize
	}
	return pace.String()
}

// throttleLine says until when what people asked for is in force.
func throttleLine(t resilience.Throttle) string {
	until := func(end *time.Time) string {
		if end == nil {
			return ", for good"
		}
		return ", until " + moment(*end)
	}
	rate, size := until(t.Until), until(t.BatchUntil)
	switch {
	case t.BatchSize == nil:
		return t.String() + rate
	case t.Rate == nil || rate == size:
		return t.String() + size
	}
	return resilience.Pace{Rate: t.Rate}.String() + rate + "; " + resilience.Pace{BatchSize: t.BatchSize}.String() + size
}

// assessmentRows shows what planning found out, once it has.
func assessmentRows(w io.Writer, p resilience.Plan) {
	if p.Risk.Level == "" {
		return
	}
	if p.Transfer == nil {
		row(w, "table", physicsLine(p.Physics))
	} else {
		row(w, "table", arrivalLine(p.Physics))
	}
	wayRows(w, p)
	row(w, "estimate", fmt.Sprintf("%s, in 9 of 10 cases within %s (%s)", resilience.Spell(p.Estimate.P50MS), resilience.Spell(p.Estimate.P90MS), p.Estimate.Basis))
	row(w, "risk", fmt.Sprintf("%s, %d of 100", p.Risk.Level, p.Risk.Score))
	for _, reason := range p.Risk.Reasons {
		row(w, "", reason)
	}
	rollbackRows(w, p)
	switch {
	case p.Approval != nil && p.Approval.Hash == p.Hash:
		row(w, "approved", fmt.Sprintf("by %s, %s", p.Approval.By, moment(p.Approval.At)))
	case p.Status == resilience.AwaitingApproval:
		row(w, "approval", fmt.Sprintf("wanted for plan hash %s: `starter migration approve %s`", p.Hash, p.ID))
	}
}

// physicsLine says what an update of the table's paths touches.
func physicsLine(p resilience.Physics) string {
	line := fmt.Sprintf("about %d rows of %s; ", p.Rows, size(p.RowBytes))
	switch p.Class() {
	case resilience.HOTClass:
		return line + "an update touches no index"
	case resilience.VectorClass:
		line += "an update indexes the embedding again in " + strings.Join(p.VectorIndexes, ", ")
	case resilience.GINClass:
		line += "an update goes again into " + p.GINs()
	case resilience.PlainClass:
		line += "an update touches b-trees only"
	}
	if in := p.PathIn(); in != "" && !(p.Class() == resilience.GINClass && strings.HasPrefix(in, "inside")) { // that is said already
		return line + ", since the path is " + in
	}
	if p.HOTShare > 0 {
		return line + fmt.Sprintf(", but for the %.0f %% of rows whose pages have room", 100*p.HOTShare)
	}
	return line
}

// rollbackRows shows what puts a plan back, in the order in which it would be done.
// What is over is undone by a plan of its own.
func rollbackRows(w io.Writer, p resilience.Plan) {
	if p.Status.Ended() {
		return
	}
	name := "rollback"
	for i, step := range p.Steps {
		row(w, name, fmt.Sprintf("%d. %s", i+1, step))
		name = ""
	}
}
