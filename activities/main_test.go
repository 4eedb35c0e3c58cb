package activities_test

import (
	"testing"

	"rehome/internal/dev/devtest"
)

func TestMain(m *testing.M) { devtest.Main(m) }
