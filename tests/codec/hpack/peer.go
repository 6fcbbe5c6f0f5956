// HPACK as Go's net/http has it (golang.org/x/net/http2/hpack), both ways.
//
// Standard input: messages of a length of 4 bytes (all numbers big endian) and as many bytes;
// for each of them the same on standard output. A message begins with what is asked:
//
//	N  a new encoder and a new decoder; the answer is empty
//	E  encode: each list is answered by its block, a size sets the table's size before the next
//	D  decode: each block is answered by its list, a size is what is allowed from now on
//
// and goes on with items, each of a kind: S and a size of 4 bytes; B, a length of 4 bytes and a
// block; L, a number of 2 bytes and as many fields: 1 byte (1: never indexed), the lengths of
// the name (2 bytes) and of the value (4 bytes), name, value. What it cannot decode ends it.
package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"log"
	"os"

	"golang.org/x/net/http2/hpack"
)

var order = binary.BigEndian

type peer struct {
	block   bytes.Buffer
	encoder *hpack.Encoder
	decoder *hpack.Decoder
}

// message is read from its beginning.
type message []byte

func (m *message) take(size uint32) []byte {
	taken := (*m)[:size]
	*m = (*m)[size:]
	return taken
}
func (m *message) byte() byte     { return m.take(1)[0] }
func (m *message) uint16() uint16 { return order.Uint16(m.take(2)) }
func (m *message) uint32() uint32 { return order.Uint32(m.take(4)) }

func (p *peer) renew() {
	p.block.Reset()
	p.encoder = hpack.NewEncoder(&p.block)
	p.decoder = hpack.NewDecoder(4096, nil)
	p.encoder.SetMaxDynamicTableSizeLimit(4096)
}

func (p *peer) encode(in message) (out []byte) {
	for len(in) > 0 {
		if in.byte() == 'S' {
			p.encoder.SetMaxDynamicTableSize(in.uint32())
			continue
		}
		p.block.Reset()
		for left := in.uint16(); left > 0; left-- {
			never, name, value := in.byte(), uint32(in.uint16()), in.uint32()
			field := hpack.HeaderField{Name: string(in.take(name)), Value: string(in.take(value)), Sensitive: never == 1}
			if err := p.encoder.WriteField(field); err != nil {
				log.Fatal(err)
			}
		}
		out = order.AppendUint32(append(out, 'B'), uint32(p.block.Len()))
		out = append(out, p.block.Bytes()...)
	}
	return out
}

func (p *peer) decode(in message) (out []byte) {
	for len(in) > 0 {
		if in.byte() == 'S' {
			p.decoder.SetAllowedMaxDynamicTableSize(in.uint32())
			continue
		}
		fields, err := p.decoder.DecodeFull(in.take(in.uint32()))
		if err != nil {
			log.Fatal(err)
		}
		out = order.AppendUint16(append(out, 'L'), uint16(len(fields)))
		for _, field := range fields {
			never := byte(0)
			if field.Sensitive {
				never = 1
			}
			out = order.AppendUint16(append(out, never), uint16(len(field.Name)))
			out = order.AppendUint32(out, uint32(len(field.Value)))
			out = append(append(out, field.Name...), field.Value...)
		}
	}
	return out
}

func main() {
	p := &peer{}
	p.renew()
	in, out := bufio.NewReader(os.Stdin), bufio.NewWriter(os.Stdout)
	for {
		var size uint32
		if binary.Read(in, order, &size) != nil {
			return
		}
		asked := make(message, size)
		if _, err := io.ReadFull(in, asked); err != nil {
			return
		}
		var answer []byte
		switch asked.byte() {
		case 'N':
			p.renew()
		case 'E':
			answer = p.encode(asked)
		case 'D':
			answer = p.decode(asked)
		}
		binary.Write(out, order, uint32(len(answer)))
		out.Write(answer)
		out.Flush()
	}
}
