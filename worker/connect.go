package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/envconfig"
	"go.temporal.io/sdk/log"

	"rehome/internal/dev"
	"rehome/store"
)

// minConnections is the size of the pool where the address does not say: pgx's
// own default of four would leave activities waiting for each other.
const minConnections = 16

// addresses say where the two servers are.
type addresses struct {
	database string // empty: PG*
	temporal client.Options
}

// fromEnvironment reads where the servers are. Each that the environment does
// not name is that of the stack of this checkout; without such a stack Temporal
// is where it is by default.
func fromEnvironment(logger *slog.Logger) (addresses, error) {
	options, err := envconfig.LoadDefaultClientOptions()
	if err != nil {
		return addresses{}, fmt.Errorf("read Temporal's configuration: %w; see TEMPORAL_CONFIG_FILE and TEMPORAL_PROFILE", err)
	}
	where := addresses{database: os.Getenv("DATABASE_URL"), temporal: options}
	stack, err := dev.Find(".")
	if where.database == "" && !namedByPG() {
		if err != nil {
			return addresses{}, fmt.Errorf("neither DATABASE_URL nor PG* names a Postgres, and %w", err)
		}
		where.database = stack.DatabaseURL
		logger.Info("using the Postgres of the stack of this checkout", "stack", stack.Dir)
	}
	if options.HostPort == "" && !errors.Is(err, dev.ErrNotRunning) {
		if err != nil {
			return addresses{}, fmt.Errorf("TEMPORAL_ADDRESS names no Temporal, and %w", err)
		}
		where.temporal.HostPort = stack.TemporalAddress
		where.temporal.Namespace = cmp.Or(options.Namespace, stack.Namespace)
		logger.Info("using the Temporal of the stack of this checkout", "stack", stack.Dir)
	}
	where.temporal.HostPort = cmp.Or(where.temporal.HostPort, client.DefaultHostPort)
	where.temporal.Namespace = cmp.Or(where.temporal.Namespace, client.DefaultNamespace)
	return where, nil
}

func namedByPG() bool {
	for _, name := range []string{"PGHOST", "PGPORT", "PGSERVICE", "PGDATABASE"} {
		if os.Getenv(name) != "" {
			return true
		}
	}
	return false
}

// openPool prepares connections to Postgres; none is made yet.
func (a addresses) openPool(ctx context.Context) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(a.database)
	if err != nil {
		return nil, fmt.Errorf("read the address of Postgres: %w; correct DATABASE_URL or PG*", err)
	}
	if !strings.Contains(a.database, "pool_max_conns") {
		config.MaxConns = max(config.MaxConns, minConnections)
	}
	config.ConnConfig.ConnectTimeout = cmp.Or(config.ConnConfig.ConnectTimeout, 10*time.Second)
	parameters := config.ConnConfig.RuntimeParams
	parameters["application_name"] = cmp.Or(parameters["application_name"], "rehome worker")
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("prepare connections to Postgres: %w", err)
	}
	return pool, nil
}

// preparePostgres waits for Postgres and brings the schema up to date. It
// returns the installation's id.
func preparePostgres(ctx context.Context, pool *pgxpool.Pool, logger *slog.Logger) (string, error) {
	config := pool.Config().ConnConfig
	address := net.JoinHostPort(config.Host, strconv.Itoa(int(config.Port))) + "/" + config.Database
	data := store.New(pool)
	var installation string
	err := retry(ctx, logger.With("server", "Postgres", "address", address), func(ctx context.Context) error {
		if err := data.Migrate(ctx); err != nil {
			return err
		}
		var err error
		installation, err = data.Installation(ctx)
		return err
	})
	return installation, err
}

// dialTemporal waits for Temporal and for the namespace, which a first start of
// both may still be making.
func (a addresses) dialTemporal(ctx context.Context, handler client.MetricsHandler, logger *slog.Logger) (client.Client, error) {
	options := a.temporal
	options.MetricsHandler = handler
	options.Logger = log.NewStructuredLogger(logger)
	var c client.Client
	logger = logger.With("server", "Temporal", "address", options.HostPort, "namespace", options.Namespace)
	err := retry(ctx, logger, func(ctx context.Context) error {
		dialled, err := client.DialContext(ctx, options)
		if err != nil {
			return err
		}
		_, err = dialled.WorkflowService().DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: options.Namespace})
		if err != nil {
			dialled.Close()
			return fmt.Errorf("look at namespace %s: %w", options.Namespace, err)
		}
		c = dialled
		return nil
	})
	return c, err
}

// retry calls connect until it succeeds, ctx ends, or the error is one that
// waiting does not mend. Servers may come later than we do.
func retry(ctx context.Context, logger *slog.Logger, connect func(context.Context) error) error {
	wait := 500 * time.Millisecond
	for try := 1; ; try++ {
		limited, cancel := context.WithTimeout(ctx, time.Minute)
		err := connect(limited)
		cancel()
		if err == nil {
			logger.Info("connected", "tries", try)
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if permanent(err) {
			return err
		}
		logger.Warn("not reachable yet; trying again", "try", try, "reason", err.Error(), "next_in", wait.String())
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		wait = min(2*wait, 15*time.Second)
	}
}

// permanent says whether an error needs a person: the schema is newer than this
// program, the role lacks rights, the database is unfit.
func permanent(err error) bool {
	return errors.Is(err, store.ErrSchema) || errors.Is(err, store.ErrRights) || errors.Is(err, store.ErrRefused)
}
