// Package resilience is the domain of rehome: memories and their mappings,
// chunks, aliases, orphans, plans, and the rules that decide about them.
//
// It is pure. It does no I/O, reads no clock, and imports nothing of this
// module, so every rule can be tested as a table.
package resilience
