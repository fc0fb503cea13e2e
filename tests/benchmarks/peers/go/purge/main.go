// Purges as a purger in Go sends them: workers with a kept connection each, one request a round trip.
//
//	purge METHOD HOST:PORT PREFIX COUNT NAME WORKERS
//
// It prints purges per second, CPU seconds and peak memory as JSON; nothing is tracked, saved or tried again.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

type connection struct {
	socket net.Conn
	reader *bufio.Reader
}

func main() {
	method, address, prefix, name := os.Args[1], os.Args[2], os.Args[3], os.Args[5]
	count, err := strconv.Atoi(os.Args[4])
	fail(err)
	workers, err := strconv.Atoi(os.Args[6])
	fail(err)
	paths := make(chan string, 4096)
	var all sync.WaitGroup
	began := time.Now()
	for range make([]struct{}, workers) {
		all.Add(1)
		go func() {
			defer all.Done()
			work(method, address, paths)
		}()
	}
	for number := 0; number < count; number++ {
		paths <- fmt.Sprintf("%s/%s/%d.jpg", prefix, name, number)
	}
	close(paths)
	all.Wait()
	took := time.Since(began).Seconds()
	var used syscall.Rusage
	fail(syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	cpu := time.Duration(used.Utime.Nano() + used.Stime.Nano()).Seconds()
	fail(json.NewEncoder(os.Stdout).Encode(map[string]float64{
		"value": float64(count) / took, "cpu_s": cpu, "peak_rss_bytes": peak(),
	}))
}

func work(method string, address string, paths <-chan string) {
	var open *connection
	for path := range paths {
		if open == nil {
			socket, err := net.Dial("tcp", address)
			fail(err)
			open = &connection{socket, bufio.NewReader(socket)}
		}
		_, err := fmt.Fprintf(open.socket, "%s %s HTTP/1.1\r\nHost: img.example.com\r\nUser-Agent: bench\r\n\r\n", method, path)
		fail(err)
		if !open.answered() {
			open.socket.Close()
			open = nil
		}
	}
}

// answered reads one answer whole and tells whether the connection is kept.
func (open *connection) answered() bool {
	line, err := open.reader.ReadString('\n')
	fail(err)
	if len(line) < 12 || (line[9:12] != "200" && line[9:12] != "404" && line[9:12] != "412") {
		fail(fmt.Errorf("answered %q", line))
	}
	length, kept := int64(0), true
	for {
		line, err = open.reader.ReadString('\n')
		fail(err)
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			break
		}
		header, value, _ := strings.Cut(line, ":")
		switch strings.ToLower(header) {
		case "content-length":
			length, err = strconv.ParseInt(strings.TrimSpace(value), 10, 64)
			fail(err)
		case "connection":
			kept = !strings.EqualFold(strings.TrimSpace(value), "close")
		}
	}
	_, err = io.CopyN(io.Discard, open.reader, length)
	fail(err)
	return kept
}

// peak is the most memory that was resident, in bytes; Maxrss has the parent's, from before exec.
func peak() float64 {
	status, err := os.ReadFile("/proc/self/status")
	fail(err)
	var kilobytes float64
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	_, err = fmt.Sscan(rest, &kilobytes)
	fail(err)
	return kilobytes * 1024
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
