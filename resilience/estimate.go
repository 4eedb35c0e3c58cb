package resilience

// Estimate of how long a plan takes from its first batch to its end.
type Estimate struct {
	P50MS int64  `json:"p50_ms"`
	P90MS int64  `json:"p90_ms"`
	Basis string `json:"basis"` // what it rests on, in a sentence
}
