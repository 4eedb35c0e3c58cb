//go:build !race

package main

// mostMemory of a list of moves in MiB.
const mostMemory int64 = 128
