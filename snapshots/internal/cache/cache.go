// Package cache keeps the blocks of a compressed snapshot that were unpacked last.
package cache

import "sync"

// Cache is a bounded map from block number to content, dropping the oldest. It is safe for concurrent use.
type Cache struct {
	mu     sync.Mutex
	blocks map[uint64][]byte
	ring   []uint64
	next   int
}

// New returns a cache of at most n blocks.
func New(n int) *Cache {
	return &Cache{blocks: make(map[uint64][]byte, n), ring: make([]uint64, 0, n)}
}

// Get returns a block, from the cache or else from load. The content must not be changed.
func (c *Cache) Get(key uint64, load func() ([]byte, error)) ([]byte, error) {
	c.mu.Lock()
	b, ok := c.blocks[key]
	c.mu.Unlock()
	if ok {
		return b, nil
	}
	b, err := load()
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.blocks[key]; ok {
		return b, nil
	}
	if len(c.ring) < cap(c.ring) {
		c.ring = append(c.ring, key)
	} else {
		delete(c.blocks, c.ring[c.next])
		c.ring[c.next] = key
		c.next = (c.next + 1) % len(c.ring)
	}
	c.blocks[key] = b
	return b, nil
}
