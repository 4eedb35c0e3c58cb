package resilience

// Verified is how far the look at all rows of a plan has come, after they moved or
// went back.
type Verified struct {
	Last    int64 `json:"last"`    // rows of the journal that were looked at
	Total   int64 `json:"total"`   // rows it has
	Since   int64 `json:"since"`   // rows that others moved on, deleted or put back after their batch
	Foreign int64 `json:"foreign"` // rows at the targets that are not of the plan
	Done    bool  `json:"done"`
}
