/* Choosing a job's user, its devices and what is hidden from it. What must stay true: a number
 * that stands for a user of Drover is never another's; nothing is told to be in force that the
 * launcher has not tried out. */
#include "agent/isolation.h"

#include "agent/agent.h"
#include "agent/shim/cell.h"
#include "base/log.h"
#include "base/str.h"

#include <dirent.h>
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#define ACCOUNT "drover-job" /* used when the host has it and no other was named */

bool isolation_parse(const char *word, enum isolation *out)
{
    static const char *const words[] = {"off", "basic", "strict"};
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (str_eq(word, words[i])) {
            *out = (enum isolation)i;
            return true;
        }
    return false;
}

static void hide(struct isolating *i, const char *path)
{
    if (path != NULL && *path == '/' && i->n_hide < JOB_HIDE_MAX)
        i->hide[i->n_hide++] = mem_strdup(path);
}

int isolation_begin(struct isolating *i, const struct agent_config *config, const char *data,
                    const char *agent, struct err *e)
{
    /* Doors to more than a job should have; which of them are there depends on the host. */
    static const char *const doors[] = {"/etc/drover",
                                        "/run/user",
                                        "/run/docker.sock",
                                        "/run/podman",
                                        "/run/containerd",
                                        "/run/systemd/private",
                                        "/run/dbus/system_bus_socket"};
    enum { PROCESSES_LEAST = 4096, PROCESSES_A_CPU = 256, PROCESSES_MOST = 65536 };
    struct sysinfo host;
    struct passwd p, *found = NULL;
    char space[4096];
    *i = (struct isolating){.mode = config->isolation,
                            .root = geteuid() == 0,
                            .profiling = config->profiling,
                            .local = config->local,
                            .tmp_mib = 1024};
    int64_t most = PROCESSES_LEAST + PROCESSES_A_CPU * (int64_t)sysconf(_SC_NPROCESSORS_ONLN);
    i->processes = most < PROCESSES_MOST ? most : PROCESSES_MOST;
    if (sysinfo(&host) == 0) /* a quarter of the machine's memory */
        i->tmp_mib = (int64_t)((uint64_t)host.totalram * host.mem_unit >> 22);
    i->tmp_mib = i->tmp_mib > 16 ? i->tmp_mib : 16;
    const char *want = config->job_user != NULL ? config->job_user : ACCOUNT;
    getpwnam_r(want, &p, space, sizeof(space), &found);
    if (found == NULL && config->job_user != NULL)
        return err_set(e, ERR_INVALID, "there is no account %s to run jobs with", want);
    if (found != NULL && found->pw_uid == 0)
        return err_set(e, ERR_INVALID, "jobs cannot run as %s: --isolation off does that", want);
    i->account = found != NULL ? mem_strdup(want) : NULL;
    hide(i, data);
    hide(i, config->to.unix_path);
    hide(i, config->token_file);
    for (size_t k = 0; k < ARRAY_LEN(doors); k++)
        hide(i, doors[k]);
    snprintf(i->homes, sizeof(i->homes), "%s/work", agent);
    if (mkdir(i->homes, 0711) != 0 && errno != EEXIST)
        return err_sys(e, "cannot make %s", i->homes);
    snprintf(i->homes, sizeof(i->homes), "%s/homes", agent);
    if (i->root && i->mode == ISOLATION_STRICT &&
        ((mkdir(i->homes, 0711) != 0 && errno != EEXIST) || chmod(i->homes, 0711) != 0))
        return err_sys(e, "cannot make %s", i->homes);
    return OK;
}

void isolation_end(struct isolating *i)
{
    for (size_t k = 0; k < i->n_hide; k++)
        mem_free((char *)i->hide[k]);
    mem_free((char *)i->account);
    *i = (struct isolating){.mode = ISOLATION_OFF};
}

void isolation_write(const struct isolating *i, struct json *to)
{
    bool strict = i->mode == ISOLATION_STRICT, spaces = i->facts & CELL_SPACES;
    const struct {
        const char *word;
        bool holds;
    } rows[] = {{"user", strict && (i->facts & CELL_USER)},
                {"mount", spaces},
                {"pid", spaces},
                {"ipc", spaces},
                {"devices", spaces},
                {"tmp", spaces && strict},
                {"no_new_privs", i->facts & CELL_PRIVILEGES},
                {"capabilities", i->facts & CELL_PRIVILEGES},
                {"seccomp", i->facts & CELL_CALLS}};
    json_open(to, '[');
    for (size_t k = 0; k < ARRAY_LEN(rows); k++)
        if (rows[k].holds)
            json_text(to, rows[k].word);
    json_close(to, ']');
}

/* ---- the job's user ---- */

static int use_account(const char *name, struct job_user *u, struct err *e)
{
    enum { GROUPS_MAX = 100 };
    struct passwd p, *found = NULL;
    char space[4096];
    gid_t groups[GROUPS_MAX];
    int n = GROUPS_MAX;
    getpwnam_r(name, &p, space, sizeof(space), &found);
    if (found == NULL)
        return err_set(e, ERR_NOT_FOUND, "this node has no account %s any more", name);
    u->uid = found->pw_uid;
    u->gid = found->pw_gid;
    snprintf(u->name, sizeof(u->name), "%s", name);
    snprintf(u->home, sizeof(u->home), "%s", found->pw_dir);
    n = getgrouplist(name, found->pw_gid, groups, &n) < 0 ? GROUPS_MAX : n;
    for (size_t k = 0, at = 0; k < (size_t)n && at + 12 < sizeof(u->groups); k++)
        at += (size_t)snprintf(u->groups + at, sizeof(u->groups) - at, "%s%u", k > 0 ? "," : "",
                               (unsigned)groups[k]);
    return OK;
}

int isolation_user(const struct isolating *i, const struct jv *start, const char *otherwise_home,
                   const char *otherwise_name, struct job_user *out, struct err *e)
{
    struct job_user u = {.uid = 0};
    char path[sizeof(i->homes) + 32];
    int64_t owner = jv_get_int(start, "owner", 0);
    snprintf(u.home, sizeof(u.home), "%s", otherwise_home);
    snprintf(u.name, sizeof(u.name), "%s", otherwise_name);
    if (i->mode == ISOLATION_STRICT && (i->facts & CELL_USER)) {
        int k = OK;
        if (i->account != NULL) {
            k = use_account(i->account, &u, e);
        } else if (owner < 0 || owner >= JOB_UIDS) {
            k = err_set(e, ERR_INVALID, "user %lld has no number on this node", (long long)owner);
        } else {
            u.uid = u.gid = JOB_UID_FIRST + owner;
            snprintf(u.name, sizeof(u.name), "%s%.0lld", owner == 0 ? "local" : "u-",
                     (long long)owner);
            snprintf(u.home, sizeof(u.home), "/tmp");
        }
        if (k != OK)
            return k;
        snprintf(path, sizeof(path), "%s/%lld", i->homes, (long long)u.uid);
        if (i->account == NULL && (i->facts & CELL_SPACES) &&
            (mkdir(path, 0700) == 0 || errno == EEXIST) &&
            chown(path, (uid_t)u.uid, (gid_t)u.gid) == 0) {
            u.kept_home = true;
            snprintf(u.home, sizeof(u.home), "%s", CELL_HOME);
        }
    }
    *out = u;
    return OK;
}

/* ---- devices ---- */

/* The minor number of a GPU by its uuid, as its driver tells; -1: not told. */
static int nvidia_minor(const char *uuid)
{
    static const char folder[] = "/proc/driver/nvidia/gpus";
    char path[512], text[2048];
    int minor = -1;
    DIR *d = opendir(folder);
    for (struct dirent *f; d != NULL && minor < 0 && (f = readdir(d)) != NULL;) {
        snprintf(path, sizeof(path), "%s/%.200s/information", folder, f->d_name);
        if (f->d_name[0] == '.' || file_head(path, text, sizeof(text) - 1) == 0 ||
            strstr(text, uuid) == NULL)
            continue;
        const char *at = strstr(text, "Device Minor:");
        if (at != NULL)
            sscanf(at, "Device Minor: %d", &minor);
    }
    if (d != NULL)
        closedir(d);
    return minor;
}

static void put_devices(const struct jv *start, const struct attempt *a, struct buf *to)
{
    const struct jv *uuids = jv_get(start, "gpu_uuids");
    bool amd = access("/dev/kfd", F_OK) == 0;
    if (a->n_gpus == 0 || jv_get_bool(start, "simulated", false))
        return;
    buf_adds(to, amd ? "devices=kfd"
                     : "devices=nvidiactl,nvidia-uvm,nvidia-uvm-tools,nvidia-modeset,nvidia-caps");
    buf_adds(to, ",infiniband");
    for (int k = 0; k < a->n_gpus; k++) {
        const char *uuid = jv_text(jv_at(uuids, (size_t)k), NULL);
        int minor = uuid != NULL && *uuid != '\0' ? nvidia_minor(uuid) : -1;
        minor = minor >= 0 ? minor : a->gpus[k];
        if (amd)
            buf_printf(to, ",dri/renderD%d", 128 + minor);
        else
            buf_printf(to, ",nvidia%d", minor);
    }
    buf_addc(to, '\0');
}

/* ---- the spec ---- */

static void put_number(struct buf *to, const char *key, int64_t v)
{
    if (v == 0)
        return;
    buf_printf(to, "%s=%lld", key, (long long)v);
    buf_addc(to, '\0');
}

static void put_text(struct buf *to, const char *key, const char *v)
{
    buf_printf(to, "%s=%s", key, v);
    buf_addc(to, '\0');
}

void isolation_spec(const struct isolating *i, const struct jv *start, const struct job_user *user,
                    const char *cwd, bool made, const struct attempt *a, struct buf *to)
{
    char number[32];
    bool host_person = i->local && jv_get_int(start, "owner", -1) == 0;
    if (i->mode == ISOLATION_OFF)
        return;
    put_number(to, "isolation", i->mode);
    put_number(to, "uid", user->uid);
    put_number(to, "gid", user->gid);
    put_number(to, "nproc", i->processes);
    put_number(to, "tmp_mib", i->tmp_mib);
    put_number(to, "profiling", i->profiling);
    if (user->groups[0] != '\0')
        put_text(to, "groups", user->groups);
    if (user->kept_home) {
        snprintf(number, sizeof(number), "%lld", (long long)user->uid);
        put_text(to, "home", number);
    }
    if (i->facts & CELL_SPACES)
        put_devices(start, a, to);
    /* What the agent's own user may see anyway, or who speaks as the host's root, is shown where it
     * works; anybody else's wish for a folder opens no folder. */
    if (cwd != NULL && (user->uid == 0 || host_person || made)) {
        put_text(to, "show", cwd);
        put_number(to, "own", user->uid != 0);
    }
}
