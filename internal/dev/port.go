package dev

import (
	"fmt"
	"io"
	"net"
	"strconv"
)

// freePort asks the kernel for a port that nobody listens on.
func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("ask for a free port: %w", err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	if err := listener.Close(); err != nil {
		return 0, fmt.Errorf("give the free port back: %w", err)
	}
	return port, nil
}

// choosePort returns preferred when it is free, and else a free one, saying so.
// With no preference it only asks the kernel.
func choosePort(preferred int, purpose string, log io.Writer) (int, error) {
	if preferred != 0 {
		listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(preferred)))
		if err == nil {
			return preferred, listener.Close()
		}
	}
	port, err := freePort()
	if err == nil && preferred != 0 {
		_, _ = fmt.Fprintf(log, "Port %d for %s is busy; using %d\n", preferred, purpose, port)
	}
	return port, err
}
