package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strconv"
)

// head is what a reader of the body must know of an HTTP/1.1 answer.
type head struct {
	status  int
	length  int
	chunked bool
	closes  bool
}

// readHead reads the status line and the headers.
func readHead(reader *bufio.Reader) (head, error) {
	line, err := readLine(reader)
	if err != nil {
		return head{}, err
	}
	parts := bytes.SplitN(line, []byte(" "), 3)
	if len(parts) < 2 || !bytes.HasPrefix(parts[0], []byte("HTTP/1.")) {
		return head{}, fmt.Errorf("no HTTP/1.1 answer: %.100q", line)
	}
	read := head{length: -1}
	if read.status, err = strconv.Atoi(string(parts[1])); err != nil {
		return head{}, err
	}
	for {
		if line, err = readLine(reader); err != nil {
			return head{}, err
		}
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if read.length, err = strconv.Atoi(string(value)); err != nil {
				return head{}, err
			}
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			read.chunked = bytes.EqualFold(value, []byte("chunked"))
		case bytes.EqualFold(name, []byte("Connection")):
			read.closes = bytes.EqualFold(value, []byte("close"))
		}
	}
	if read.length < 0 && !read.chunked {
		return head{}, fmt.Errorf("status %d, neither Content-Length nor chunked", read.status)
	}
	return read, nil
}

// readBody appends the body to `into` and returns it.
func readBody(reader *bufio.Reader, read head, into []byte) ([]byte, error) {
	if !read.chunked {
		return readExactly(reader, read.length, into)
	}
	for {
		line, err := readLine(reader)
		if err != nil {
			return into, err
		}
		size, err := strconv.ParseUint(string(line), 16, 31)
		if err != nil {
			return into, err
		}
		if into, err = readExactly(reader, int(size), into); err != nil {
			return into, err
		}
		if _, err = readLine(reader); err != nil || size == 0 {
			return into, err
		}
	}
}

func readExactly(reader *bufio.Reader, length int, into []byte) ([]byte, error) {
	start := len(into)
	into = append(into, make([]byte, length)...)
	_, err := io.ReadFull(reader, into[start:])
	return into, err
}

// readLine returns a line without its end; it is valid until the next read.
func readLine(reader *bufio.Reader) ([]byte, error) {
	line, err := reader.ReadSlice('\n')
	return bytes.TrimRight(line, "\r\n"), err
}
