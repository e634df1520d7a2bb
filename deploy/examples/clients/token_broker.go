// Ask Token Broker for access tokens: a client on Go's standard library, to be copied into a program.
//
//	token, err := GetToken(ctx, "directory", "")         // ask for each use: the broker keeps it fresh
//	request.Header.Set("Authorization", token.TokenType+" "+token.AccessToken)
//	token, err = GetToken(ctx, "directory", token.ETag)  // once, when the API answered 401
//
// As a program it prints what kind of token there is, and with --print the token.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	answerTime    = 15 * time.Second // for a whole answer; the broker waits for its server for 10 s
	largestAnswer = 262_144          // bytes; the broker itself reads no larger ones
	longestWait   = 10               // seconds; who is told to come back later than that fails at once
)

// Token is an answer of the broker; members that are not known are left out.
type Token struct {
	AccessToken string `json:"access_token"`
	TokenType   string `json:"token_type"`
	ExpiresIn   int    `json:"expires_in"`
	ETag        string `json:"-"`
}

// BrokerError says why there is no token. Code is the "error" of the broker; "consent_required" is for a
// person, and never retried.
type BrokerError struct{ Code, Text string }

func (e *BrokerError) Error() string { return e.Code + e.Text }

var (
	names     = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)
	transport = &http.Transport{DialContext: dial, DisableKeepAlives: true} // no Proxy: not even of the environment
)

func dial(ctx context.Context, _, _ string) (net.Conn, error) {
	socket := os.Getenv("TOKEN_BROKER_SOCKET")
	if socket == "" {
		socket = "unix:///run/token-broker/api.sock"
	}
	if !strings.HasPrefix(socket, "unix:///") {
		return nil, &BrokerError{"bad_socket", ": TOKEN_BROKER_SOCKET has to be unix:///PATH"}
	}
	path := strings.TrimPrefix(socket, "unix://")
	for attempt := 1; ; attempt++ {
		connection, err := new(net.Dialer).DialContext(ctx, "unix", path)
		absent := errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.EAGAIN)
		if err == nil || !absent {
			return connection, err
		}
		if attempt == 10 {
			return nil, &BrokerError{"unreachable", ": nobody answers at " + path}
		}
		time.Sleep(100 * time.Millisecond) // a broker that restarts is back within a second or so
	}
}

func ask(ctx context.Context, name, rejected string) (*http.Response, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	method, target, body := http.MethodGet, "http://localhost/v1/tokens/"+name, []byte(nil)
	if rejected != "" {
		method, target = http.MethodPost, target+"/refresh"
		body, _ = json.Marshal(map[string]string{"rejected": rejected})
	}
	request, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	if rejected != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	answer, err := transport.RoundTrip(request) // and not a Client, which follows redirects
	if err != nil {
		return nil, nil, err
	}
	defer answer.Body.Close()
	if answer.ContentLength < 0 || answer.ContentLength > largestAnswer {
		return nil, nil, &BrokerError{"answer_too_large", ""}
	}
	text, err := io.ReadAll(answer.Body)
	return answer, text, err
}

// GetToken gives a usable token; rejected is the ETag of one that the API refused, or empty.
func GetToken(ctx context.Context, name, rejected string) (Token, error) {
	if !names.MatchString(name) {
		return Token{}, &BrokerError{"bad_name", `: names have a-z, 0-9, ".", "_" and "-"`}
	}
	for broken, waited := 0, 0; ; {
		answer, text, err := ask(ctx, name, rejected)
		var own *BrokerError
		var timeout net.Error
		switch {
		case err == nil:
		case errors.As(err, &own):
			return Token{}, own
		case ctx.Err() != nil, errors.As(err, &timeout) && timeout.Timeout():
			return Token{}, &BrokerError{"unreachable", ": no answer in time"}
		case broken == 1:
			return Token{}, &BrokerError{"unreachable", ": " + err.Error()}
		default: // it went away before it had answered: once more, and not for ever
			broken++
			continue
		}
		var body struct {
			Token
			Error       string
			Description string `json:"error_description"`
			Hint        string
		}
		if err := json.Unmarshal(text, &body); err != nil {
			return Token{}, &BrokerError{"unreachable", ": no JSON"}
		}
		if answer.StatusCode == http.StatusOK {
			body.ETag = answer.Header.Get("ETag")
			return body.Token, nil
		}
		wait, err := strconv.Atoi(answer.Header.Get("Retry-After"))
		if err != nil || wait < 0 {
			wait = 1
		}
		if (answer.StatusCode == 429 || answer.StatusCode == 503) && waited < 2 && wait <= longestWait {
			waited++ // not now: as long as it says
			time.Sleep(time.Duration(wait) * time.Second)
			continue
		}
		if body.Hint == "" {
			body.Hint = body.Description
		}
		return Token{}, &BrokerError{body.Error, fmt.Sprintf(" (%d): %s", answer.StatusCode, body.Hint)}
	}
}

// token_broker [--print] NAME [ETAG of a rejected token]
func main() {
	words, show := []string{}, false
	for _, word := range os.Args[1:] {
		if word == "--print" {
			show = true
		} else {
			words = append(words, word)
		}
	}
	words = append(words, "", "")
	token, err := GetToken(context.Background(), words[0], words[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "token broker:", err)
		os.Exit(1)
	}
	fmt.Printf("token_type=%s expires_in=%d\n", token.TokenType, token.ExpiresIn)
	if show {
		fmt.Println(token.AccessToken)
	}
}
