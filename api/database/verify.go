package database

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"time"
)

// The layout that is verified, of bbolt's version 2, in the byte order of the host:
//
//	page    id u64, flags u16, count u16, overflow u32, then by flags:
//	meta    magic u32, version u32, page size u32, flags u32, root u64, sequence u64,
//	        free list u64, high water u64, transaction u64, FNV-1a sum of these u64
//	branch  count × (pos u32, key size u32, page u64), keys
//	leaf    count × (flags u32, pos u32, key size u32, value size u32), keys and values
//	free    count × u64; a count of 0xffff says that the first of them is the count
//
// pos counts from the element. A leaf element with the flag bucketLeaf holds a bucket:
// root u64, sequence u64, and a page in place when root is 0.
const (
	magic      = 0xED0CDAED
	version    = 2
	headerSize = 16
	metaSize   = 64
	elemSize   = 16
	bucketSize = 16

	flagBranch = 0x01
	flagLeaf   = 0x02
	flagMeta   = 0x04
	flagFree   = 0x10
	bucketLeaf = 0x01

	noFreeList = ^uint64(0)
	maxDepth   = 64
	// maxVerify bounds the look at a file; what is not seen by then is trusted.
	maxVerify = 5 * time.Second
)

var (
	order   = binary.NativeEndian
	errTime = errors.New("out of time")
)

type meta struct {
	pageSize             int64
	root, free, high, tx uint64
}

// verify reads all that is in use of the first size bytes of r.
func verify(r io.ReaderAt, size int64, until time.Time) error {
	m, err := newestMeta(r, size)
	if err != nil {
		return err
	}
	if have := uint64(size / m.pageSize); m.high > have {
		return fmt.Errorf("%d of %d pages are missing", m.high-have, m.high)
	}
	v := &verifier{r: r, meta: m, seen: make([]bool, m.high), until: until}
	err = v.page(m.root, 0, nil, nil)
	if err == nil && m.free != noFreeList {
		err = v.freeList(m.free)
	}
	if errors.Is(err, errTime) {
		return nil
	}
	return err
}

// newestMeta is that of the last transaction that was ended.
func newestMeta(r io.ReaderAt, size int64) (best meta, err error) {
	if size == 0 {
		return best, errors.New("the file is empty")
	}
	found := false
	take := func(off int64) bool {
		m, ok := readMeta(r, off)
		if ok && (!found || m.tx > best.tx) {
			best, found = m, true
		}
		return ok
	}
	if take(0) {
		take(best.pageSize)
	} else { // the first one says where the second is: without it, look
		for off := int64(1 << 10); off <= 64<<10 && !take(off); off <<= 1 {
		}
	}
	if !found {
		return best, errors.New("no valid header")
	}
	return best, nil
}

func readMeta(r io.ReaderAt, off int64) (m meta, ok bool) {
	var b [headerSize + metaSize]byte
	if _, err := r.ReadAt(b[:], off); err != nil {
		return m, false
	}
	p := b[headerSize:]
	sum := fnv.New64a()
	sum.Write(p[:metaSize-8])
	m = meta{
		pageSize: int64(order.Uint32(p[8:])), root: order.Uint64(p[16:]),
		free: order.Uint64(p[32:]), high: order.Uint64(p[40:]), tx: order.Uint64(p[48:]),
	}
	ok = order.Uint32(p) == magic && order.Uint32(p[4:]) == version && order.Uint64(p[56:]) == sum.Sum64() &&
		order.Uint16(b[8:])&flagMeta != 0 && m.pageSize >= 1<<10 && m.pageSize <= 64<<10
	return m, ok && (off == 0 || off == m.pageSize)
}

type verifier struct {
	r     io.ReaderAt
	meta  meta
	seen  []bool // by page
	until time.Time
}

// read returns the page with what overflows from it, and marks both.
func (v *verifier) read(id uint64) ([]byte, error) {
	if time.Now().After(v.until) {
		return nil, errTime
	}
	if id < 2 || id >= v.meta.high {
		return nil, fmt.Errorf("page %d: out of %d", id, v.meta.high)
	}
	b := make([]byte, v.meta.pageSize)
	off := int64(id) * v.meta.pageSize
	if _, err := v.r.ReadAt(b, off); err != nil {
		return nil, fmt.Errorf("page %d: %w", id, err)
	}
	if got := order.Uint64(b); got != id {
		return nil, fmt.Errorf("page %d: says it is page %d", id, got)
	}
	over := uint64(order.Uint32(b[12:]))
	if over >= v.meta.high-id {
		return nil, fmt.Errorf("page %d: %d pages long, out of %d", id, over+1, v.meta.high)
	}
	for i := id; i <= id+over; i++ {
		if v.seen[i] {
			return nil, fmt.Errorf("page %d: in use twice", i)
		}
		v.seen[i] = true
	}
	if over > 0 {
		b = make([]byte, int64(over+1)*v.meta.pageSize)
		if _, err := v.r.ReadAt(b, off); err != nil {
			return nil, fmt.Errorf("page %d: %w", id, err)
		}
	}
	return b, nil
}

// page verifies a tree; its keys are at least low, and less than high, if not nil.
func (v *verifier) page(id uint64, depth int, low, high []byte) error {
	if depth > maxDepth {
		return fmt.Errorf("page %d: nested too deep", id)
	}
	b, err := v.read(id)
	if err != nil {
		return err
	}
	if err := v.elements(b, depth, low, high); err != nil {
		if errors.Is(err, errTime) {
			return err
		}
		return fmt.Errorf("page %d: %w", id, err)
	}
	return nil
}

func (v *verifier) elements(b []byte, depth int, low, high []byte) error {
	flags, count := order.Uint16(b[8:]), int(order.Uint16(b[10:]))
	if flags != flagBranch && flags != flagLeaf {
		return fmt.Errorf("of unknown kind %#x", flags)
	}
	if headerSize+count*elemSize > len(b) || flags == flagBranch && count == 0 {
		return fmt.Errorf("%d elements in %d bytes", count, len(b))
	}
	keys, err := keysOf(b, flags, count)
	if err != nil {
		return err
	}
	for i, key := range keys {
		if i > 0 {
			low = keys[i-1]
		}
		c := bytes.Compare(key, low)
		if c < 0 || c == 0 && i > 0 || high != nil && bytes.Compare(key, high) >= 0 {
			return fmt.Errorf("key %d: out of order", i)
		}
	}
	for i, key := range keys {
		next := high
		if i+1 < len(keys) {
			next = keys[i+1]
		}
		if err := v.child(b, flags, i, depth, key, next); err != nil {
			return err
		}
	}
	return nil
}

// keysOf finds the keys, and sees that keys and values are within b.
func keysOf(b []byte, flags uint16, count int) ([][]byte, error) {
	keys := make([][]byte, count)
	for i := range keys {
		at := headerSize + i*elemSize
		e := b[at : at+elemSize]
		pos, ksize, vsize := order.Uint32(e), order.Uint32(e[4:]), uint32(0)
		if flags == flagLeaf {
			pos, ksize, vsize = order.Uint32(e[4:]), order.Uint32(e[8:]), order.Uint32(e[12:])
		}
		from := int64(at) + int64(pos)
		if pos < uint32((count-i)*elemSize) || from+int64(ksize)+int64(vsize) > int64(len(b)) {
			return nil, fmt.Errorf("element %d: out of its page", i)
		}
		keys[i] = b[from : from+int64(ksize)]
	}
	return keys, nil
}

// child verifies what element i of b leads to.
func (v *verifier) child(b []byte, flags uint16, i, depth int, key, next []byte) error {
	e := b[headerSize+i*elemSize:]
	if flags == flagBranch {
		return v.page(order.Uint64(e[8:]), depth+1, key, next)
	}
	if order.Uint32(e)&bucketLeaf == 0 {
		return nil
	}
	from := order.Uint32(e[4:]) + order.Uint32(e[8:])
	value := e[from : from+order.Uint32(e[12:])]
	if len(value) < bucketSize {
		return fmt.Errorf("bucket %q: of %d bytes", key, len(value))
	}
	var err error
	switch root := order.Uint64(value); {
	case root != 0:
		err = v.page(root, depth+1, nil, nil)
	case len(value) < bucketSize+headerSize:
		err = fmt.Errorf("of %d bytes", len(value))
	case depth >= maxDepth:
		err = errors.New("nested too deep")
	default:
		err = v.elements(value[bucketSize:], depth+1, nil, nil)
	}
	if err != nil && !errors.Is(err, errTime) {
		return fmt.Errorf("bucket %q: %w", key, err)
	}
	return err
}

// freeList sees that no page in use is taken for a free one.
func (v *verifier) freeList(id uint64) error {
	b, err := v.read(id)
	if err != nil {
		return fmt.Errorf("free list: %w", err)
	}
	ids, count := b[headerSize:], uint64(order.Uint16(b[10:]))
	if order.Uint16(b[8:]) != flagFree {
		return fmt.Errorf("page %d: no free list", id)
	}
	if count == 0xffff {
		count, ids = order.Uint64(ids), ids[8:]
	}
	if count > uint64(len(ids)/8) {
		return fmt.Errorf("page %d: %d free pages in %d bytes", id, count, len(ids))
	}
	for i := range count {
		free := order.Uint64(ids[8*i:])
		if free < 2 || free >= v.meta.high || v.seen[free] {
			return fmt.Errorf("page %d: page %d is not free", id, free)
		}
		v.seen[free] = true
	}
	return nil
}
