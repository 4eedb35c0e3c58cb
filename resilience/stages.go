package resilience

import (
	"math"
	"time"
)

// Stage is a step of a gradual migration: up to a share of the rows, and then a
// time in which others would notice what it did.
type Stage struct {
	Share float64
	Soak  time.Duration // at most; see SoakAfter
}

// GradualStages lists the stages; the first is the canary.
func GradualStages() []Stage {
	return []Stage{
		{0.001, 5 * time.Minute},
		{0.01, 10 * time.Minute},
		{0.05, 10 * time.Minute},
		{0.25, 15 * time.Minute},
		{0.5, 15 * time.Minute},
		{1, 0},
	}
}

// leastStage is how many rows the canary has at least.
const leastStage = 100

// StageEnd is the last row of a stage of a plan with so many rows.
func StageEnd(stage int, total int64) int64 {
	rows := int64(math.Ceil(GradualStages()[stage].Share * float64(total)))
	return min(total, max(leastStage, rows))
}

// StageAt is the stage in which the row after last is.
func StageAt(last, total int64) int {
	stages := GradualStages()
	for stage := range stages {
		if last < StageEnd(stage, total) {
			return stage
		}
	}
	return len(stages) - 1
}

// SoakAfter is how long to wait after a stage of a plan whose work, with the
// pauses between its batches, takes so long: a tenth of that at most, so that
// small plans end soon.
func SoakAfter(stage int, work time.Duration) time.Duration {
	return min(GradualStages()[stage].Soak, work/10)
}

// GradualNice is how many times as long as it worked a gradual migration rests
// after each batch; twice that while a signal is near its limit.
const GradualNice = 3

// GradualTime is how long a gradual migration takes whose rows cost the server
// so much work: the pauses and the soaks included.
func GradualTime(work time.Duration) time.Duration { return withSoaks((1 + GradualNice) * work) }

// withSoaks adds the soaks to the work of a gradual migration, with its pauses.
func withSoaks(paced time.Duration) time.Duration {
	all := paced
	for stage := range GradualStages() {
		all += SoakAfter(stage, paced)
	}
	return all
}
