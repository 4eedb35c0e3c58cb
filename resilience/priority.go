package resilience

import (
	"math"
	"time"
)

// Weights and scales of Priority.
const (
	sizeWeight   = 0.3
	ageWeight    = 0.4
	idleWeight   = 0.3
	fullSize     = 1 << 20            // bytes; larger texts weigh no more
	halfAge      = 7 * 24 * time.Hour // missing for so long: half of the weight of age
	forgottenFor = 30 * 24 * time.Hour
)

// Burden is what the priority of an orphan is made of.
type Burden struct {
	Bytes  int64         // of its text
	Age    time.Duration // since its source was first missed
	Uses   int64         // times it was accessed
	Unused time.Duration // since it was last accessed
}

// Priority says from 0 to 1 how much an orphan is in the way:
//
//	priority = 0.3 size + 0.4 age + 0.3 idleness
//
//	size     = log2(1 + bytes) / log2(1 + 1 MiB), at most 1
//	age      = days missing / (days missing + 7)
//	idleness = 1 / (1 + log2(1 + uses)), where uses halve with every 30 days since the last one
//
// It never falls when the text is larger, the source longer missing, or the
// chunk less or longer ago used. Some values:
//
//	bytes    missing   uses            priority
//	0        0 d       none            0.300
//	100      0 d       none            0.400
//	1,500    0 d       none            0.458
//	1,500    7 d       none            0.658
//	1,500    7 d       10, today       0.426
//	1,500    7 d       10, 90 d ago    0.497
//	1,500    30 d      none            0.783
//	1 MiB    90 d      none            0.971
//	1 MiB    0 d       1,000, today    0.327
func Priority(b Burden) float64 {
	size := min(1, math.Log2(1+float64(max(b.Bytes, 0)))/math.Log2(1+fullSize))
	missing := float64(max(b.Age, 0))
	age := missing / (missing + float64(halfAge))
	uses := float64(max(b.Uses, 0)) * math.Exp2(-float64(max(b.Unused, 0))/float64(forgottenFor))
	idleness := 1 / (1 + math.Log2(1+uses))
	return sizeWeight*size + ageWeight*age + idleWeight*idleness
}
