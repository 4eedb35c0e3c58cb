package resilience

// RiskLevel is a risk in a word.
type RiskLevel string

// The levels, with the score at which each begins.
const (
	LowRisk      RiskLevel = "low"      // 0
	MediumRisk   RiskLevel = "medium"   // 30
	HighRisk     RiskLevel = "high"     // 60: a person has to approve
	CriticalRisk RiskLevel = "critical" // 80
)

// Risk of a plan, with what it is made of.
type Risk struct {
	Level   RiskLevel `json:"level"`
	Score   int       `json:"score"` // 0 to 100
	Reasons []string  `json:"reasons"`
}

// NeedsApproval reports whether a person has to say yes first.
func (r Risk) NeedsApproval() bool { return r.Level == HighRisk || r.Level == CriticalRisk }
