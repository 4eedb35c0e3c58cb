package workflows

import (
	"errors"

	"go.temporal.io/sdk/temporal"
)

// Aborted is the type of the error of a run that a person told to stop.
const Aborted = "Aborted"

// message is what an activity said of its failure, without the SDK's words around it.
func message(err error) string {
	if app, ok := errors.AsType[*temporal.ApplicationError](err); ok {
		return app.Message()
	}
	return err.Error()
}

// kind is the type of an activity's error, empty when it has none.
func kind(err error) string {
	if app, ok := errors.AsType[*temporal.ApplicationError](err); ok {
		return app.Type()
	}
	return ""
}
