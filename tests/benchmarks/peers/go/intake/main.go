// The peer of the intake figure in Go: net/http on one proc, which parses a task and keeps it in a map.
//
//	intake ADDRESS
package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"sync"
)

type task struct {
	Targets []string `json:"targets"`
	Nodes   []string `json:"nodes"`
}

type accepted struct {
	TaskID string `json:"task_id"`
	State  string `json:"state"`
	Total  int    `json:"total"`
}

func main() {
	runtime.GOMAXPROCS(1)
	var lock sync.Mutex
	tasks := map[string]task{}
	http.HandleFunc("/v1/engine/task", func(answer http.ResponseWriter, request *http.Request) {
		var one task
		if err := json.NewDecoder(request.Body).Decode(&one); err != nil {
			http.Error(answer, err.Error(), http.StatusUnprocessableEntity)
			return
		}
		lock.Lock()
		id := strconv.Itoa(len(tasks))
		tasks[id] = one
		lock.Unlock()
		answer.Header().Set("Content-Type", "application/json")
		answer.WriteHeader(http.StatusAccepted)
		_ = json.NewEncoder(answer).Encode(accepted{id, "accepted", len(one.Targets)})
	})
	fmt.Fprintln(os.Stderr, http.ListenAndServe(os.Args[1], nil))
	os.Exit(1)
}
