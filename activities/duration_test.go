package activities_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rehome/activities"
)

func TestDurationsAreReadable(t *testing.T) {
	t.Parallel()
	text, err := json.Marshal(activities.Slice{Time: activities.Duration(90 * time.Second)})
	require.NoError(t, err)
	require.JSONEq(t, `{"time":"1m30s"}`, string(text))
	text, err = json.Marshal(activities.Slice{})
	require.NoError(t, err)
	require.JSONEq(t, `{}`, string(text))
	for _, written := range []string{`{"time":"3s"}`, `{"time":3000000000}`} { // older histories have the number
		var s activities.Slice
		require.NoError(t, json.Unmarshal([]byte(written), &s))
		require.Equal(t, activities.Duration(3*time.Second), s.Time)
	}
	require.Error(t, json.Unmarshal([]byte(`{"time":"soon"}`), &activities.Slice{}))
	require.Error(t, json.Unmarshal([]byte(`{"time":true}`), &activities.Slice{}))
}
