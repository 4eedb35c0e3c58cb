package main

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"go.temporal.io/sdk/client"

	"rehome/resilience"
	"rehome/workflows"
)

// display is a progress bar on a terminal; nothing anywhere else.
type display struct {
	session *session
	phase   string
	bar     *progressbar.ProgressBar
}

func (s *session) display() *display { return &display{session: s} }

// update shows how far the run has come.
func (d *display) update(ctx context.Context, t task, run client.WorkflowRun) {
	if d.session.json || !isTerminal(d.session.err) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	now, err := d.session.moves(ctx, t.migration)
	if err != nil {
		now, err = d.session.ask(ctx, run)
	}
	if err == nil { // else it has not begun, or its worker is busy; the next look may tell
		d.show(now)
	}
}

// ask queries the run.
func (s *session) ask(ctx context.Context, run client.WorkflowRun) (workflows.Progress, error) {
	var now workflows.Progress
	answer, err := s.engine.QueryWorkflow(ctx, run.GetID(), run.GetRunID(), workflows.ProgressQuery)
	if err != nil {
		return now, err
	}
	return now, answer.Get(&now)
}

// moves reads how far a migration is from its watermark, which is fresh after
// each batch; the run itself knows after each slice.
func (s *session) moves(ctx context.Context, plan string) (workflows.Progress, error) {
	at, err := s.data.Watermark(ctx, plan)
	if err != nil {
		return workflows.Progress{}, err
	}
	now := workflows.Progress{Phase: "Moving chunks", Done: at.Last, Total: at.Total, Unit: "chunks"}
	switch at.Wish {
	case resilience.WishUndo:
		now.Phase, now.Done = "Moving chunks back", at.Total-at.Last
	case resilience.WishPause:
		now.Phase = "Paused"
	}
	return now, nil
}

// show draws the progress; a new phase gets a bar of its own.
func (d *display) show(now workflows.Progress) {
	if now.Phase == "" {
		return
	}
	total := now.Total
	if total <= 0 {
		total = -1 // a spinner
	}
	if d.bar == nil || d.phase != now.Phase || d.bar.GetMax64() != total {
		d.close()
		d.phase = now.Phase
		// Without a rate: what is done was not all done since the bar was begun.
		d.bar = progressbar.NewOptions64(total,
			progressbar.OptionSetWriter(d.session.err),
			progressbar.OptionSetDescription(now.Phase),
			progressbar.OptionShowCount(),
			progressbar.OptionSetWidth(30),
			progressbar.OptionClearOnFinish(),
			progressbar.OptionSetSpinnerChangeInterval(0), // drawn at each look; its own routine would race with close
		)
	}
	_ = d.bar.Set64(now.Done) // a terminal that cannot be written to is no reason to stop
}

func (d *display) close() {
	if d.bar != nil {
		_ = d.bar.Clear()
		d.bar = nil
	}
}

// link is the address of a run in the web UI, empty when that is not known.
func (s *session) link(id, run string) string {
	if s.site.ui == "" {
		return ""
	}
	return fmt.Sprintf("%s/namespaces/%s/workflows/%s/%s/history", strings.TrimRight(s.site.ui, "/"), url.PathEscape(s.site.namespace), url.PathEscape(id), run)
}

// at puts the link, when there is one, behind a sentence.
func (s *session) at(id, run string) string {
	if link := s.link(id, run); link != "" {
		return " at " + link
	}
	return ""
}
