// Package deploy_test checks docker-compose.yml and Dockerfile where no Docker
// engine is at hand: what they say by reading them, what they do by running
// the same commands with the same settings natively.
package deploy_test

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/dotenv"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/stretchr/testify/require"
)

const root = ".."

// sample returns the settings of .env.example.
func sample(t *testing.T) map[string]string {
	t.Helper()
	env, err := dotenv.Read(filepath.Join(root, ".env.example"))
	require.NoError(t, err)
	return env
}

// load reads docker-compose.yml as docker compose does, all profiles included
// and the settings of this process and of a .env left out.
func load(t *testing.T, env map[string]string) (*types.Project, error) {
	t.Helper()
	var settings []string
	for key, value := range env {
		settings = append(settings, key+"="+value)
	}
	options, err := cli.NewProjectOptions([]string{filepath.Join(root, "docker-compose.yml")},
		cli.WithProfiles([]string{"*"}), cli.WithEnv(settings))
	require.NoError(t, err)
	return options.LoadProject(t.Context())
}

func project(t *testing.T) *types.Project {
	t.Helper()
	p, err := load(t, sample(t))
	require.NoError(t, err)
	return p
}

// job says that a service does its work and exits, instead of running for long.
func job(s types.ServiceConfig) bool { return s.Restart == "" }

func TestServices(t *testing.T) {
	t.Parallel()
	p := project(t)
	require.Equal(t, []string{
		"databases", "postgres", "starter", "temporal", "temporal-namespace", "temporal-schema", "temporal-ui", "worker",
	}, slices.Sorted(maps.Keys(p.Services)))
	require.Equal(t, 2, *p.Services["worker"].Deploy.Replicas)
	require.Equal(t, []string{"tools"}, p.Services["starter"].Profiles, "`docker compose up` must not run the command line")
	ui := p.Services["temporal-ui"].Environment
	require.Equal(t, "false", *ui["TEMPORAL_DISABLE_WRITE_ACTIONS"], "pause and reset are done from the web UI")
	require.NotEqual(t, *p.Services["worker"].Environment["PGUSER"], *p.Services["temporal"].Environment["POSTGRES_USER"])
}

func TestSettingsThatAreMissingAreNamed(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"POSTGRES_PASSWORD", "TEMPORAL_DB_PASSWORD", "REHOME_DB_PASSWORD", "SOURCES_DIR"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := sample(t)
			delete(env, name)
			_, err := load(t, env)
			require.ErrorContains(t, err, "set "+name+" in .env")
			env[name] = ""
			_, err = load(t, env)
			require.ErrorContains(t, err, ".env.example is a sample")
		})
	}
}

func TestSampleHasNoUnusedSetting(t *testing.T) {
	t.Parallel()
	file := read(t, "docker-compose.yml")
	for name := range sample(t) {
		require.Contains(t, file, "${"+name, "%s is in .env.example only", name)
	}
}

func TestStartOrder(t *testing.T) {
	t.Parallel()
	p := project(t)
	waits := 0
	for name, service := range p.Services {
		if !job(service) {
			require.Equal(t, "unless-stopped", service.Restart, name)
			require.NotNil(t, service.HealthCheck, "%s runs for long and nobody can tell whether it is well", name)
			require.NotEmpty(t, service.HealthCheck.Test, name)
			require.False(t, service.HealthCheck.Disable, name)
		}
		for on, dependency := range service.DependsOn {
			want := types.ServiceConditionHealthy
			if job(p.Services[on]) {
				want = types.ServiceConditionCompletedSuccessfully
			}
			require.Equal(t, want, dependency.Condition, "%s on %s", name, on)
			waits++
		}
	}
	require.GreaterOrEqual(t, waits, 8)
	for name, needs := range map[string]string{
		"databases": "postgres", "temporal-schema": "databases", "temporal": "temporal-schema",
		"temporal-namespace": "temporal", "temporal-ui": "temporal", "worker": "temporal-namespace", "starter": "worker",
	} {
		require.Contains(t, p.Services[name].DependsOn, needs, "%s starts too early", name)
	}
}

func TestMountsExistAndAreReadOnly(t *testing.T) {
	t.Parallel()
	mounted := 0
	for name, service := range project(t).Services {
		for _, volume := range service.Volumes {
			if volume.Type != types.VolumeTypeBind {
				continue
			}
			_, err := os.Stat(volume.Source)
			require.NoError(t, err, name)
			require.True(t, volume.ReadOnly, "%s could write to %s", name, volume.Source)
			mounted++
		}
	}
	require.GreaterOrEqual(t, mounted, 4)
}

func TestSourcesAreMountedForWorkerAndStarter(t *testing.T) {
	t.Parallel()
	p := project(t)
	for _, name := range []string{"worker", "starter"} {
		at := slices.IndexFunc(p.Services[name].Volumes, func(v types.ServiceVolumeConfig) bool { return v.Target == "/sources" })
		require.GreaterOrEqual(t, at, 0, name)
		sources := p.Services[name].Volumes[at]
		require.True(t, sources.ReadOnly, name)
		require.False(t, bool(sources.Bind.CreateHostPath), "a mistyped SOURCES_DIR must not become an empty tree")
	}
}

func TestNothingIsPublishedBeyondThisMachine(t *testing.T) {
	t.Parallel()
	for name, service := range project(t).Services {
		for _, port := range service.Ports {
			require.Equal(t, "127.0.0.1", port.HostIP, name)
		}
	}
}

func TestImagesArePinned(t *testing.T) {
	t.Parallel()
	exact := regexp.MustCompile(`:v?\d+\.\d+\.\d+(-[a-z0-9.]+)?$`)
	p := project(t)
	for name, service := range p.Services {
		if service.Build == nil {
			require.Regexp(t, exact, service.Image, name)
		}
	}
	// What runs in the containers is what the native test runs.
	pinned := regexp.MustCompile(`go\.temporal\.io/server v(\S+)`).FindStringSubmatch(read(t, "tools/server/go.mod"))
	require.NotNil(t, pinned)
	require.Equal(t, "temporalio/server:"+pinned[1], p.Services["temporal"].Image)
	for _, name := range []string{"temporal-schema", "temporal-namespace"} {
		require.Equal(t, "temporalio/admin-tools:"+pinned[1], p.Services[name].Image)
	}
}

func TestPasswordsComeFromTheEnvironment(t *testing.T) {
	t.Parallel()
	env := sample(t)
	for name := range env {
		if strings.HasSuffix(name, "_PASSWORD") {
			env[name] = "from the environment: " + name
		}
	}
	p, err := load(t, env)
	require.NoError(t, err)
	secret := regexp.MustCompile(`PASSWORD|PWD|SECRET|TOKEN`)
	found := 0
	for name, service := range p.Services {
		for key, value := range service.Environment {
			if secret.MatchString(key) {
				require.Contains(t, *value, "from the environment: ", "%s: %s is written into the file", name, key)
				found++
			}
		}
	}
	require.GreaterOrEqual(t, found, 7)
}

func TestDockerfile(t *testing.T) {
	t.Parallel()
	file := read(t, "Dockerfile")
	stages := strings.Split(file, "\nFROM ")
	require.Len(t, stages, 3, "one stage builds, one runs")
	for _, stage := range stages[1:] {
		require.Regexp(t, `^[a-z]+:\d+\.\d+\.\d+`, stage, "the base image is pinned")
	}
	build, final := stages[1], stages[2]
	require.Contains(t, build, "--mount=type=cache,target=/go/pkg/mod")
	require.Contains(t, build, "-trimpath")
	user := regexp.MustCompile(`(?m)^USER (\d+)`).FindStringSubmatch(final)
	require.NotNil(t, user, "a number, since Kubernetes' runAsNonRoot cannot judge a name")
	require.NotEqual(t, "0", user[1])
	require.Regexp(t, `(?m)^COPY --from=build /out/worker /out/starter /usr/local/bin/$`, final)
	require.Regexp(t, `(?m)^ENTRYPOINT \["worker"\]$`, final)
	require.Contains(t, read(t, ".dockerignore"), ".env\n", "passwords stay out of the build")
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	require.NoError(t, err)
	return string(text)
}
