package activities

import "time"

// LookEvery lets slices that mind the server's health look at it as often.
func LookEvery(a *Database, d time.Duration) { a.lookEvery = d }
