// The list of requests that Go's net/http reads from a stream of bytes.
//
// Standard input: a length of 4 bytes (big endian) and as many bytes, again and again. For
// each of them one line of JSON on standard output: what the server's handler was given (target
// and body in base64), and how the stream ended: "clean", "closed" (refused, or read no further) or "partial".
package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"regexp"
	"sync"
	"time"
)

type request struct {
	Method string `json:"method"`
	Target string `json:"target"`
	Body   string `json:"body"`
}

type reading struct {
	Requests []request `json:"requests"`
	End      string    `json:"end"`
}

// stream is a connection that says what it was given and keeps what it is told.
type stream struct {
	in     *bytes.Reader
	out    bytes.Buffer
	mutex  sync.Mutex
	closed chan struct{}
	once   sync.Once
}

func (s *stream) Read(p []byte) (int, error) { return s.in.Read(p) }
func (s *stream) Write(p []byte) (int, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if bytes.Contains(p, []byte("Connection: close\r\n")) {
		s.Close() // it reads no further, but may wait half a second before it closes
	}
	return s.out.Write(p)
}
func (s *stream) Close() error                       { s.once.Do(func() { close(s.closed) }); return nil }
func (s *stream) LocalAddr() net.Addr                { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }
func (s *stream) RemoteAddr() net.Addr               { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 2} }
func (s *stream) SetDeadline(t time.Time) error      { return nil }
func (s *stream) SetReadDeadline(t time.Time) error  { return nil }
func (s *stream) SetWriteDeadline(t time.Time) error { return nil }

// once is a listener of one connection.
type once struct {
	conn net.Conn
	done chan struct{}
}

func (o *once) Accept() (net.Conn, error) {
	if conn := o.conn; conn != nil {
		o.conn = nil
		return conn, nil
	}
	<-o.done
	return nil, errors.New("no more")
}
func (o *once) Close() error   { return nil }
func (o *once) Addr() net.Addr { return &net.TCPAddr{} }

// closing is what the server says where it reads no further; to HTTP/1.0 it need not say it.
var closing = regexp.MustCompile(`Connection: close|HTTP/1\.0 `)

func read(data []byte) reading {
	found := reading{Requests: []request{}, End: "clean"}
	conn := &stream{in: bytes.NewReader(data), closed: make(chan struct{})}
	server := &http.Server{
		ErrorLog: log.New(io.Discard, "", 0),
		DisableGeneralOptionsHandler: true, // else the handler does not see `OPTIONS *`
		// Past the router: it would redirect some targets.
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err == nil {
				found.Requests = append(found.Requests, request{r.Method, base64.StdEncoding.EncodeToString([]byte(r.RequestURI)), base64.StdEncoding.EncodeToString(body)})
			} else if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
				found.End = "partial"
			} else {
				found.End = "closed"
			}
			w.Header().Set("Content-Length", "0")
		}),
	}
	listener := &once{conn: conn, done: make(chan struct{})}
	go server.Serve(listener)
	<-conn.closed
	close(listener.done)
	conn.mutex.Lock() // of the last write
	defer conn.mutex.Unlock()
	if found.End == "clean" && closing.MatchString(conn.out.String()) {
		found.End = "closed"
	}
	return found
}

func main() {
	in, out := bufio.NewReader(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var size uint32
		if binary.Read(in, binary.BigEndian, &size) != nil {
			return
		}
		data := make([]byte, size)
		if _, err := io.ReadFull(in, data); err != nil {
			return
		}
		out.Encode(read(data))
	}
}
