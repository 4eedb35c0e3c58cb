package main

import (
	"fmt"
	"io"

	"rehome/resilience"
)

// gateRows says what a plan waits for and since when, which signals are near
// their limit, and which do not apply here.
func gateRows(w io.Writer, gates []resilience.Gate) {
	for _, g := range gates {
		switch g.State {
		case resilience.GateShut:
			row(w, "waits", gateWords(g))
		case resilience.GateNear:
			row(w, "near its limit", gateWords(g))
		case resilience.GateNotAvailable:
			row(w, "not available", fmt.Sprintf("%s: %s", g.Name, g.Detail))
		case resilience.GateOpen:
		}
	}
}

func gateWords(g resilience.Gate) string {
	return fmt.Sprintf("%s, since %s: %s", g.Name, moment(g.Since), g.Detail)
}
