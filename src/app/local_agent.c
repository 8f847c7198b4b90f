/* The agent of the server's own host.
 *
 * It is a process of its own that outlives the server, so that jobs do too: after kill -9 of the
 * server the next one finds it connected again. One agent holds its folder's lock; a second one
 * that is started beside it ends at once, which is how "is there one already?" is answered. */
#include "app/parts.h"

#include "base/disk.h"
#include "base/log.h"
#include "base/str.h"
#include "base/world.h"
#include "fleet/fleet.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

enum { LOOK_MS = 200, CONNECT_S = 5, BACKOFF_MAX_S = 30, EXIT_TAKEN = 75 };

struct local_agent {
    struct house *house;
    char *program, *server, *data, *gpu, *floor;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool stop, runs;
    pid_t pid; /* our child, 0: none */
};

static char *beside_self(const char *name)
{
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
    if (n <= 0)
        return mem_strdup(name);
    path[n] = '\0';
    char *slash = strrchr(path, '/');
    if (slash != NULL)
        *slash = '\0';
    return mem_printf("%s/%s", path, name);
}

const char *app_gpu_source(const struct house *h)
{
    const char *want = setting_text(h, "GPU_SIMULATE");
    bool given = setting_given(h, "GPU_SIMULATE");
    if (strcasecmp(want, "on") == 0 || (house_demo(h) && !given))
        return "simulated:4";
    return "nvml";
}

static bool local_online(struct fleet *f)
{
    AUTO(fleet_snapshot) const struct fleet_snapshot *s = fleet_snapshot_get(f);
    for (size_t i = 0; i < s->n_nodes; i++)
        if (s->nodes[i].node.is_local && fleet_connected(f, s->nodes[i].node.id))
            return true;
    return false;
}

static pid_t agent_spawn(struct local_agent *a)
{
    posix_spawnattr_t attr;
    posix_spawn_file_actions_t files;
    pid_t pid = 0;
    AUTO(mem) char *log = mem_printf("%s/agent.log", a->data);
    sigset_t none;
    sigemptyset(&none);
    posix_spawnattr_init(&attr);
    posix_spawn_file_actions_init(&files);
    /* Jobs inherit neither: the shim makes their environment. */
    size_t n = 0, k = 0;
    while (environ[n] != NULL)
        n++;
    AUTO(mem) char **env = mem_alloc((n + 2) * sizeof(*env));
    for (size_t i = 0; i < n; i++)
        if (!str_starts(environ[i], DISK_FLOOR_NAME "="))
            env[k++] = environ[i];
    env[k] = a->floor;
    /* a session of its own: Ctrl-C at the server's terminal is not meant for running jobs */
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&files, 1, log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    posix_spawn_file_actions_adddup2(&files, 1, 2);
    const struct house *h = a->house;
    const char *user = setting_text(h, "JOB_USER");
    char *argv[16] = {
        a->program, "--server",    a->server,
        "--data",   a->data,       "--gpu",
        a->gpu,     "--isolation", (char *)(uintptr_t)setting_text(h, "JOB_ISOLATION"),
        "--local"};
    size_t words = 10;
    if (user != NULL && *user != '\0') {
        argv[words++] = "--job-user";
        argv[words++] = (char *)(uintptr_t)user;
    }
    if (setting_bool(h, "JOB_PROFILING"))
        argv[words++] = "--allow-profiling";
    int rc = posix_spawn(&pid, a->program, &files, &attr, argv, env);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attr);
    if (rc != 0) {
        log_error("app", "cannot start %s: %s", a->program, strerror(rc));
        return 0;
    }
    return pid;
}

static void *watch_main(void *ctx)
{
    struct local_agent *a = ctx;
    struct fleet *f = fleet_of(a->house);
    int64_t next = mono_us() + US_PER_S; /* a running one connects by itself within this time */
    int64_t backoff_s = 1;
    bool first = true;
    pthread_mutex_lock(&a->lock);
    while (!a->stop) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += LOOK_MS * 1000000L;
        if (until.tv_nsec >= 1000000000L) {
            until.tv_sec++;
            until.tv_nsec -= 1000000000L;
        }
        if (!first)
            pthread_cond_timedwait(&a->wake, &a->lock, &until);
        if (a->stop)
            break;
        pthread_mutex_unlock(&a->lock);
        int status;
        if (a->pid > 0 && waitpid(a->pid, &status, WNOHANG) == a->pid) {
            a->pid = 0;
            bool taken = WIFEXITED(status) && WEXITSTATUS(status) == EXIT_TAKEN;
            bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
            if (!taken)
                log_warning("app", "the agent of this host ended (%s %d): starting it again",
                            WIFSIGNALED(status) ? "signal" : "status",
                            WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
            next = mono_us() + (taken ? CONNECT_S : backoff_s) * US_PER_S;
            /* the first restart at once, since jobs wait for it; and who was killed from outside
             * is not to blame: only one that ends by itself again and again is waited for */
            if (killed || (!taken && backoff_s == 1))
                next = mono_us();
            if (!taken && !killed)
                backoff_s = backoff_s * 2 > BACKOFF_MAX_S ? BACKOFF_MAX_S : backoff_s * 2;
        }
        bool online = local_online(f);
        if (online)
            backoff_s = 1;
        if (a->pid == 0 && !online && (first || mono_us() >= next)) {
            a->pid = agent_spawn(a);
            next = mono_us() + BACKOFF_MAX_S * US_PER_S;
        }
        first = false;
        pthread_mutex_lock(&a->lock);
    }
    pthread_mutex_unlock(&a->lock);
    return NULL;
}

struct local_agent *local_agent_start(struct house *h, const char *socket_path)
{
    struct local_agent *a = mem_alloc(sizeof(*a));
    char *real = realpath(house_data_dir(h), NULL);
    a->house = h;
    a->program = beside_self("drover-agent");
    a->server = mem_printf("unix:%s", socket_path);
    a->data = mem_strdup(real != NULL ? real : house_data_dir(h));
    a->gpu = mem_strdup(app_gpu_source(h));
    a->floor = mem_printf(DISK_FLOOR_NAME "=%lld", (long long)setting_int(h, DISK_FLOOR_NAME));
    free(real);
    pthread_mutex_init(&a->lock, NULL);
    pthread_cond_init(&a->wake, NULL);
    a->runs = pthread_create(&a->thread, NULL, watch_main, a) == 0;
    return a;
}

void local_agent_stop(struct local_agent *a)
{
    if (a == NULL)
        return;
    pthread_mutex_lock(&a->lock);
    a->stop = true;
    pthread_cond_signal(&a->wake);
    pthread_mutex_unlock(&a->lock);
    if (a->runs)
        pthread_join(a->thread, NULL);
    pthread_mutex_destroy(&a->lock);
    pthread_cond_destroy(&a->wake);
    mem_free(a->program);
    mem_free(a->server);
    mem_free(a->data);
    mem_free(a->gpu);
    mem_free(a->floor);
    mem_free(a);
}
