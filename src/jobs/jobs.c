/* Jobs: their tables, submit, find, list, cancel. */
#include "jobs/jobs_parts.h"

#include "base/json.h"
#include "base/log.h"
#include "base/str.h"
#include "base/world.h"
#include "gpu/gpu_types.h"
#include "identity/identity.h"
#include "identity/secrets.h"
#include "placement/placement.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

RECORD(
    job_record, struct job, "jobs", MEMBER(struct job, id, T_ID, .prefix = "j", .doc = "job id"),
    MEMBER(struct job, uuid, T_UUID, .doc = "the same job on the documented surfaces"),
    MEMBER(struct job, name, T_TEXT, .min = 1, .max = 255),
    MEMBER(struct job, kind, T_ENUM, .names = job_kind_names),
    MEMBER(struct job, state, T_ENUM, .names = job_state_names),
    MEMBER(struct job, reason, T_TEXT, .flags = M_NULL | M_TOLD, .doc = "why it is in this state"),
    MEMBER(struct job, owner, T_INT),
    MEMBER(struct job, owner_email, T_TEXT, .doc = "who submitted it"),
    MEMBER(struct job, priority, T_INT, .min = 1, .max = 10), MEMBER(struct job, order_key, T_INT),
    MEMBER(struct job, command, T_TEXTS, .min = 1, .max = 1000, .doc = "program and arguments"),
    MEMBER(struct job, env, T_TEXTMAP, .doc = "environment of the job"),
    MEMBER(struct job, secrets, T_TEXTMAP, .doc = "variables that hold secrets, and their names"),
    MEMBER(struct job, cwd, T_TEXT, .flags = M_NULL, .doc = "working directory"),
    MEMBER(struct job, image, T_TEXT, .flags = M_NULL, .doc = "container image"),
    MEMBER(struct job, gpus, T_INT, .min = 0, .max = 1024, .doc = "GPUs asked for"),
    MEMBER(struct job, gpu_type, T_TEXTS, .doc = "GPU types that will do; empty: any"),
    MEMBER(struct job, cpus, T_INT, .flags = M_NULL, .min = 1, .max = 4096, .doc = "threads"),
    MEMBER(struct job, memory_mib, T_INT, .flags = M_NULL, .min = 1, .max = 1 << 30,
           .doc = "memory limit in MiB"),
    MEMBER(struct job, time_limit_s, T_INT, .flags = M_NULL, .min = 1, .max = 31536000,
           .doc = "time limit in seconds"),
    MEMBER(struct job, grace_s, T_INT, .min = 0, .max = 3600),
    MEMBER(struct job, retries, T_INT, .min = 0, .max = 10, .doc = "further tries after a failure"),
    MEMBER(struct job, attempt, T_INT, .doc = "tries begun so far"),
    MEMBER(struct job, labels, T_TEXTMAP),
    MEMBER(struct job, provider, T_TEXT, .doc = "where it runs: local or a cloud"),
    MEMBER(struct job, node_id, T_ID, .flags = M_NULL, .prefix = "n"),
    MEMBER(struct job, gpu_ids, T_TEXTS, .doc = "GPUs it holds or held last"),
    MEMBER(struct job, exit_code, T_INT, .flags = M_NULL),
    MEMBER(struct job, signal, T_INT, .flags = M_NULL),
    MEMBER(struct job, end_reason, T_ENUM, .flags = M_NULL, .names = end_reason_names,
           .doc = "how it ended"),
    MEMBER(struct job, created_at, T_TIME), MEMBER(struct job, queued_at, T_TIME),
    MEMBER(struct job, started_at, T_TIME, .flags = M_NULL),
    MEMBER(struct job, ended_at, T_TIME, .flags = M_NULL),
    MEMBER(struct job, cancel_requested, T_BOOL),
    MEMBER(struct job, simulated, T_BOOL, .doc = "made up: the demo, not a real run"),
    MEMBER(struct job, progress, T_REAL, .flags = M_NULL),
    MEMBER(struct job, external_id, T_TEXT, .flags = M_NULL),
    MEMBER(struct job, extra, T_JSON, .flags = M_NULL));

RECORD(attempt_record, struct attempt, "job_attempts",
       MEMBER(struct attempt, id, T_ID, .prefix = "a"),
       MEMBER(struct attempt, job_id, T_ID, .prefix = "j"), MEMBER(struct attempt, number, T_INT),
       MEMBER(struct attempt, node_id, T_ID, .flags = M_NULL, .prefix = "n"),
       MEMBER(struct attempt, state, T_ENUM, .names = attempt_state_names),
       MEMBER(struct attempt, pid, T_INT, .flags = M_NULL),
       MEMBER(struct attempt, created_at, T_TIME),
       MEMBER(struct attempt, started_at, T_TIME, .flags = M_NULL),
       MEMBER(struct attempt, ended_at, T_TIME, .flags = M_NULL),
       MEMBER(struct attempt, log_bytes, T_INT, .flags = M_NULL),
       MEMBER(struct attempt, closed, T_BOOL),
       MEMBER(struct attempt, end_reason, T_ENUM, .flags = M_NULL, .names = end_reason_names),
       MEMBER(struct attempt, exit_code, T_INT, .flags = M_NULL),
       MEMBER(struct attempt, signal, T_INT, .flags = M_NULL),
       MEMBER(struct attempt, detail, T_TEXT, .flags = M_NULL | M_TOLD),
       MEMBER(struct attempt, cpu_us, T_INT, .flags = M_NULL),
       MEMBER(struct attempt, max_rss_kib, T_INT, .flags = M_NULL));

static const struct migration jobs_migrations[] = {
    {.id = 6001,
     .name = "jobs and attempts",
     .script =
         "CREATE TABLE jobs(id $ID, uuid $TEXT NOT NULL UNIQUE, name $TEXT NOT NULL,"
         " kind $TEXT NOT NULL, state $TEXT NOT NULL, reason $TEXT, owner $INT NOT NULL,"
         " owner_email $TEXT NOT NULL, priority $INT NOT NULL, order_key $INT NOT NULL,"
         " command $TEXT NOT NULL, env $TEXT, cwd $TEXT, image $TEXT, gpus $INT NOT NULL,"
         " gpu_type $TEXT, cpus $INT, memory_mib $INT, time_limit_s $INT, grace_s $INT NOT NULL,"
         " retries $INT NOT NULL, attempt $INT NOT NULL, labels $TEXT, provider $TEXT NOT NULL,"
         " node_id $INT, gpu_ids $TEXT, exit_code $INT, signal $INT, end_reason $TEXT,"
         " created_at $INT NOT NULL, queued_at $INT NOT NULL, started_at $INT, ended_at $INT,"
         " cancel_requested $INT NOT NULL, simulated $INT NOT NULL, progress $REAL,"
         " external_id $TEXT, extra $TEXT);"
         /* only what is alive: a history of millions costs the scheduler nothing */
         "CREATE INDEX jobs_queue ON jobs(provider, order_key, id) WHERE state = 'queued';"
         "CREATE INDEX jobs_alive ON jobs(state, id)"
         " WHERE state IN ('queued', 'starting', 'running', 'cancelling', 'unknown');"
         "CREATE INDEX jobs_owner ON jobs(owner, id);"
         "CREATE INDEX jobs_ended ON jobs(ended_at) WHERE ended_at IS NOT NULL;"
         "CREATE TABLE job_attempts(id $ID, job_id $INT NOT NULL REFERENCES jobs(id),"
         " number $INT NOT NULL, node_id $INT, state $TEXT NOT NULL, pid $INT,"
         " created_at $INT NOT NULL, started_at $INT, ended_at $INT, log_bytes $INT,"
         " closed $INT NOT NULL, end_reason $TEXT, exit_code $INT, signal $INT, detail $TEXT,"
         " cpu_us $INT, max_rss_kib $INT);"
         "CREATE INDEX job_attempts_job ON job_attempts(job_id, number);"
         "CREATE UNIQUE INDEX job_attempts_live ON job_attempts(job_id) WHERE state <> 'ended';"
         "CREATE INDEX job_attempts_open ON job_attempts(node_id, id) WHERE closed = 0;"},
    {.id = 6020,
     .name = "secrets of jobs",
     .script = "ALTER TABLE jobs ADD COLUMN secrets $TEXT NOT NULL DEFAULT '{}'",
     .min_compatible = 6001},
    {0},
};
static const struct record *const jobs_records[] = {&job_record, &attempt_record, NULL};

static const struct setting jobs_settings[] = {
    {"PRIORITY_AGING", NULL, SET_DURATION_S, "30m",
     .doc = "waiting this long is worth one point of priority"},
    {"JOB_LOG_MAX_BYTES", NULL, SET_INT, "2147483648", 4096, INT64_MAX / 2,
     .doc = "output of one attempt that is kept; what is over is dropped and counted"},
};

/* ---- the module ---- */

struct jobs *jobs_of(const struct house *h)
{
    return house_state(h, &jobs_module);
}

struct logs *jobs_logs(struct jobs *jobs)
{
    return jobs->logs;
}

static int describe_job(struct tx *tx, int64_t id, struct arena *a, struct holder_text *out,
                        struct err *e)
{
    struct rows *r = tx_query(tx,
                              "SELECT name, owner_email, owner, kind, progress, started_at, uuid,"
                              " (SELECT t.id FROM job_attempts t WHERE t.job_id = jobs.id AND"
                              " t.state <> 'ended') FROM jobs WHERE id = ?1",
                              ARGS(v_int(id)));
    char text[ID_TEXT_SIZE];
    if (rows_next(r)) {
        *out = (struct holder_text){.id = arena_strdup(a, id_text("j", id, text)),
                                    .uuid = arena_strdup(a, row_text(r, 6)),
                                    .name = arena_strdup(a, row_text(r, 0)),
                                    .owner = arena_strdup(a, row_text(r, 1)),
                                    .owner_id = row_int(r, 2),
                                    .task_type = "training",
                                    .progress = row_real(r, 4),
                                    .started_at = row_int(r, 5),
                                    .attempt = row_int(r, 7)};
        if (strcmp(row_text(r, 3), "preprocess") == 0)
            out->task_type = "preprocessing";
    }
    return rows_end(r, e);
}
static const struct holder_ops job_holder = {describe_job};

static user_delete_fn cancel_all_of;

static int jobs_start(struct house *h, void **state, struct err *e)
{
    struct jobs *jobs = mem_alloc(sizeof(*jobs));
    jobs->house = h;
    jobs->fleet = fleet_of(h);
    jobs->aging_us = setting_int(h, "PRIORITY_AGING") * US_PER_S;
    jobs->log_max_bytes = setting_int(h, "JOB_LOG_MAX_BYTES");
    pthread_mutex_init(&jobs->lock, NULL);
    pthread_cond_init(&jobs->wake, NULL);
    *state = jobs;
    AUTO(mem) char *dir = mem_printf("%s/logs", house_data_dir(h));
    const struct logs_settings settings = {.floor_mib = setting_int(h, DISK_FLOOR_NAME)};
    int rc = logs_open(dir, &settings, &jobs->logs, e);
    if (rc != OK)
        return rc;
    fleet_holder_register(jobs->fleet, HOLDER_JOB, &job_holder);
    fleet_link_ops(jobs->fleet, &jobs_link_ops, jobs);
    identity_on_delete(cancel_all_of);
    jobs->due = true;
    jobs->runs = pthread_create(&jobs->thread, NULL, scheduler_main, jobs) == 0;
    return OK;
}

static void jobs_stop(struct house *h, void *state)
{
    struct jobs *jobs = state;
    if (jobs == NULL)
        return;
    pthread_mutex_lock(&jobs->lock);
    jobs->stop = true;
    pthread_cond_signal(&jobs->wake);
    pthread_mutex_unlock(&jobs->lock);
    if (jobs->runs)
        pthread_join(jobs->thread, NULL);
    logs_close(jobs->logs);
    jobs_clouds_fini(jobs);
    pthread_mutex_destroy(&jobs->lock);
    pthread_cond_destroy(&jobs->wake);
    mem_free(jobs);
}

void jobs_wake(struct jobs *jobs)
{
    pthread_mutex_lock(&jobs->lock);
    jobs->due = true;
    pthread_cond_signal(&jobs->wake);
    pthread_mutex_unlock(&jobs->lock);
}

static const struct histogram_bounds duration_bounds = {
    9, {1, 10, 60, 300, 1800, 3600, 4 * 3600, 24 * 3600, 7 * 24 * 3600}};

static void count_duration(struct jobs *jobs, const struct event *ev)
{
    static const char key[] = "\"ran_ms\":";
    const char *ran = ev->data != NULL ? strstr(ev->data, key) : NULL;
    if (ran != NULL && strcmp(ev->type, "job.status.changed") == 0)
        histogram_add(&jobs->durations, &duration_bounds,
                      strtoll(ran + sizeof(key) - 1, NULL, 10) * 1000);
}

static void on_event(struct house *h, void *state, const struct event *ev)
{
    if (state != NULL)
        count_duration(state, ev);
    if (state != NULL)
        jobs_wake(state);
}

static int counts_tx(struct tx *tx, void *ctx, struct err *e)
{
    return job_counts(tx, ctx, e);
}

static void jobs_metrics(struct house *h, void *state, struct buf *out)
{
    struct job_counts c;
    struct err e = {0};
    if (store_read(house_store(h), counts_tx, &c, &e) != OK)
        return;
    buf_adds(out, "# HELP gpuplat_jobs Jobs that are alive, and ended in the last day.\n"
                  "# TYPE gpuplat_jobs gauge\n");
    for (int s = 0; s < JOB_COMPLETED; s++)
        buf_printf(out, "gpuplat_jobs{kind=\"all\",status=\"%s\"} %lld\n", job_state_names[s],
                   (long long)c.by_state[s]);
    buf_printf(out,
               "gpuplat_jobs{kind=\"all\",status=\"completed_24h\"} %lld\n"
               "gpuplat_jobs{kind=\"all\",status=\"failed_24h\"} %lld\n"
               "# HELP gpuplat_queue_depth Jobs that wait.\n# TYPE gpuplat_queue_depth gauge\n"
               "gpuplat_queue_depth{queue=\"local\"} %lld\n",
               (long long)c.completed_24h, (long long)c.failed_24h,
               (long long)c.by_state[JOB_QUEUED]);
    buf_adds(out, "# HELP gpuplat_job_duration_seconds Run time of jobs that ended, since the "
                  "start.\n# TYPE gpuplat_job_duration_seconds histogram\n");
    histogram_print(&((struct jobs *)state)->durations, &duration_bounds,
                    "gpuplat_job_duration_seconds", "", out);
}

static const char *jobs_ready(struct house *h, void *state, struct arena *a)
{
    struct jobs *jobs = state;
    return jobs->runs ? "ok" : "the scheduler's thread does not run";
}

static const struct subscription jobs_subscriptions[] = {
    {"job.", on_event},
    {"node.", on_event},
    {"hardware.", on_event},
};
static const struct duty jobs_duties[] = {
    {.name = "nodes that are silent", .every_ms = 2000, .fn = jobs_check_nodes},
    {.name = "logs left open", .every_ms = 5000, .fn = jobs_close_attempts},
    {.name = "jobs at providers", .every_ms = 500, .fn = jobs_follow_clouds},
};
const struct module jobs_module = {
    .name = "jobs",
    .migrations = jobs_migrations,
    .records = jobs_records,
    .settings = jobs_settings,
    .n_settings = ARRAY_LEN(jobs_settings),
    .subscriptions = jobs_subscriptions,
    .n_subscriptions = ARRAY_LEN(jobs_subscriptions),
    .duties = jobs_duties,
    .n_duties = ARRAY_LEN(jobs_duties),
    .texts = jobs_texts,
    .metrics = jobs_metrics,
    .ready = jobs_ready,
    .ready_name = "scheduler",
    .start = jobs_start,
    .stop = jobs_stop,
};

/* ---- priorities ---- */

static const struct {
    const char *word;
    int64_t value;
} priority_rows[] = {{"urgent", PRIORITY_URGENT},
                     {"high", PRIORITY_HIGH},
                     {"normal", PRIORITY_NORMAL},
                     {"low", PRIORITY_LOW}};

const char *priority_word(int64_t priority)
{
    for (size_t i = 0; i < ARRAY_LEN(priority_rows); i++)
        if (priority >= priority_rows[i].value)
            return priority_rows[i].word;
    return "low";
}

int64_t priority_parse(const char *s)
{
    for (size_t i = 0; i < ARRAY_LEN(priority_rows); i++)
        if (str_eq_nocase(priority_rows[i].word, s))
            return priority_rows[i].value;
    int64_t v;
    return str_int(s, &v) && v >= 1 && v <= 10 ? v : 0;
}

/* ---- submit ---- */

int64_t job_counted_cpus(const struct job *j)
{
    return j->cpus != INT_NULL ? j->cpus : j->gpus == 0 ? 1 : 0;
}

/* Refused at once when no node of the fleet could ever run it: better than waiting for ever. */
static int check_possible(struct tx *tx, struct jobs *jobs, const struct job *j, struct arena *a,
                          struct err *e)
{
    AUTO(fleet_snapshot) const struct fleet_snapshot *s = fleet_snapshot_get(jobs->fleet);
    if (s->n_nodes == 0)
        return OK; /* a fleet that is still to come: the job waits for it */
    struct place_node *nodes = arena_alloc(a, s->n_nodes * sizeof(*nodes));
    for (size_t i = 0; i < s->n_nodes; i++) {
        nodes[i] = (struct place_node){.id = s->nodes[i].node.id,
                                       .name = s->nodes[i].node.name,
                                       .cpus_total = s->nodes[i].node.cpus,
                                       .memory_total_mib = s->nodes[i].node.memory_mib};
        nodes[i].gpus = arena_alloc(a, (s->nodes[i].n_gpus + 1) * sizeof(*nodes[i].gpus));
        for (size_t k = 0; k < s->n_gpus && nodes[i].n_gpus < s->nodes[i].n_gpus; k++)
            if (s->gpus[k].node_id == nodes[i].id)
                nodes[i].gpus[nodes[i].n_gpus++] = (struct place_gpu){.id = s->gpus[k].id,
                                                                      .type = s->gpus[k].type};
    }
    struct place_request r = {.gpus = j->gpus,
                              .types = j->gpu_type.items,
                              .n_types = j->gpu_type.n,
                              .cpus = j->cpus != INT_NULL ? j->cpus : 0,
                              .memory_mib = j->memory_mib != INT_NULL ? j->memory_mib : 0};
    char reason[200];
    if (placement_possible(nodes, s->n_nodes, &r, reason))
        return OK;
    AUTO(buf) struct buf told = {0};
    err_retell(&told, reason);
    return err_set(e, ERR_NO_CAPACITY, "cannot run here: %s", buf_str(&told));
}

static const char *name_from_command(const struct texts *command, struct arena *a)
{
    const char *first = command->n > 0 ? command->items[0] : "job";
    const char *slash = strrchr(first, '/');
    first = slash != NULL && slash[1] != '\0' ? slash + 1 : first;
    return *first != '\0' ? arena_strndup(a, first, utf8_fit(first, 60)) : "job";
}

static int64_t wanted(int64_t v)
{
    return v > 0 ? v : INT_NULL;
}

int job_submit(struct tx *tx, const struct job_spec *spec, const struct principal *who,
               struct arena *a, struct job *out, struct err *e)
{
    struct jobs *jobs = jobs_of(tx_house(tx));
    char uuid[UUID_TEXT_SIZE], actor[400];
    int64_t now = now_us();
    struct job j = {
        .uuid = arena_strdup(a, uuid_v7(uuid)),
        .name = spec->name != NULL && *spec->name != '\0' ? spec->name
                                                          : name_from_command(&spec->command, a),
        .kind = spec->kind,
        .state = JOB_QUEUED,
        .owner = who->user_id,
        .owner_email = who->user_id != 0 ? who->email : "local",
        .priority = spec->priority > 0 ? spec->priority : PRIORITY_NORMAL,
        .command = spec->command,
        .env = spec->env,
        .secrets = spec->secrets,
        .labels = spec->labels,
        .cwd = spec->cwd,
        .image = spec->image,
        .gpus = spec->gpus,
        .cpus = wanted(spec->cpus),
        .memory_mib = wanted(spec->memory_mib),
        .time_limit_s = wanted(spec->time_limit_s),
        .grace_s = spec->grace_s > 0 ? spec->grace_s : GRACE_DEFAULT_S,
        .retries = spec->retries,
        .provider = spec->provider != NULL ? spec->provider : "local",
        .exit_code = INT_NULL,
        .signal = INT_NULL,
        .end_reason = -1,
        .created_at = now,
        .queued_at = now,
        .progress = NAN,
        .extra = spec->extra,
        .simulated = spec->simulated,
    };
    if (j.command.items == NULL)
        j.command.items = arena_alloc(a, sizeof(char *));
    if (j.secrets.keys == NULL)
        j.secrets.keys = j.secrets.values = arena_alloc(a, sizeof(char *));
    j.gpu_type = (struct texts){.items = arena_alloc(a, (spec->gpu_type.n + 1) * sizeof(char *)),
                                .n = spec->gpu_type.n};
    for (size_t i = 0; i < spec->gpu_type.n; i++) {
        char type[GPU_TYPE_SIZE];
        j.gpu_type.items[i] = arena_strdup(a, gpu_type_of(spec->gpu_type.items[i], type));
    }
    j.order_key = placement_order_key(now, j.priority, jobs->aging_us);
    int rc = OK;
    char *text; /* it must be there and open now: who submits hears of it, not a dead job */
    for (size_t i = 0; rc == OK && i < j.secrets.n; i++)
        rc = secret_get(tx, j.owner, j.secrets.values[i], tx_arena(tx), &text, e);
    if (rc != OK)
        return rc;
    if (strcmp(j.provider, "local") == 0) {
        if (j.gpus > PLACE_GPUS_MAX)
            return err_set(e, ERR_NO_CAPACITY, "cannot run here: no node has %lld GPUs",
                           (long long)j.gpus);
        rc = check_possible(tx, jobs, &j, a, e);
    }
    if (rc == OK)
        rc = record_insert(tx, &job_record, &j, &j.id, e);
    if (rc == OK)
        rc = job_event_emit(tx, &j, "job.created", -1, principal_text(who, actor), a, e);
    if (rc == OK)
        *out = j;
    return rc;
}

int job_using_secret(struct tx *tx, int64_t owner, const char *name, int64_t *job, struct err *e)
{
    struct arena *a = tx_arena(tx);
    struct list live;
    int rc = record_list(tx, &job_record,
                         "WHERE owner = ?1 AND secrets <> '{}' AND state IN ('queued', 'starting',"
                         " 'running', 'cancelling', 'unknown')",
                         ARGS(v_int(owner)), a, &live, e);
    *job = 0;
    for (size_t i = 0; rc == OK && i < live.n; i++) {
        const struct job *j = (const struct job *)live.items + i;
        for (size_t k = 0; k < j->secrets.n; k++)
            if (strcmp(j->secrets.values[k], name) == 0)
                *job = j->id;
    }
    return rc;
}

/* ---- find, list, count ---- */

int job_get(struct tx *tx, int64_t id, struct arena *a, struct job *out, struct err *e)
{
    char text[ID_TEXT_SIZE];
    bool found;
    int rc = record_get(tx, &job_record, "WHERE id = ?1", ARGS(v_int(id)), a, out, &found, e);
    if (rc == OK && !found)
        return err_set(e, ERR_NOT_FOUND, "no job %s", id_text("j", id, text));
    return rc;
}

int job_find(struct tx *tx, const char *ref, const struct principal *who, struct arena *a,
             struct job *out, struct err *e)
{
    int64_t id;
    bool found = false;
    struct job j;
    int rc = OK;
    if (id_parse("j", ref, &id))
        rc = record_get(tx, &job_record, "WHERE id = ?1", ARGS(v_int(id)), a, &j, &found, e);
    else if (uuid_is(ref))
        rc = record_get(tx, &job_record, "WHERE uuid = ?1", ARGS(v_text(ref)), a, &j, &found, e);
    if (rc != OK)
        return rc;
    if (!found || !principal_sees(who, j.owner))
        return err_set(e, ERR_NOT_FOUND, "no job %s", ref);
    *out = j;
    return OK;
}

enum { FILTER_ARGS = 24 };

/* The WHERE of a filter; args has room for FILTER_ARGS. */
static size_t filter_where(const struct job_filter *f, struct buf *sql, struct value *args)
{
    size_t n = 0;
    buf_adds(sql, "WHERE 1=1");
    if (f->owner > 0 || !f->everyone) {
        args[n++] = v_int(f->owner > 0 ? f->owner : f->who->user_id);
        buf_printf(sql, " AND owner = ?%zu", n);
    }
    if (f->states != 0) {
        buf_adds(sql, " AND state IN (");
        bool first = true;
        for (int s = 0; s < JOB_STATES; s++)
            if (f->states >> s & 1) {
                buf_printf(sql, "%s'%s'", first ? "" : ",", job_state_names[s]);
                first = false;
            }
        buf_addc(sql, ')');
    }
    if (f->provider != NULL) {
        args[n++] = v_text(f->provider);
        buf_printf(sql, " AND provider = ?%zu", n);
    }
    if (f->text != NULL && *f->text != '\0') {
        int64_t id;
        if (id_parse("j", f->text, &id)) {
            args[n++] = v_int(id);
            buf_printf(sql, " AND id = ?%zu", n);
        } else {
            args[n++] = v_text(f->text);
            /* instr and strpos are not shared by the engines; LIKE with an escape is */
            buf_printf(sql,
                       " AND lower(name) LIKE '%%' || replace(replace(replace(lower(?%zu), '!', "
                       "'!!'), '%%', '!%%'), '_', '!_') || '%%' ESCAPE '!'",
                       n);
        }
    }
    if (f->before > 0) {
        args[n++] = v_int(f->before);
        buf_printf(sql, " AND id < ?%zu", n);
    }
    return n;
}

int job_list(struct tx *tx, const struct job_filter *f, struct arena *a, struct list *out,
             struct err *e)
{
    struct value args[FILTER_ARGS];
    AUTO(buf) struct buf sql = {0};
    size_t n = filter_where(f, &sql, args);
    args[n] = v_int(f->limit);
    args[n + 1] = v_int(f->skip);
    buf_printf(&sql, " ORDER BY id DESC LIMIT ?%zu OFFSET ?%zu", n + 1, n + 2);
    return record_list(tx, &job_record, sql_intern(buf_str(&sql), "", ""), args, n + 2, a, out, e);
}

int job_count(struct tx *tx, const struct job_filter *f, int64_t *out, struct err *e)
{
    struct value args[FILTER_ARGS];
    AUTO(buf) struct buf sql = {0};
    size_t n = filter_where(f, &sql, args);
    return tx_int(tx, sql_intern("SELECT count(*) FROM jobs ", buf_str(&sql), ""), args, n, out,
                  NULL, e);
}

int job_position(struct tx *tx, const struct job *j, int64_t *out, struct err *e)
{
    if (j->state != JOB_QUEUED) {
        *out = -1;
        return OK;
    }
    return tx_int(tx,
                  "SELECT count(*) FROM jobs WHERE state = 'queued' AND provider = ?1"
                  " AND (order_key < ?2 OR (order_key = ?2 AND id < ?3))",
                  ARGS(v_text(j->provider), v_int(j->order_key), v_int(j->id)), out, NULL, e);
}

int job_positions(struct tx *tx, const struct list *jobs, int64_t *out, struct err *e)
{
    const struct job *j = jobs->items;
    struct map at = {0}; /* id → place in the list + 1 */
    char key[24], provider[64] = "";
    for (size_t i = 0; i < jobs->n; i++) {
        out[i] = -1;
        if (j[i].state != JOB_QUEUED)
            continue;
        snprintf(key, sizeof(key), "%lld", (long long)j[i].id);
        map_put(&at, key, (void *)(uintptr_t)(i + 1));
    }
    if (at.n == 0)
        return OK;
    size_t left = at.n;
    int64_t ahead = 0;
    struct rows *r = tx_query(tx,
                              "SELECT provider, id FROM jobs WHERE state = 'queued'"
                              " ORDER BY provider, order_key, id LIMIT ?1",
                              ARGS(v_int(JOB_POSITIONS_MAX)));
    while (left > 0 && rows_next(r)) {
        if (strcmp(provider, row_text(r, 0)) != 0) {
            snprintf(provider, sizeof(provider), "%s", row_text(r, 0));
            ahead = 0;
        }
        snprintf(key, sizeof(key), "%lld", (long long)row_int(r, 1));
        uintptr_t i = (uintptr_t)map_get(&at, key);
        if (i > 0) {
            out[i - 1] = ahead;
            left--;
        }
        ahead++;
    }
    map_fini(&at);
    return rows_end(r, e);
}

int job_attempts(struct tx *tx, int64_t job, struct arena *a, struct list *out, struct err *e)
{
    return record_list(tx, &attempt_record, "WHERE job_id = ?1 ORDER BY number", ARGS(v_int(job)),
                       a, out, e);
}

int job_last_attempt(struct tx *tx, int64_t job, int64_t *attempt, struct err *e)
{
    bool found;
    int64_t id = 0;
    int rc = tx_int(tx,
                    "SELECT id FROM job_attempts WHERE job_id = ?1 ORDER BY number DESC LIMIT 1",
                    ARGS(v_int(job)), &id, &found, e);
    if (rc == OK)
        *attempt = found ? id : 0;
    return rc;
}

int job_counts(struct tx *tx, struct job_counts *out, struct err *e)
{
    struct job_counts c = {0};
    struct rows *r = tx_query(tx,
                              "SELECT state, count(*) FROM jobs WHERE state IN ('queued',"
                              " 'starting', 'running', 'cancelling', 'unknown') GROUP BY state",
                              NO_ARGS);
    while (rows_next(r)) {
        int s = names_find(job_state_names, row_text(r, 0));
        if (s >= 0)
            c.by_state[s] = row_int(r, 1);
    }
    int rc = rows_end(r, e);
    if (rc != OK)
        return rc;
    r = tx_query(tx, "SELECT state, count(*) FROM jobs WHERE ended_at > ?1 GROUP BY state",
                 ARGS(v_int(now_us() - 24 * 3600 * US_PER_S)));
    while (rows_next(r)) {
        int s = names_find(job_state_names, row_text(r, 0));
        if (s == JOB_COMPLETED)
            c.completed_24h += row_int(r, 1);
        else if (s == JOB_FAILED || s == JOB_TIMEOUT)
            c.failed_24h += row_int(r, 1);
        if (s >= JOB_COMPLETED)
            c.by_state[s] = row_int(r, 1);
    }
    rc = rows_end(r, e);
    if (rc == OK)
        *out = c;
    return rc;
}

/* ---- cancel ---- */

int job_cancel(struct tx *tx, int64_t id, const struct principal *who, int64_t grace_s,
               struct arena *a, struct job *out, bool *changed, struct err *e)
{
    struct jobs *jobs = jobs_of(tx_house(tx));
    char actor[400];
    struct job j;
    int rc = job_get(tx, id, a, &j, e);
    if (rc != OK)
        return rc;
    *changed = false;
    if (job_ended(j.state)) {
        *out = j;
        return OK;
    }
    principal_text(who, actor);
    struct attempt at;
    bool live = false;
    if ((rc = attempt_live(tx, id, a, &at, &live, e)) != OK)
        return rc;
    int64_t grace = grace_s >= 0 ? grace_s : j.grace_s;
    if (j.state != JOB_CANCELLING) {
        j.cancel_requested = true;
        *changed = true;
        const char *why = arena_printf(a, "cancelled by %s", actor);
        rc = job_step(tx, &j, live || j.external_id != NULL ? JOB_EV_CANCEL : JOB_EV_WITHDRAW,
                      actor, why, a, e);
    }
    if (rc == OK && live)
        send_stop(tx, jobs, at.node_id, at.id, "cancelled", grace * US_PER_S);
    if (rc == OK)
        *out = j;
    return rc;
}

/* Whose account is deleted has no running jobs afterwards. */
static int cancel_all_of(struct tx *tx, int64_t user_id, const struct principal *who, struct err *e)
{
    struct arena *a = tx_arena(tx);
    struct list live = {0};
    int rc = record_list(
        tx, &job_record,
        "WHERE owner = ?1 AND state IN ('queued', 'starting', 'running', 'unknown')",
        ARGS(v_int(user_id)), a, &live, e);
    const struct job *jobs = live.items;
    for (size_t i = 0; i < live.n && rc == OK; i++) {
        struct job j;
        bool changed;
        rc = job_cancel(tx, jobs[i].id, who, -1, a, &j, &changed, e);
    }
    return rc;
}
