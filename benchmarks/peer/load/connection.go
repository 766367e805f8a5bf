package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"time"
)

const (
	answerTimeout = 30 * time.Second
	// Long enough that a server that is gone costs no processor, short enough that one that is back is found.
	pauseAfterError = 50 * time.Millisecond
	serialDigits    = 12
)

// connection sends the same request over one kept connection, each time with another uid.
type connection struct {
	host     string
	settings *tls.Config
	request  []byte // head and body
	serial   []byte // the last digits of the uid, within request
	uid      []byte // the uid, within request
	next     uint64

	stream *tls.Conn
	reader *bufio.Reader
	answer []byte

	latencies  []time.Duration
	errors     int
	firstError error
}

// newConnection prepares the request; the connection is opened with the first one that is sent.
func newConnection(address string, body []byte, settings *tls.Config, index int) (*connection, error) {
	target, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	var review struct {
		Request struct {
			UID string `json:"uid"`
		} `json:"request"`
	}
	if err := json.Unmarshal(body, &review); err != nil {
		return nil, fmt.Errorf("the body is no AdmissionReview: %w", err)
	}
	uid := review.Request.UID
	place := bytes.Index(body, []byte(`"`+uid+`"`)) + 1
	if len(uid) < serialDigits || place == 0 {
		return nil, errors.New("the body is no AdmissionReview with a request.uid")
	}
	// The headers of kube-apiserver 1.36.
	head := fmt.Sprintf("POST %s?timeout=10s HTTP/1.1\r\nHost: %s\r\nUser-Agent: kube-apiserver-admission\r\n"+
		"Content-Length: %d\r\nAccept: application/json, */*\r\nContent-Type: application/json\r\n"+
		"Accept-Encoding: gzip\r\n\r\n", target.Path, target.Host, len(body))
	request := append([]byte(head), body...)
	place += len(head)
	return &connection{
		host:     target.Host,
		settings: settings,
		request:  request,
		uid:      request[place : place+len(uid)],
		serial:   request[place+len(uid)-serialDigits : place+len(uid)],
		next:     uint64(index) * 1_000_000_000,
	}, nil
}

// run asks until `end`; only what began and was answered between `begin` and `end` is counted.
func (c *connection) run(begin, end time.Time) {
	for {
		c.number()
		asked := time.Now()
		if !asked.Before(end) {
			return
		}
		err := c.exchange()
		answered := time.Now()
		if err == nil {
			err = c.check()
		}
		switch {
		case err != nil:
			c.errors++
			if c.firstError == nil {
				c.firstError = err
			}
			c.close()
			time.Sleep(pauseAfterError)
		case !asked.Before(begin) && !answered.After(end):
			c.latencies = append(c.latencies, answered.Sub(asked))
		}
	}
}

// number writes the next serial into the uid, so that no two requests are the same.
func (c *connection) number() {
	value := c.next
	c.next++
	for place := len(c.serial) - 1; place >= 0; place-- {
		c.serial[place] = byte('0' + value%10)
		value /= 10
	}
}

// exchange sends the request and reads its answer into c.answer.
func (c *connection) exchange() error {
	if c.stream == nil {
		stream, err := tls.Dial("tcp", c.host, c.settings)
		if err != nil {
			return err
		}
		c.stream, c.reader = stream, bufio.NewReaderSize(stream, 16*1024)
	}
	if err := c.stream.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		return err
	}
	if _, err := c.stream.Write(c.request); err != nil {
		return err
	}
	head, err := readHead(c.reader)
	if err != nil {
		return err
	}
	if c.answer, err = readBody(c.reader, head, c.answer[:0]); err != nil {
		return err
	}
	if head.status != 200 {
		return errors.New("HTTP status " + strconv.Itoa(head.status))
	}
	if head.closes {
		c.close()
	}
	return nil
}

// check returns why the answer is not that this very pod is let in with a patch.
func (c *connection) check() error {
	if bytes.Contains(c.answer, c.uid) && holds(c.answer, `"allowed"`, `true`) && holds(c.answer, `"patch"`, `"`) {
		return nil
	}
	return fmt.Errorf("an answer without this uid, allowed: true or a patch: %.500q", c.answer)
}

// holds tells whether a member `key` of a JSON text has a value that begins with `value`.
func holds(text []byte, key, value string) bool {
	_, rest, found := bytes.Cut(text, []byte(key))
	return found && bytes.HasPrefix(bytes.TrimLeft(rest, ": "), []byte(value))
}

func (c *connection) close() {
	if c.stream != nil {
		_ = c.stream.Close()
		c.stream = nil
	}
}
