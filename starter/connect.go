package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/envconfig"
	"go.temporal.io/sdk/log"

	"rehome/internal/dev"
	"rehome/store"
)

// session is one run of the command line: its flags, and its connections,
// which are made when a command first asks for them.
type session struct {
	process
	json    bool
	memory  string
	profile string
	running bool // a command's own work has begun

	pool   *pgxpool.Pool
	data   *store.Store
	engine client.Client
	site   site
	stack  *dev.Running // nil until it was looked for and found
}

// site is what the names and links of an installation's workflows begin with.
type site struct{ installation, address, namespace, ui string }

func (s *session) close() {
	if s.engine != nil {
		s.engine.Close()
	}
	if s.pool != nil {
		s.pool.Close()
	}
}

func (s *session) lookup(key string) string {
	value, _ := s.env.LookupEnv(key)
	return value
}

// store connects to Postgres and checks that the schema is the one this
// program works with.
func (s *session) store(ctx context.Context) (*store.Store, error) {
	if s.data != nil {
		return s.data, nil
	}
	address, err := s.databaseURL()
	if err != nil {
		return nil, err
	}
	config, err := pgxpool.ParseConfig(address)
	if err != nil {
		return nil, fail(exitUsage, "the address of Postgres cannot be read: %w; correct DATABASE_URL or PG*", err)
	}
	config.MaxConns = 2
	config.ConnConfig.ConnectTimeout = patience
	parameters := config.ConnConfig.RuntimeParams
	parameters["application_name"] = cmp.Or(parameters["application_name"], "rehome starter")
	if s.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, fmt.Errorf("prepare the connection to Postgres: %w", err)
	}
	pinged, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := s.pool.Ping(pinged); err != nil {
		return nil, fail(exitUnreachable, "cannot reach Postgres: %w; check that it runs, and DATABASE_URL or PG*", err)
	}
	data := store.New(s.pool)
	if err := data.CheckSchema(ctx); err != nil {
		return nil, err
	}
	if s.site.installation, err = data.Installation(ctx); err != nil {
		return nil, err
	}
	s.data = data
	return data, nil
}

// databaseURL is DATABASE_URL, or the development stack's when nothing in the
// environment names a database. Empty means PG*, which pgx reads itself.
func (s *session) databaseURL() (string, error) {
	if s.named("DATABASE_URL", "PGHOST", "PGPORT", "PGSERVICE", "PGDATABASE") {
		return s.lookup("DATABASE_URL"), nil
	}
	if err := s.findStack(); err != nil {
		return "", err
	}
	return s.stack.DatabaseURL, nil
}

// named reports whether one of the variables is set.
func (s *session) named(keys ...string) bool {
	return slices.ContainsFunc(keys, func(key string) bool { return s.lookup(key) != "" })
}

// findStack looks for the stack that `worker -dev` keeps running here.
func (s *session) findStack() error {
	if s.stack != nil {
		return nil
	}
	var err error
	s.stack, err = dev.Find(s.dir)
	if err != nil {
		return fail(exitUnreachable, "DATABASE_URL, PG* and TEMPORAL_* do not name both servers, and %w", err)
	}
	return nil
}

// temporal connects to Temporal, which must know the namespace.
func (s *session) temporal(ctx context.Context) (client.Client, error) {
	if s.engine != nil {
		return s.engine, nil
	}
	options, err := s.temporalOptions()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	engine, err := client.DialContext(ctx, options)
	if err != nil {
		return nil, s.engineError(err)
	}
	s.engine = engine
	return engine, nil
}

// engineError says what to do about an error of talking to Temporal.
func (s *session) engineError(err error) error {
	if _, ok := errors.AsType[*serviceerror.NamespaceNotFound](err); ok {
		return fail(exitUnreachable, "Temporal at %s has no namespace %s; create it, or set TEMPORAL_NAMESPACE", s.site.address, s.site.namespace)
	}
	if _, ok := errors.AsType[*serviceerror.Canceled](err); ok || errors.Is(err, context.Canceled) {
		return fail(exitInterrupted, "interrupted while asking Temporal at %s", s.site.address)
	}
	return fmt.Errorf("cannot reach Temporal at %s: %w; check that it runs, and TEMPORAL_ADDRESS or --profile", s.site.address, err)
}

// temporalOptions come from Temporal's own configuration; when that names no
// address, from the development stack if one runs here.
func (s *session) temporalOptions() (client.Options, error) {
	profile, err := envconfig.LoadClientConfigProfile(envconfig.LoadClientConfigProfileOptions{
		ConfigFileProfile: s.profile, ConfigFileStrict: true, EnvLookup: s.env,
	})
	if err != nil {
		return client.Options{}, fail(exitUsage, "Temporal's configuration cannot be used: %w; see --profile, TEMPORAL_PROFILE and TEMPORAL_CONFIG_FILE", err)
	}
	ui := s.lookup("TEMPORAL_UI_URL")
	if profile.Address == "" {
		switch err := s.findStack(); {
		case err == nil:
			profile.Address, profile.Namespace = s.stack.TemporalAddress, cmp.Or(profile.Namespace, s.stack.Namespace)
			ui = cmp.Or(ui, s.stack.UIAddress)
		case !errors.Is(err, dev.ErrNotRunning): // else it is where Temporal is by default
			return client.Options{}, err
		}
	}
	options, err := profile.ToClientOptions(envconfig.ToClientOptionsRequest{IncludeRemoteCodec: true})
	if err != nil {
		return client.Options{}, fail(exitUsage, "Temporal's configuration cannot be used: %w", err)
	}
	options.HostPort = cmp.Or(options.HostPort, client.DefaultHostPort)
	options.Namespace = cmp.Or(options.Namespace, client.DefaultNamespace)
	options.Logger = log.NewStructuredLogger(slog.New(slog.DiscardHandler)) // what matters comes back as an error
	s.site.address, s.site.namespace, s.site.ui = options.HostPort, options.Namespace, ui
	return options, nil
}
