//go:build race

package main

// mostMemory of a list of moves in MiB: the race detector keeps a shadow of
// several times the memory.
const mostMemory int64 = 128 * 5
