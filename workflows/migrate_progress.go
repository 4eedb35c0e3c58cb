package workflows

import (
	"fmt"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"

	"rehome/resilience"
)

// shown is what the progress of a migration remembers, from run to run too.
type shown struct {
	Estimate resilience.Estimate  `json:"estimate,omitzero"`
	Risk     resilience.Risk      `json:"risk,omitzero"`
	Tempo    resilience.Tempo     `json:"tempo,omitzero"`
	At       resilience.Watermark `json:"at,omitzero"`
	Hold     *hold                `json:"hold,omitempty"`

	idle time.Duration // of pauses that ended since the last slice did
}

// hold is a pause: who asked for it, nobody when the plan did itself, and why.
type hold struct {
	By     string    `json:"by,omitempty"`
	Reason string    `json:"reason,omitempty"`
	Since  time.Time `json:"since"`
}

// teller is a manner that has something to say of itself, such as the gates
// that hold it and the decisions it took. It says so whenever the progress is
// shown, and may have it shown with tell.
type teller interface{ facts() []Fact }

// know takes note of what planning found out.
func (m *migration) know(ctx workflow.Context, plan resilience.Plan) error {
	m.shown.Estimate, m.shown.Risk = plan.Estimate, plan.Risk
	return showRisk(ctx, plan.Risk.Level)
}

// hold shows that the plan is paused, unless it goes back by now.
func (m *migration) hold(ctx workflow.Context, o Order) {
	if m.phase == undoing {
		return
	}
	m.shown.Hold = &hold{By: o.Author, Reason: o.Reason, Since: workflow.Now(ctx)}
	m.tell(ctx)
	m.mark(ctx)
}

// release shows that it is not any more.
func (m *migration) release(ctx workflow.Context) {
	if h := m.shown.Hold; h != nil {
		since := h.Since
		now := workflow.Now(ctx)
		if since.Before(m.began) || since.After(now) { // the run before was paused, or the clock was put back
			since = m.began
		}
		m.shown.idle += now.Sub(since)
		m.shown.Hold = nil
		m.tell(ctx)
		m.mark(ctx)
	}
}

// show takes note of how far a slice came, and tells.
func (m *migration) show(ctx workflow.Context, at resilience.Watermark) {
	now := workflow.Now(ctx)
	if m.beganAt >= 0 {
		rows := max(at.Last-m.beganAt, m.beganAt-at.Last)
		m.shown.Tempo.Add(rows, now.Sub(m.began)-m.shown.idle)
	}
	m.began, m.beganAt, m.shown.At, m.shown.idle = now, at.Last, at, 0
	m.tell(ctx)
}

// tell says how far the moves are, how fast they go, when they will end, and
// what they wait for.
func (m *migration) tell(ctx workflow.Context) {
	at, words := m.shown.At, m.doing()
	left := at.Total - at.Last
	if m.phase == undoing {
		left = at.Last
	}
	var facts []Fact
	if h := m.shown.Hold; h != nil {
		words = "Paused"
		if m.backing {
			words = "Paused, and putting the group in work back"
		}
		facts = append(facts, Fact{"Paused", h.String()})
	}
	facts = append(facts, Fact{"Drifted", fmt.Sprint(at.Drifted)}, Fact{"Vanished", fmt.Sprint(at.Vanished)})
	facts = append(facts, m.shown.pace(workflow.Now(ctx), left)...)
	m.progress.set(ctx, Progress{Phase: words, Done: at.Last, Total: at.Total, Unit: "chunks", Facts: append(facts, m.facts()...)})
}

// facts are what its strategy has to say, if anything.
func (m *migration) facts() []Fact {
	if t, ok := m.manner.(teller); ok {
		return t.facts()
	}
	return nil
}

// doing says what the plan is at, while it has effects.
func (m *migration) doing() string {
	switch {
	case m.phase == switching && m.carrying != nil:
		return "Letting references lead to where the chunks are"
	case m.phase == switching:
		return "Letting the old paths lead to the new ones"
	case m.phase == completing:
		return "Accounting for every row"
	case m.phase == undoing && m.carrying != nil:
		return "Undoing: the chunks go back to their memory"
	case m.phase == undoing:
		return "Moving chunks back"
	case m.retiring():
		return "Taking the source rows out of their memory"
	case m.carrying != nil:
		return "Copying chunks"
	}
	return "Moving chunks"
}

// tellWait says for whom the plan waits in the queue, and what it will do then.
func (m *migration) tellWait(ctx workflow.Context, words string, w resilience.Wait) {
	at := m.shown.At
	m.progress.set(ctx, Progress{
		Phase: words, Done: at.Last, Total: at.Total, Unit: "chunks",
		Facts: append([]Fact{{"Waits for", w.String()}}, m.shown.risk()...),
	})
}

// pace says how fast it goes and when the left rows will be done.
func (s shown) pace(now time.Time, left int64) []Fact {
	var facts []Fact
	if rate := s.Tempo.Rate(); rate > 0 {
		words := fmt.Sprintf("%.3g chunks a second", rate)
		if rate >= 100 {
			words = fmt.Sprintf("%.0f chunks a second", rate)
		}
		if s.At.Rate > 0 {
			words += fmt.Sprintf(", of at most %g", s.At.Rate)
		}
		facts = append(facts, Fact{"Rate", words})
	}
	eta, ok := s.Estimate.Rest(left, s.At.Total, s.Tempo, s.Hold != nil)
	if !ok || left == 0 {
		return facts
	}
	when := func(rest time.Duration) string {
		lasts := resilience.Spell(rest.Milliseconds())
		if eta.Frozen {
			return lasts + " after it goes on"
		}
		return fmt.Sprintf("in %s, at %s", lasts, moment(now.Add(rest)))
	}
	return append(facts, Fact{"ETA p50", when(eta.P50)}, Fact{"ETA p90", when(eta.P90)})
}

// String says who holds the plan, since when, and why.
func (h hold) String() string {
	text := "since " + moment(h.Since)
	if h.By != "" {
		text = "by " + h.By + " " + text
	}
	if h.Reason != "" {
		text += ": " + h.Reason
	}
	return text
}

// risk says how much, and why.
func (s shown) risk() []Fact {
	facts := []Fact{}
	if s.Risk.Level != "" {
		facts = append(facts, Fact{"Risk", fmt.Sprintf("%s, %d of 100: %s", s.Risk.Level, s.Risk.Score, strings.Join(s.Risk.Reasons, "; "))})
	}
	if s.Estimate.P50MS > 0 {
		facts = append(facts, Fact{"Estimate", fmt.Sprintf("%s, at most %s in 9 of 10 runs; %s", resilience.Spell(s.Estimate.P50MS), resilience.Spell(s.Estimate.P90MS), s.Estimate.Basis)})
	}
	for _, w := range s.Estimate.Ways {
		if w.Taken {
			facts = append(facts, Fact{"Way", fmt.Sprintf("%s, about %s: %s", w.Way, resilience.Spell(w.MS), w.Note)})
		} else if w.Closed == "" {
			facts = append(facts, Fact{"Or", fmt.Sprintf("%s, about %s: %s", w.Way, resilience.Spell(w.MS), w.Note)})
		}
	}
	return facts
}

// result reads the plan as it stands.
func (m *migration) result(ctx workflow.Context) (resilience.Plan, error) {
	var plan resilience.Plan
	err := workflow.ExecuteActivity(brief(ctx, "Read the plan"), database.ReadMigration, m.named(Order{})).Get(ctx, &plan)
	if err != nil {
		return plan, err
	}
	facts := append(stayFacts(plan.Stayed), Fact{"Drifted", fmt.Sprint(plan.Drifted)}, Fact{"Vanished", fmt.Sprint(plan.Vanished)})
	if plan.ApplyMS > 0 {
		words := resilience.Spell(plan.ApplyMS)
		if plan.EstimateMS > 0 {
			words += ", estimated " + resilience.Spell(plan.EstimateMS)
		}
		facts = append(facts, Fact{"Moving took", words})
	}
	if plan.Reason != "" {
		facts = append(facts, Fact{"Reason", plan.Reason})
	}
	m.progress.set(ctx, Progress{Phase: "Ended: " + string(plan.Status), Done: plan.Moved + plan.Stayed, Total: plan.Moves, Unit: "chunks", Facts: facts})
	return plan, nil
}

// moment is a time as people read it.
func moment(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// stayFacts says how many rows stay where they are, if any do.
func stayFacts(rows int64) []Fact {
	if rows == 0 {
		return nil
	}
	return []Fact{{"Stay, answered by rehome.current_path", fmt.Sprint(rows)}}
}
