/* drover doctor: one line a check, ✓ or ✗, and under each ✗ the command that mends it.
 *
 * It looks at the server as this user reaches it and at this host as one that runs jobs. What a
 * host does not have and need not have (GPUs, a container engine) is told with a dash: only what
 * keeps a job from running is a fault.
 *
 * What must stay true: nothing is changed but one small file in the folder of data, which is
 * removed again; every check ends within seconds. */
#include "cli/context.h"

#include "base/json.h"
#include "base/str.h"
#include "base/world.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

enum verdict { GOOD, ABSENT, BAD };
static const char *const verdict_names[] = {"ok", "absent", "fault"};
struct finding {
    enum verdict verdict;
    const char *text; /* told */
    const char *mend; /* the way out; NULL: none is needed */
};
struct doctor {
    struct cli *c;
    struct client *client; /* NULL: no address */
    bool reached;
    const struct jv *version, *who;
    int64_t skew_us;
};
#define FOUND(verdict_, mend_, ...)                                                                \
    ((struct finding){verdict_, text_of(&d->c->arena, __VA_ARGS__), mend_})

enum { SKEW_MAX_S = 5, FREE_MIN_MIB = 1024, SLOW_SYNC_MS = 50, FILES_MIN = 4096 };

/* ---- the server ---- */

static struct finding check_server(struct doctor *d)
{
    const char *theirs = jv_get_text(d->version, "version");
    if (!d->reached)
        return FOUND(BAD, "drover serve    # or: export DROVER_URL=http://host:8080",
                     "no server answers at %s",
                     d->client != NULL ? client_server(d->client)->url : "–");
    if (theirs == NULL || strcmp(theirs, DROVER_VERSION) != 0)
        return FOUND(BAD, "tools/build programs    # the same version on both sides",
                     "the server is version %s, this program %s", theirs != NULL ? theirs : "?",
                     DROVER_VERSION);
    return FOUND(GOOD, NULL, "%s answers, version %s", client_server(d->client)->url, theirs);
}

static struct finding check_credential(struct doctor *d)
{
    const char *role = jv_get_text(d->who, "role"), *via = jv_get_text(d->who, "via");
    const char *email = jv_get_text(jv_get(d->who, "user"), "email");
    if (!d->reached)
        return FOUND(ABSENT, NULL, "not known: no server answers");
    if (via == NULL || strcmp(via, "nobody") == 0)
        return FOUND(BAD, "drover login", "the server does not know you");
    return FOUND(GOOD, NULL, "%s, role %s", email != NULL ? email : via, role != NULL ? role : "–");
}

static struct finding check_clock(struct doctor *d)
{
    int64_t seconds = d->skew_us / US_PER_S;
    if (!d->reached)
        return FOUND(ABSENT, NULL, "not known: no server answers");
    if (seconds > SKEW_MAX_S || seconds < -SKEW_MAX_S)
        return FOUND(BAD, "sudo timedatectl set-ntp true",
                     "this clock and the server's differ by %" PRId64 " s", seconds);
    return FOUND(GOOD, NULL, "as the server's");
}

/* ---- this host ---- */

static struct finding check_driver(struct doctor *d)
{
    if (access("/proc/driver/nvidia/version", R_OK) != 0 && access("/dev/nvidiactl", F_OK) != 0)
        return FOUND(ABSENT, NULL, "no NVIDIA driver is loaded: jobs run without GPUs here");
    void *library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    if (library == NULL)
        return FOUND(BAD, "sudo apt-get install libnvidia-ml1",
                     "the driver is loaded, but its library libnvidia-ml.so.1 is missing");
    dlclose(library);
    return FOUND(GOOD, NULL, "the NVIDIA driver and its library are there");
}

static struct finding check_groups(struct doctor *d)
{
    char text[256] = "";
    FILE *f = fopen("/sys/fs/cgroup/cgroup.controllers", "re");
    if (f == NULL) {
        if (access("/sys/fs/cgroup/memory", F_OK) == 0 && access("/sys/fs/cgroup/pids", F_OK) == 0)
            return FOUND(GOOD, NULL, "version 1 with memory and pids");
        return FOUND(BAD, "sudo mount -t cgroup2 none /sys/fs/cgroup",
                     "there are none: memory limits are not enforced");
    }
    if (fgets(text, sizeof(text), f) == NULL)
        text[0] = '\0';
    fclose(f);
    text[strcspn(text, "\n")] = '\0';
    if (strstr(text, "memory") == NULL || strstr(text, "pids") == NULL)
        return FOUND(BAD, "sudo systemctl edit drover    # [Service] Delegate=yes",
                     "version 2, but memory and pids are not delegated (there: %s)", text);
    return FOUND(GOOD, NULL, "version 2: %s", text);
}

static struct finding check_namespaces(struct doctor *d)
{
    int status = -1;
    pid_t pid = fork();
    if (pid == 0)
        _exit(unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0 ? 0 : 1);
    if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status) ||
        WEXITSTATUS(status) != 0)
        return FOUND(BAD, "sudo sysctl -w kernel.unprivileged_userns_clone=1",
                     "this user may make no namespaces: jobs are less isolated");
    return FOUND(GOOD, NULL, "user and mount namespaces can be made");
}

static struct finding check_disk(struct doctor *d)
{
    const char *folder = getenv("DROVER_DATA");
    if (folder == NULL || *folder == '\0')
        folder = access("./data", F_OK) == 0 ? "./data" : ".";
    struct statvfs fs;
    if (statvfs(folder, &fs) != 0)
        return FOUND(BAD, "mkdir -p data", "%s: %s", folder, strerror(errno));
    int64_t free_mib = (int64_t)(fs.f_bavail * fs.f_frsize >> 20);
    if (free_mib < FREE_MIN_MIB)
        return FOUND(BAD, "df -h .    # then remove what is not needed", "%s: only %s is free",
                     folder, text_mib(&d->c->arena, free_mib));
    const char *path = arena_printf(&d->c->arena, "%s/.drover-doctor-%d", folder, (int)getpid());
    AUTO(fd) int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return FOUND(ABSENT, NULL, "%s: %s free; not writable by you", folder,
                     text_mib(&d->c->arena, free_mib));
    int64_t began = mono_us();
    bool synced = write(fd, "drover", 6) == 6 && fsync(fd) == 0;
    int64_t took_ms = (mono_us() - began) / US_PER_MS;
    unlink(path);
    if (!synced)
        return FOUND(BAD, "dmesg | tail", "%s: a write cannot be made durable", folder);
    return FOUND(took_ms > SLOW_SYNC_MS ? ABSENT : GOOD, NULL,
                 "%s: %s free, a durable write takes %" PRId64 " ms", folder,
                 text_mib(&d->c->arena, free_mib), took_ms);
}

static struct finding check_files(struct doctor *d)
{
    struct rlimit r = {0};
    getrlimit(RLIMIT_NOFILE, &r);
    if (r.rlim_max < FILES_MIN)
        return FOUND(BAD, "ulimit -n 65536    # or LimitNOFILE=65536 in the service",
                     "at most %" PRIu64 " open files", (uint64_t)r.rlim_max);
    return FOUND(GOOD, NULL, "at most %" PRIu64 " open files", (uint64_t)r.rlim_max);
}

static bool in_path(const char *program)
{
    char path[4096];
    const char *list = getenv("PATH");
    while (list != NULL && *list != '\0') {
        size_t n = strcspn(list, ":");
        snprintf(path, sizeof(path), "%.*s/%s", (int)n, list, program);
        if (access(path, X_OK) == 0)
            return true;
        list += n + (list[n] == ':');
    }
    return false;
}

static struct finding check_engine(struct doctor *d)
{
    static const char *const engines[] = {"podman", "docker"};
    for (size_t i = 0; i < ARRAY_LEN(engines); i++)
        if (in_path(engines[i]))
            return FOUND(GOOD, NULL, "%s is installed", engines[i]);
    return FOUND(ABSENT, NULL, "neither podman nor docker: jobs with an image do not run here");
}

/* ---- all ---- */

static const struct check {
    const char *name;
    struct finding (*look)(struct doctor *d);
} checks[] = {
    {"server", check_server}, {"sign-in", check_credential},    {"clock", check_clock},
    {"driver", check_driver}, {"control groups", check_groups}, {"namespaces", check_namespaces},
    {"disk", check_disk},     {"open files", check_files},      {"containers", check_engine},
};

static void print_finding(struct cli *c, const struct check *k, const struct finding *f)
{
    static const struct {
        const char *sign;
        enum hue hue;
    } shown[] = {[GOOD] = {"✓", HUE_GREEN}, [ABSENT] = {"–", HUE_DIM}, [BAD] = {"✗", HUE_RED}};
    const char *name = err_tr(k->name);
    size_t width = utf8_width(name);
    printf("%s%s%s %s", hue_on(&c->out, shown[f->verdict].hue), shown[f->verdict].sign,
           hue_off(&c->out, shown[f->verdict].hue), name);
    pad(stdout, width < 16 ? 16 - width : 1);
    printf("%s\n", text_clean(&c->arena, f->text));
    if (f->mend != NULL)
        printf("      %s\n", f->mend);
}

static void print_finding_json(struct json *j, const struct check *k, const struct finding *f)
{
    json_open(j, '{');
    json_ktext(j, "check", k->name);
    json_ktext(j, "verdict", verdict_names[f->verdict]);
    json_ktext(j, "text", f->text);
    json_ktext(j, "mend", f->mend);
    json_close(j, '}');
}

static int run(struct cli *c, const struct parsed *p)
{
    AUTO(client) struct client *client = NULL;
    AUTO(reply) struct reply version = {0}, who = {0};
    AUTO(buf) struct buf b = {0};
    struct json j = json_to(&b);
    struct err e = {0};
    struct doctor d = {.c = c};
    int code = EXIT_DONE;
    if (client_open(c->server, &client, &e) == OK)
        d.client = client;
    struct call ask_version = {.path = "/v1/version", .anonymous = true, .timeout_s = 10};
    struct call ask_who = {.path = "/v1/session", .timeout_s = 10};
    if (client != NULL && client_call(client, &ask_version, &version, &e) == OK) {
        d.reached = true;
        d.version = version.json;
        if (version.date_s != 0)
            d.skew_us = now_us() - version.date_s * US_PER_S;
        if (client_call(client, &ask_who, &who, &e) == OK)
            d.who = who.json;
    }
    json_open(&j, '{');
    json_key(&j, "checks");
    json_open(&j, '[');
    for (size_t i = 0; i < ARRAY_LEN(checks); i++) {
        struct finding f = checks[i].look(&d);
        if (f.verdict == BAD)
            code = EXIT_FAILED_;
        if (c->json)
            print_finding_json(&j, &checks[i], &f);
        else
            print_finding(c, &checks[i], &f);
    }
    json_close(&j, ']');
    json_kbool(&j, "healthy", code == EXIT_DONE);
    json_close(&j, '}');
    if (c->json)
        printf("%s\n", buf_str(&b));
    return code;
}

const struct verb verb_doctor = {
    .name = "doctor",
    .summary = "check the server and this host; say what mends each fault",
    .run = run,
};
