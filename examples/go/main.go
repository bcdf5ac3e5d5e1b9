// A client in Go over plain NATS: main <address of NATS>.
//
// Commands and queries are requests; there is nothing to install but a client of NATS. A command has a key, so that it can be
// sent again, and a read names the position of the command that it is to see.
package main

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	attempts = 6
	pause    = 200 * time.Millisecond
)

// Problem is a refusal (RFC 9457), which says what is wrong and whether it is the caller's to mend.
type Problem struct {
	Status int    `json:"status"`
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

func (problem *Problem) Error() string {
	return fmt.Sprintf("%d %s: %s", problem.Status, problem.Code, problem.Detail)
}

// Outcome is what an accepted command is answered with.
type Outcome struct {
	Version  uint64 `json:"version"`
	Position uint64 `json:"position"`
	Replayed bool   `json:"replayed"`
}

// Item is a document of a view.
type Item[D any] struct {
	ID       string `json:"id"`
	Version  uint64 `json:"version"`
	Document D      `json:"document"`
}

// Page is a part of a list.
type Page[D any] struct {
	Items []Item[D] `json:"items"`
	Next  *string   `json:"next"`
}

// Headwater sends commands and queries by one connection, and reads what its own commands have written. It is for one goroutine.
type Headwater struct {
	connection *nats.Conn
	token      string
	positions  map[string]string
}

// Command gives a command and returns its outcome. The same key is sent until there is an answer.
func (headwater *Headwater) Command(aggregate, id, command string, fields any) (outcome Outcome, err error) {
	body, err := json.Marshal(fields)
	if err != nil {
		return outcome, err
	}
	headers := nats.Header{"Idempotency-Key": {random()}}
	answer, err := headwater.ask(fmt.Sprintf("cmd.%s.%s.%s", aggregate, id, command), body, headers)
	if err != nil {
		return outcome, err
	}
	if name, position, found := strings.Cut(answer.Header.Get("Headwater-Position"), "@"); found {
		headwater.positions[name] = position
	}
	return outcome, json.Unmarshal(answer.Data, &outcome)
}

// Document reads a document into `into`, as it is after all commands of this client.
func (headwater *Headwater) Document(view, id string, into any) error {
	answer, err := headwater.ask("qry."+view+"."+id, nil, headwater.at())
	if err != nil {
		return err
	}
	return json.Unmarshal(answer.Data, into)
}

// Documents reads a page of a list into `into`.
func (headwater *Headwater) Documents(view string, parameters map[string]any, into any) error {
	body, err := json.Marshal(parameters)
	if err != nil {
		return err
	}
	answer, err := headwater.ask("qry."+view, body, headwater.at())
	if err != nil {
		return err
	}
	return json.Unmarshal(answer.Data, into)
}

func (headwater *Headwater) at() nats.Header {
	var positions []string
	for name, position := range headwater.positions {
		positions = append(positions, name+"@"+position)
	}
	if len(positions) == 0 {
		return nats.Header{}
	}
	return nats.Header{"Headwater-Min-Position": {strings.Join(positions, ", ")}}
}

func (headwater *Headwater) ask(subject string, body []byte, headers nats.Header) (*nats.Msg, error) {
	if headwater.token != "" {
		headers["Authorization"] = []string{"Bearer " + headwater.token}
	}
	var last error
	for attempt := 0; attempt < attempts; attempt++ {
		if attempt > 0 {
			time.Sleep(pause << attempt)
		}
		answer, err := headwater.connection.RequestMsg(&nats.Msg{Subject: subject, Data: body, Header: headers}, 10*time.Second)
		switch {
		case errors.Is(err, nats.ErrNoResponders) || errors.Is(err, nats.ErrTimeout):
			last = err
			continue
		case err != nil:
			return nil, err
		}
		status := answer.Header.Get("Nats-Service-Error-Code")
		if status == "" {
			return answer, nil
		}
		problem := &Problem{}
		if err := json.Unmarshal(answer.Data, problem); err != nil {
			return nil, err
		}
		last = problem
		// It is not known, or not yet: the same request is safe to send again.
		if status != "429" && status != "503" && status != "504" {
			break
		}
	}
	return nil, last
}

func random() string {
	bytes := make([]byte, 16)
	if _, err := rand.Read(bytes); err != nil {
		log.Fatal(err)
	}
	return hex.EncodeToString(bytes)
}

type product struct {
	Name  string `json:"name"`
	Price int64  `json:"price"`
}

func try(headwater *Headwater) error {
	id := "plum-" + random()[:8]
	outcome, err := headwater.Command("product", id, "register", map[string]any{"name": "자두 1kg", "price": 4900, "category": "fruit"})
	if err != nil {
		return err
	}
	fmt.Printf("%s is registered, at version %d\n", id, outcome.Version)
	var read Item[product]
	if err := headwater.Document("product", id, &read); err != nil {
		return err
	}
	fmt.Printf("it costs %d won\n", read.Document.Price)
	if _, err := headwater.Command("product", id, "reprice", map[string]any{"price": 5200}); err != nil {
		return err
	}
	var found Page[product]
	if err := headwater.Documents("product", map[string]any{"q": "자두", "limit": 200}, &found); err != nil {
		return err
	}
	for _, item := range found.Items {
		if item.ID == id {
			fmt.Printf("it is found, and costs %d won\n", item.Document.Price)
		}
	}
	var problem *Problem
	_, err = headwater.Command("product", id, "register", map[string]any{"name": "자두", "price": 1, "category": "fruit"})
	if !errors.As(err, &problem) || problem.Code != "already_registered" {
		return fmt.Errorf("it was not refused as it should be: %w", err)
	}
	fmt.Printf("it is refused: %s\n", problem.Code)
	return nil
}

func main() {
	address := nats.DefaultURL
	if len(os.Args) > 1 {
		address = os.Args[1]
	}
	connection, err := nats.Connect(address)
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	headwater := &Headwater{connection: connection, positions: map[string]string{}}
	if err := try(headwater); err != nil {
		log.Fatal(err)
	}
}
