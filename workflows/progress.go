package workflows

import (
	"fmt"
	"strings"

	"go.temporal.io/sdk/workflow"
)

// Progress is what a running workflow says of itself: to the command line by
// the query progress, to people in the web UI as a table.
type Progress struct {
	Phase string `json:"phase"`           // in words: "Moving chunks"
	Done  int64  `json:"done"`            // units done of this phase
	Total int64  `json:"total,omitempty"` // zero: not known
	Unit  string `json:"unit,omitempty"`  // rows, files …
	Facts []Fact `json:"facts,omitempty"` // more lines of the table
}

// Fact is a named figure, in words.
type Fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// progress keeps the last Progress and shows it.
type progress struct {
	title   string
	last    Progress
	beneath func() string // more Markdown, under the table; nil: nothing
}

// showProgress answers the query progress and titles the table in the web UI.
func showProgress(ctx workflow.Context, title string) (*progress, error) {
	p := &progress{title: title}
	err := workflow.SetQueryHandlerWithOptions(ctx, ProgressQuery, func() (Progress, error) { return p.last, nil },
		workflow.QueryHandlerOptions{Description: "How far the work has come"})
	return p, err
}

// set replaces what is shown.
func (p *progress) set(ctx workflow.Context, now Progress) {
	p.last = now
	workflow.SetCurrentDetails(ctx, p.markdown())
}

// cell keeps what people wrote from breaking the table.
var cell = strings.NewReplacer("|", `\|`, "\r\n", " ", "\n", " ", "\r", " ")

func (p *progress) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "**%s**\n\n| | |\n|---|---|\n| Phase | %s |\n", p.title, cell.Replace(p.last.Phase))
	switch {
	case p.last.Total > 0:
		fmt.Fprintf(&b, "| Done | %d of %d %s (%.1f %%) |\n", p.last.Done, p.last.Total, p.last.Unit, 100*float64(p.last.Done)/float64(p.last.Total))
	case p.last.Done > 0:
		fmt.Fprintf(&b, "| Done | %d %s |\n", p.last.Done, p.last.Unit)
	}
	for _, f := range p.last.Facts {
		if f.Value == "0" || f.Value == "" {
			continue // nothing to look at
		}
		fmt.Fprintf(&b, "| %s | %s |\n", f.Name, cell.Replace(f.Value))
	}
	if p.beneath != nil {
		b.WriteString(p.beneath())
	}
	return b.String()
}
