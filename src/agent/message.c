/* JSON of the link. A message with a wrong member is refused as a whole: half a limit is worse
 * than no start. */
#include "agent/message.h"

#include "base/str.h"
#include "base/world.h"
#include "io/json_in.h"

#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Bounds on what a server may ask, so that sums and products stay in range on the node. */
#define TIME_MAX_US     (INT64_C(10) * 366 * 86400 * US_PER_S)
#define MEMORY_MAX_MIB  (INT64_C(1) << 30)
#define COUNT_MAX       INT64_C(4000000)
#define LOG_MAX_BYTES   (INT64_C(1) << 44)
#define LOG_LEAST_BYTES 4096
enum { SAMPLE_LEAST_MS = 50, SAMPLE_MOST_MS = 3600 * 1000 };
enum { SILENT_LEAST_MS = 1000, SILENT_MOST_MS = 3600 * 1000 };

/* ---- reading ---- */

static const char *const kinds[] = {"welcome", "start", "stop",        "log_from", "log_ack",
                                    "forget",  "bye",   "stream_open", "refused"};
_Static_assert(ARRAY_LEN(kinds) == MESSAGE_KINDS, "a name for each");

/* A whole number in range; absent or null gives `otherwise`. */
static int whole(const struct jv *o, const char *name, int64_t least, int64_t most,
                 int64_t otherwise, int64_t *out, struct err *e)
{
    const struct jv *v = jv_get(o, name);
    if (jv_kind(v) == JV_NULL) {
        *out = otherwise;
        return OK;
    }
    if (jv_kind(v) != JV_INT || jv_int(v) < least || jv_int(v) > most)
        return err_set(e, ERR_INVALID, "%s must be a whole number from %lld to %lld", name,
                       (long long)least, (long long)most);
    *out = jv_int(v);
    return OK;
}

static int text(const struct jv *v, const char *name, const char **out, struct err *e)
{
    size_t n;
    const char *s = jv_text(v, &n);
    if (s == NULL || strlen(s) != n)
        return err_set(e, ERR_INVALID, "%s must be a text without NUL", name);
    *out = s;
    return OK;
}

static int read_members(struct message *m, struct err *e)
{
    const struct jv *o = m->root;
    int64_t offset = 0;
    int k = OK;
    switch (m->kind) {
    case MESSAGE_WELCOME:
        k = whole(o, "node", 0, INT64_MAX, 0, &m->node, e);
        if (k == OK)
            k = whole(o, "sample_ms", SAMPLE_LEAST_MS, SAMPLE_MOST_MS, 1000, &m->sample_ms, e);
        if (k == OK)
            k = whole(o, "silent_ms", SILENT_LEAST_MS, SILENT_MOST_MS, SILENT_MS, &m->silent_ms, e);
        return k;
    case MESSAGE_START:
        m->attempt = jv_get(o, "attempt");
        if (jv_kind(m->attempt) != JV_OBJECT)
            return err_set(e, ERR_INVALID, "a start needs an attempt");
        o = m->attempt;
        break;
    case MESSAGE_BYE:
        return OK;
    case MESSAGE_REFUSED:
        err_code(&m->refusal, ERR_FORBIDDEN,
                 jv_get_text(o, "code") != NULL ? jv_get_text(o, "code") : "", "%.400s",
                 jv_get_text(o, "text") != NULL ? jv_get_text(o, "text") : "no reason");
        return OK;
    case MESSAGE_STOP:
        k = whole(o, "grace_us", 0, TIME_MAX_US, 0, &m->grace_us, e);
        m->why = str_eq(jv_get_text(o, "reason"), "preempted") ? STOP_PREEMPTED : STOP_CANCELLED;
        break;
    case MESSAGE_LOG_FROM:
    case MESSAGE_LOG_ACK:
        k = whole(o, "offset", 0, INT64_MAX, 0, &offset, e);
        m->offset = (uint64_t)offset;
        break;
    case MESSAGE_STREAM_OPEN:
        k = text(jv_get(o, "stream"), "stream", &m->stream, e);
        m->request = jv_get(o, "request");
        if (k == OK && jv_kind(m->request) != JV_OBJECT)
            k = err_set(e, ERR_INVALID, "a stream needs a request");
        break;
    case MESSAGE_FORGET:
    case MESSAGE_KINDS:
        break;
    }
    if (k == OK)
        k = whole(o, "id", 1, ATTEMPT_ID_MAX, 0, &m->id, e);
    if (k == OK && m->id == 0)
        k = err_set(e, ERR_INVALID, "the attempt's id is missing");
    return k;
}

int message_read(const char *data, size_t n, struct message *out, struct err *e)
{
    struct message m = {.kind = MESSAGE_KINDS};
    int k = jv_parse(data, n, &m.root, NULL, e);
    if (k != OK)
        return k;
    const char *type = jv_kind(m.root) == JV_OBJECT ? jv_get_text(m.root, "type") : NULL;
    for (int i = 0; type != NULL && i < MESSAGE_KINDS; i++)
        if (str_eq(type, kinds[i]))
            m.kind = (enum message_kind)i;
    if (m.kind == MESSAGE_KINDS)
        k = err_set(e, ERR_INVALID, "unknown message type %.60s", type != NULL ? type : "(none)");
    else
        k = read_members(&m, e);
    if (k == OK)
        *out = m;
    else
        message_fini(&m);
    return k;
}

void message_fini(struct message *m)
{
    jv_free(m->root);
    m->root = NULL;
}

/* ---- a start becomes a spec ---- */

void node_user_find(struct node_user *u)
{
    struct passwd p, *found = NULL;
    char space[4096];
    struct stat st;
    getpwuid_r(getuid(), &p, space, sizeof(space), &found);
    if (found != NULL)
        snprintf(u->user, sizeof(u->user), "%s", found->pw_name);
    else
        snprintf(u->user, sizeof(u->user), "%u", (unsigned)getuid());
    snprintf(u->home, sizeof(u->home), "%s",
             found != NULL && stat(found->pw_dir, &st) == 0 && S_ISDIR(st.st_mode) &&
                     access(found->pw_dir, X_OK) == 0
                 ? found->pw_dir
                 : "/tmp");
}

static void put(struct buf *to, const char *key, const char *value)
{
    buf_printf(to, "%s=%s", key, value);
    buf_addc(to, '\0');
}

static void put_number(struct buf *to, const char *key, int64_t v)
{
    buf_printf(to, "%s=%lld", key, (long long)v);
    buf_addc(to, '\0');
}

static void put_env(struct buf *to, const char *name, const char *value)
{
    buf_printf(to, "env=%s=%s", name, value);
    buf_addc(to, '\0');
}

/* Variables that Drover sets and a job cannot change: they say what was leased. */
static const char *const own_variables[] = {
    "DROVER_JOB_ID", "DROVER_ATTEMPT",       "DROVER_ATTEMPT_ID",     "DROVER_GPUS",
    "DROVER_RUN",    "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"};

static bool own_variable(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(own_variables); i++)
        if (str_eq(name, own_variables[i]))
            return true;
    return false;
}

static int put_job_env(const struct jv *env, const struct job_user *user, struct buf *to,
                       struct err *e)
{
    const struct {
        const char *name, *value;
    } base[] = {{"PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
                {"HOME", user->home},
                {"USER", user->name},
                {"LOGNAME", user->name},
                {"LANG", "C.UTF-8"}};
    if (jv_kind(env) != JV_NULL && jv_kind(env) != JV_OBJECT)
        return err_set(e, ERR_INVALID, "env must be an object of texts");
    for (size_t i = 0; i < ARRAY_LEN(base); i++)
        if (env == NULL || jv_get(env, base[i].name) == NULL)
            put_env(to, base[i].name, base[i].value);
    const char *name;
    const struct jv *v;
    for (const void *it = NULL; env != NULL && (it = jv_next(env, it, &name, &v)) != NULL;) {
        const char *value = NULL;
        int k = text(v, "an environment variable", &value, e);
        if (k != OK)
            return k;
        if (*name == '\0' || strchr(name, '=') != NULL)
            return err_set(e, ERR_INVALID, "\"%.60s\" is not a name of a variable", name);
        if (!own_variable(name))
            put_env(to, name, value);
    }
    return OK;
}

static int put_argv(const struct jv *argv, struct buf *to, struct err *e)
{
    if (jv_kind(argv) != JV_LIST || jv_len(argv) == 0 || jv_len(argv) > SPEC_WORDS_MAX / 2)
        return err_set(e, ERR_INVALID, "argv must be a list of 1 to %d texts", SPEC_WORDS_MAX / 2);
    for (size_t i = 0; i < jv_len(argv); i++) {
        const char *word = NULL;
        int k = text(jv_at(argv, i), "an argument", &word, e);
        if (k == OK && i == 0 && *word == '\0')
            k = err_set(e, ERR_INVALID, "the command is an empty text");
        if (k != OK)
            return k;
        put(to, "arg", word);
    }
    return OK;
}

/* The leased GPUs: by uuid where they are real, so that another driver order cannot mix them up. */
static int put_gpus(const struct jv *o, struct attempt *a, struct buf *to, struct err *e)
{
    AUTO(buf) struct buf indexes = {0}, names = {0};
    const struct jv *list = jv_get(o, "gpus"), *uuids = jv_get(o, "gpu_uuids");
    bool simulated = jv_get_bool(o, "simulated", false);
    size_t n = jv_kind(list) == JV_LIST ? jv_len(list) : 0;
    if (n > ATTEMPT_GPUS_MAX)
        return err_set(e, ERR_INVALID, "a node has at most %d GPUs", ATTEMPT_GPUS_MAX);
    a->n_gpus = 0;
    for (size_t i = 0; i < n; i++) {
        const struct jv *v = jv_at(list, i);
        if (jv_kind(v) != JV_INT || jv_int(v) < 0 || jv_int(v) > 100000)
            return err_set(e, ERR_INVALID, "gpus must be a list of indexes");
        const char *uuid = NULL;
        if (!simulated && jv_kind(uuids) == JV_LIST && jv_len(uuids) == n)
            uuid = jv_text(jv_at(uuids, i), NULL);
        a->gpus[a->n_gpus++] = (int)jv_int(v);
        buf_printf(&indexes, "%s%d", i > 0 ? "," : "", (int)jv_int(v));
        if (uuid != NULL && *uuid != '\0' && strchr(uuid, ',') == NULL)
            buf_printf(&names, "%s%s", i > 0 ? "," : "", uuid);
        else
            buf_printf(&names, "%s%d", i > 0 ? "," : "", (int)jv_int(v));
    }
    if (n > 0)
        put(to, "gpus", buf_str(&indexes));
    put_env(to, "DROVER_GPUS", buf_str(&indexes));
    /* An empty list, not an absent one: a job sees no GPU that it did not lease. */
    put_env(to, "CUDA_VISIBLE_DEVICES", buf_str(&names));
    put_env(to, "NVIDIA_VISIBLE_DEVICES", buf_str(&names));
    return OK;
}

static int put_limits(const struct jv *o, const struct groups *g, const struct isolating *isolating,
                      int64_t id, struct buf *to, struct err *e)
{
    /* A bound on processes costs nothing in a v2 group, and a millisecond in one of its own. */
    bool bound = isolating->mode != ISOLATION_OFF && str_eq(g->pids, g->tree) && *g->pids != '\0';
    int64_t processes = bound ? isolating->processes : 0;
    const struct {
        const char *name;
        int64_t least, most, otherwise;
    } rows[] = {{"time_limit_us", 1, TIME_MAX_US, 0},
                {"grace_us", 0, TIME_MAX_US, 10 * US_PER_S},
                {"log_max_bytes", LOG_LEAST_BYTES, LOG_MAX_BYTES, INT64_C(1) << 30},
                {"memory_mib", 1, MEMORY_MAX_MIB, 0},
                {"pids_max", 1, COUNT_MAX, processes},
                {"cpus", 1, COUNT_MAX, 0}};
    int64_t v[ARRAY_LEN(rows)];
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int k = whole(o, rows[i].name, rows[i].least, rows[i].most, rows[i].otherwise, &v[i], e);
        if (k != OK)
            return k;
        put_number(to, rows[i].name, v[i]);
    }
    groups_spec(g, id, v[3] > 0, v[4] > 0, v[5] > 0, to);
    return OK;
}

int start_read(const struct jv *o, const struct groups *groups, const struct node_user *node,
               const struct isolating *isolating, struct attempt *a, struct buf *spec,
               struct err *e)
{
    char job[64];
    const char *cwd = NULL;
    struct job_user user;
    const struct jv *id = jv_get(o, "job"), *where = jv_get(o, "cwd");
    if (jv_kind(jv_get(o, "image")) != JV_NULL)
        return err_set(e, ERR_INVALID,
                       "this node runs plain processes, not containers: submit without an image, "
                       "or choose a provider that runs images");
    if (jv_kind(id) == JV_TEXT)
        snprintf(job, sizeof(job), "%s", jv_text(id, NULL));
    else
        snprintf(job, sizeof(job), "j-%lld", (long long)jv_int(id));
    int64_t number;
    int k = whole(o, "number", 1, COUNT_MAX, 1, &number, e);
    if (k == OK && jv_kind(where) != JV_NULL)
        k = text(where, "cwd", &cwd, e);
    if (k == OK && cwd != NULL && *cwd != '/')
        k = err_set(e, ERR_INVALID, "cwd must be an absolute path, not %.200s", cwd);
    if (k == OK)
        k = isolation_user(isolating, o, node->home, node->user, &user, e);
    if (k != OK)
        return k;
    spec->max = SPEC_MAX;
    buf_add(spec, SPEC_FIRST, sizeof(SPEC_FIRST));
    put_number(spec, "id", a->id);
    bool work = cwd == NULL && node->work != NULL && *node->work != '\0';
    if (work)
        cwd = node->work; /* the node made it for this job */
    put(spec, "cwd", cwd != NULL ? cwd : user.home);
    k = put_limits(o, groups, isolating, a->id, spec, e);
    if (k == OK)
        k = put_gpus(o, a, spec, e);
    if (k == OK)
        isolation_spec(isolating, o, &user, cwd, work, a, spec);
    if (k == OK)
        k = put_argv(jv_get(o, "argv"), spec, e);
    if (k == OK)
        k = put_job_env(jv_get(o, "env"), &user, spec, e);
    if (k != OK)
        return k;
    char text_of_id[32], text_of_try[32];
    snprintf(text_of_id, sizeof(text_of_id), "%lld", (long long)a->id);
    snprintf(text_of_try, sizeof(text_of_try), "%lld", (long long)number);
    put_env(spec, "DROVER_JOB_ID", job);
    put_env(spec, "DROVER_ATTEMPT", text_of_try);
    put_env(spec, "DROVER_ATTEMPT_ID", text_of_id);
    buf_add(spec, SPEC_LAST, sizeof(SPEC_LAST));
    if (spec->overflow)
        return err_set(e, ERR_TOO_LARGE, "the command and its environment are too long");
    return OK;
}

/* ---- writing ---- */

void hello_write(const struct hello *h, struct json *to)
{
    const struct groups *g = h->groups;
    const struct {
        const char *name;
        bool works;
    } limits[] = {{"memory", g->memory[0] != '\0'},
                  {"pids", g->pids[0] != '\0'},
                  {"cpu", g->cpu[0] != '\0'},
                  {"kill", g->kill}};
    json_open(to, '{');
    json_ktext(to, "type", "hello");
    json_ktext(to, "version", DROVER_VERSION);
    json_kint(to, "link", LINK_REVISION);
    json_key(to, "node");
    json_open(to, '{');
    json_ktext(to, "name", h->name);
    json_ktext(to, "boot_id", h->boot_id);
    json_ktext(to, "os", h->host->os);
    json_ktext(to, "kernel", h->host->kernel);
    json_kint(to, "cpus", h->host->cpus);
    json_kint(to, "memory_mib", h->host->memory_mib);
    json_ktext(to, "cgroups", g->version);
    json_key(to, "enforces");
    json_open(to, '[');
    for (size_t i = 0; i < ARRAY_LEN(limits); i++)
        if (limits[i].works)
            json_text(to, limits[i].name);
    json_close(to, ']');
    json_key(to, "isolation");
    isolation_write(h->isolating, to);
    json_ktext(to, "gpu_note", h->gpu_note);
    json_close(to, '}');
    json_key(to, "attempts");
    json_open(to, '[');
}

static void known(struct json *to, const char *key, int64_t v)
{
    v == GPU_UNKNOWN ? json_knull(to, key) : json_kint(to, key, v);
}

static void text_or_null(struct json *to, const char *key, const char *s)
{
    json_ktext(to, key, *s != '\0' ? s : NULL);
}

static void write_process(const struct gpu_process *p, struct gpu_use *use, struct json *to)
{
    json_open(to, '{');
    json_kint(to, "pid", p->pid);
    text_or_null(to, "name", p->name);
    known(to, "memory_mib", p->memory_mib);
    known(to, "sm_percent", p->sm_percent);
    json_ktext(to, "kind", (const char[]){p->kind, '\0'});
    if (p->dead)
        json_kbool(to, "dead", true);
    const struct gpu_user *whose = p->dead ? NULL : gpu_use_of(use, p->pid);
    if (whose != NULL && whose->attempt >= 0)
        json_kint(to, "attempt", whose->attempt);
    if (whose != NULL)
        json_ktext(to, "user", whose->user);
    json_close(to, '}');
}

/* What is unknown is left out: most GPUs do not know most of it. */
static void write_facts(const struct gpu_facts *g, struct json *to)
{
    const struct {
        const char *key, *text;
    } texts[] = {{"serial", g->serial},
                 {"vbios", g->vbios},
                 {"bus", g->bus},
                 {"profile", g->profile},
                 {"topology", g->topology}};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        if (texts[i].text[0] != '\0')
            json_ktext(to, texts[i].key, texts[i].text);
    if (g->parent >= 0)
        json_kint(to, "parent", g->parent);
    if (g->ecc_uncorrected != GPU_UNKNOWN)
        json_kint(to, "ecc_uncorrected", g->ecc_uncorrected);
    json_key(to, "numbers");
    json_open(to, '{');
    for (int i = 0; i < GPU_NUMBERS; i++)
        if (g->numbers[i] != GPU_UNKNOWN)
            json_kint(to, gpu_numbers[i].name, g->numbers[i]);
    json_close(to, '}');
    json_key(to, "links");
    json_open(to, '[');
    for (int i = 0; i < g->n_links; i++) {
        const struct gpu_link *l = &g->links[i];
        const int64_t row[] = {l->active,     l->version,  l->replays,
                               l->recoveries, l->flit_crc, l->data_crc};
        json_open(to, '[');
        for (size_t k = 0; k < ARRAY_LEN(row); k++)
            json_int(to, row[k]);
        json_close(to, ']');
    }
    json_close(to, ']');
    json_key(to, "xids");
    json_open(to, '[');
    for (int i = 0; i < g->n_xids; i++) {
        json_open(to, '[');
        json_int(to, g->xids[i].code);
        json_int(to, g->xids[i].at_us);
        json_close(to, ']');
    }
    json_close(to, ']');
}

/* by: which other agent has it; NULL: none. */
static void write_gpu(const struct gpu_facts *g, const char *by, struct gpu_use *use,
                      struct json *to)
{
    json_open(to, '{');
    json_kint(to, "index", g->index);
    json_ktext(to, "uuid", g->uuid);
    json_ktext(to, "name", g->name);
    known(to, "memory_total_mib", g->memory_total_mib);
    known(to, "memory_used_mib", g->memory_used_mib);
    known(to, "utilization", g->utilization_percent);
    known(to, "memory_utilization", g->memory_utilization_percent);
    known(to, "temperature_c", g->temperature_c);
    known(to, "memory_temperature_c", g->memory_temperature_c);
    known(to, "power_w", g->power_w);
    known(to, "power_limit_w", g->power_limit_w);
    text_or_null(to, "driver", g->driver);
    text_or_null(to, "cuda", g->cuda);
    json_ktext(to, "state", gpu_state_name(g->state));
    text_or_null(to, "note", by != NULL ? by : g->note);
    if (by != NULL)
        json_kbool(to, "held", true);
    json_kint(to, "age_ms", g->age_ms);
    json_key(to, "processes");
    json_open(to, '[');
    for (int i = 0; i < g->n_processes; i++)
        write_process(&g->processes[i], use, to);
    json_close(to, ']');
    write_facts(g, to);
    json_close(to, '}');
}

void sample_write(const struct gpu_sample *gpus, struct claims *claims, struct gpu_use *use,
                  struct host_meter *meter, const char *disk, struct json *to)
{
    json_open(to, '{');
    json_ktext(to, "type", "sample");
    json_kint(to, "at", now_us());
    json_kbool(to, "simulated", gpus->simulated);
    json_key(to, "host");
    host_sample(meter, disk, to);
    json_key(to, "gpus");
    json_open(to, '[');
    for (int i = 0; i < gpus->n; i++) {
        char by[GPU_NOTE_SIZE];
        bool ours = gpus->simulated || claims_take(claims, gpus->gpus[i].uuid, by);
        write_gpu(&gpus->gpus[i], ours ? NULL : by, use, to);
    }
    json_close(to, ']');
    json_close(to, '}');
}

void log_frame_head(int64_t id, uint64_t offset, uint8_t to[LOG_FRAME_HEAD])
{
    to[0] = 'L';
    for (int i = 0; i < 8; i++) {
        to[1 + i] = (uint8_t)((uint64_t)id >> (8 * i));
        to[9 + i] = (uint8_t)(offset >> (8 * i));
    }
}
