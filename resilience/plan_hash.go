package resilience

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
)

// PlanHash identifies a plan by what it will do: the digest of its moves, as
// the store computed it over the journal, and its policy. Who started it is
// not part of it, nor who said its batch size: workers of an earlier version know
// nothing of that.
func PlanHash(moves string, strategy Strategy, policy Policy) (string, error) {
	policy.Author, policy.Sized = "", false
	what, err := json.Marshal(struct {
		Moves    string   `json:"moves"`
		Strategy Strategy `json:"strategy"`
		Policy   Policy   `json:"policy"`
	}{moves, strategy, policy})
	if err != nil {
		return "", fmt.Errorf("encode the policy of a plan: %w", err)
	}
	sum := sha256.Sum256(what)
	return hex.EncodeToString(sum[:]), nil
}
