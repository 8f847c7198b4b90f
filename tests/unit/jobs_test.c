/* Jobs from submit to end, over a real store in memory and a link that the test plays: every row
 * of the table of states by real calls, every other pair refused, repeated and late reports, and a
 * long seeded walk after each step of which leases and live attempts must say the same. */
#include "base/log.h"
#include "base/str.h"
#include "base/world.h"
#include "fleet/fleet_parts.h"
#include "gpu/gpu.h"
#include "jobs/jobs_parts.h"
#include "placement/placement.h"
#include "providers/providers.h"

#include "test.h"

#include <dirent.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- a clock that stands still unless told, so that no duty comes by itself ---- */

static _Atomic int64_t clock_us = INT64_C(1760000000) * 1000000;
static int64_t test_now(void)
{
    return atomic_fetch_add(&clock_us, 1);
}
static int64_t test_mono(void)
{
    return 1;
}
static uint64_t seed;
static uint64_t below(uint64_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed % n;
}
static _Atomic uint64_t noise = 88172645463325252;
static void test_random(void *to, size_t n)
{
    /* mixed: ids are made of it, and a mere sequence repeats its bytes before long */
    for (size_t i = 0; i < n; i++) {
        uint64_t v = atomic_fetch_add(&noise, 0x9e3779b97f4a7c15);
        v = (v ^ v >> 30) * 0xbf58476d1ce4e5b9;
        v = (v ^ v >> 27) * 0x94d049bb133111eb;
        ((unsigned char *)to)[i] = (unsigned char)(v >> 56);
    }
}
static const struct world test_world = {test_now, test_mono, test_random};

/* ---- the house ---- */

static const struct module *const modules[] = {&event_module, &fleet_module, &jobs_module,
                                               &providers_module, NULL};
struct fixture {
    struct house *house;
    struct jobs *jobs;
    struct arena arena;
    char dir[64];
};
static struct fixture t;
static const struct principal local = {.via = VIA_UNIX, .role = ROLE_ADMIN};

static void remove_tree(const char *dir)
{
    DIR *d = opendir(dir);
    for (struct dirent *f; d != NULL && (f = readdir(d)) != NULL;) {
        char path[600];
        snprintf(path, sizeof(path), "%s/%s", dir, f->d_name);
        if (f->d_name[0] != '.' && unlink(path) != 0)
            remove_tree(path);
    }
    if (d != NULL)
        closedir(d);
    rmdir(dir);
}

/* The scheduler runs when the test says so. */
static void stop_scheduler(struct jobs *jobs)
{
    pthread_mutex_lock(&jobs->lock);
    jobs->stop = true;
    pthread_cond_signal(&jobs->wake);
    pthread_mutex_unlock(&jobs->lock);
    pthread_join(jobs->thread, NULL);
    jobs->runs = false;
}

static void up(void)
{
    struct err e = {0};
    world_set(&test_world);
    snprintf(t.dir, sizeof(t.dir), "/tmp/drover-jobs-test-XXXXXX");
    CHECK(mkdtemp(t.dir) != NULL);
    CHECK_OK(house_create(modules, &t.house, &e), &e);
    setting_override(t.house, "DATA_DIR", t.dir);
    setting_override(t.house, "DATABASE_URL", "sqlite:///:memory:");
    setting_override(t.house, "API_WORKERS", "2");
    setting_override(t.house, "PROVIDER_SIMULATE", "on");
    CHECK_OK(house_start(t.house, &e), &e);
    t.jobs = jobs_of(t.house);
    stop_scheduler(t.jobs);
}

static void down(void)
{
    house_stop(t.house);
    house_destroy(t.house);
    arena_fini(&t.arena);
    remove_tree(t.dir);
    t = (struct fixture){0};
    world_set(NULL);
}

/* ---- what the test does to it ---- */

static struct jv *json(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static struct jv *json(const char *fmt, ...)
{
    char text[32768];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    struct jv *v = NULL;
    struct err e = {0};
    CHECK_OK(jv_parse(text, strlen(text), &v, NULL, &e), &e);
    return v;
}

struct call {
    int64_t id, node;
    const struct job_spec *spec;
    const struct jv *message;
    struct job job;
    struct attempt attempt;
    enum job_event on;
    bool found;
    const char *sql;
    int64_t number;
};

static int hello_tx(struct tx *tx, void *ctx, struct err *e)
{
    struct call *c = ctx;
    return node_hello(tx, c->message, false, &c->node, e);
}

/* A node says hello with what it runs ("[]" or "[{"id":…}]") and shows its GPUs. */
static int64_t node_up(const char *name, int gpus, const char *attempts)
{
    struct err e = {0};
    struct jv *hello = json("{\"node\":{\"name\":\"%s\",\"cpus\":16,\"memory_mib\":64000}}", name);
    struct call c = {.message = hello};
    CHECK_OK(store_tx(house_store(t.house), hello_tx, &c, &e), &e);
    jv_free(hello);
    char text[4096] = "";
    for (int i = 0; i < gpus; i++)
        snprintf(text + strlen(text), sizeof(text) - strlen(text),
                 "%s{\"index\":%d,\"uuid\":\"%s-%d\",\"name\":\"Tesla T4\",\"state\":\"ok\","
                 "\"memory_total_mib\":16000}",
                 i > 0 ? "," : "", i, name, i);
    struct jv *sample = json("{\"gpus\":[%s]}", text);
    live_take(t.jobs->fleet, c.node, sample);
    jv_free(sample);
    fleet_refresh(t.jobs->fleet);
    struct jv *list = json("{\"attempts\":%s}", attempts);
    jobs_link_ops.online(t.jobs, c.node, list);
    jv_free(list);
    return c.node;
}

static void node_down(int64_t node)
{
    jobs_link_ops.offline(t.jobs, node);
}

static void node_silent(int64_t node)
{
    node_down(node);
    atomic_fetch_add(&clock_us, UNREACHABLE_AFTER_US + US_PER_S);
    jobs_check_nodes(t.house, t.jobs);
}

static int submit_tx(struct tx *tx, void *ctx, struct err *e)
{
    struct call *c = ctx;
    return job_submit(tx, c->spec, &local, &t.arena, &c->job, e);
}

static int64_t submit_spec(const struct job_spec *spec)
{
    struct err e = {0};
    struct call c = {.spec = spec};
    CHECK_OK(store_tx(house_store(t.house), submit_tx, &c, &e), &e);
    return c.job.id;
}

static const char *words[] = {"true"};
static int64_t submit(int64_t gpus, int64_t retries)
{
    return submit_spec(&(struct job_spec){
        .command = {words, 1}, .gpus = gpus, .retries = retries, .time_limit_s = 60});
}

static int cancel_tx(struct tx *tx, void *ctx, struct err *e)
{
    struct call *c = ctx;
    return job_cancel(tx, c->id, &local, -1, &t.arena, &c->job, &c->found, e);
}

static bool cancel(int64_t id)
{
    struct err e = {0};
    struct call c = {.id = id};
    CHECK_OK(store_tx(house_store(t.house), cancel_tx, &c, &e), &e);
    return c.found;
}

static int get_tx(struct tx *tx, void *ctx, struct err *e)
{
    struct call *c = ctx;
    int rc = job_get(tx, c->id, &t.arena, &c->job, e);
    if (rc == OK)
        rc = attempt_live(tx, c->id, &t.arena, &c->attempt, &c->found, e);
    return rc;
}

static struct call get(int64_t id)
{
    struct err e = {0};
    struct call c = {.id = id};
    CHECK_OK(store_read(house_store(t.house), get_tx, &c, &e), &e);
    return c;
}

static int number_tx(struct tx *tx, void *ctx, struct err *e)
{
    struct call *c = ctx;
    return tx_int(tx, c->sql, NO_ARGS, &c->number, NULL, e);
}

static int64_t number(const char *sql)
{
    struct err e = {0};
    struct call c = {.sql = sql};
    CHECK_OK(store_read(house_store(t.house), number_tx, &c, &e), &e);
    return c.number;
}

static void report_to(int64_t node, int64_t attempt, const char *rest)
{
    struct jv *v = json("{\"type\":\"attempt\",\"id\":%lld,%s}", (long long)attempt, rest);
    jobs_link_ops.attempts(t.jobs, node, (const struct jv *const *)&v, 1);
    jv_free(v);
}

#define RUNNING  "\"state\":\"running\",\"pid\":77,\"started_at\":1760000000000000"
#define ACCEPTED "\"state\":\"accepted\""
#define ENDED(exit_, bytes)                                                                        \
    "\"state\":\"ended\",\"started_at\":1760000000000000,\"log_bytes\":" bytes ",\"exit\":{" exit_ \
    "}"
#define DONE    ENDED("\"reason\":\"exited\",\"code\":0", "0")
#define FAILED  ENDED("\"reason\":\"exited\",\"code\":3", "0")
#define LATE    ENDED("\"reason\":\"timed_out\",\"signal\":15", "0")
#define STOPPED ENDED("\"reason\":\"cancelled\",\"signal\":15", "0")
#define LOST    ENDED("\"reason\":\"supervisor_lost\"", "0")
#define REFUSED "\"state\":\"refused\",\"exit\":{\"detail\":\"no such program\"}"

static void report(int64_t job, const char *rest)
{
    struct call c = get(job);
    CHECK(c.found);
    report_to(c.attempt.node_id, c.attempt.id, rest);
}

static void pass(void)
{
    jobs_schedule(t.jobs);
}

static void state_is(int64_t job, enum job_state want)
{
    struct call c = get(job);
    CHECK_STR(job_state_names[c.job.state], job_state_names[want]);
}

/* ---- the invariant ---- */

static int invariant_tx(struct tx *tx, void *ctx, struct err *e)
{
    struct arena a = {0};
    struct map held = {0};
    struct list jobs;
    int rc = record_list(tx, &job_record,
                         "WHERE id IN (SELECT job_id FROM job_attempts WHERE state <> 'ended')",
                         NO_ARGS, &a, &jobs, e);
    for (size_t i = 0; rc == OK && i < jobs.n; i++) {
        const struct job *j = (const struct job *)jobs.items + i;
        CHECK(!job_ended(j->state) && j->state != JOB_QUEUED);
        CHECK_INT(j->gpu_ids.n, j->gpus);
        for (size_t k = 0; k < j->gpu_ids.n; k++)
            CHECK(map_put(&held, j->gpu_ids.items[k], (void *)(uintptr_t)j->id) == NULL);
    }
    struct rows *r = tx_query(tx, "SELECT gpu_id, holder_id, milli, holder_kind FROM gpu_leases",
                              NO_ARGS);
    while (rows_next(r)) {
        CHECK_INT((uintptr_t)map_del(&held, row_text(r, 0)), row_int(r, 1));
        CHECK_INT(row_int(r, 2), 1000);
        CHECK_STR(row_text(r, 3), "job");
    }
    if (rc == OK)
        rc = rows_end(r, e);
    else
        rows_end(r, NULL);
    CHECK_INT(held.n, 0);
    map_fini(&held);
    arena_fini(&a);
    /* a job that is neither waiting nor over has exactly one live attempt */
    int64_t n = 0;
    if (rc == OK)
        rc = tx_int(tx,
                    "SELECT count(*) FROM jobs j WHERE state IN ('starting', 'running',"
                    " 'cancelling', 'unknown') AND (SELECT count(*) FROM job_attempts t"
                    " WHERE t.job_id = j.id AND t.state <> 'ended') <> 1",
                    NO_ARGS, &n, NULL, e);
    CHECK_INT(n, 0);
    return rc;
}

static void invariant(void)
{
    struct err e = {0};
    CHECK_OK(store_read(house_store(t.house), invariant_tx, NULL, &e), &e);
}

/* ---- which rows of the table were walked, from the events ---- */

static int covered_tx(struct tx *tx, void *ctx, struct err *e)
{
    bool(*seen)[JOB_STATES] = ctx;
    struct rows *r = tx_query(tx, "SELECT data FROM events WHERE type = 'job.status.changed'",
                              NO_ARGS);
    while (rows_next(r)) {
        struct jv *v = json("%s", row_text(r, 0));
        int from = names_find(job_state_names, jv_get_text(v, "from"));
        int to = names_find(job_state_names, jv_get_text(v, "to"));
        CHECK(from >= 0 && to >= 0 && from != to);
        seen[from][to] = true;
        jv_free(v);
    }
    return rows_end(r, e);
}

static void terminal_events_are_one_each(void)
{
    /* counted by words of the event's data: each ended job has exactly one, others none */
    CHECK_INT(number("SELECT count(*) FROM jobs j WHERE (state IN ('completed', 'failed',"
                     " 'timeout', 'cancelled')) <> ((SELECT count(*) FROM events v WHERE"
                     " v.type = 'job.status.changed' AND v.source_id = 'j-' || j.id AND"
                     " (v.data LIKE '%\"to\":\"completed\"%' OR v.data LIKE '%\"to\":\"failed\"%'"
                     " OR v.data LIKE '%\"to\":\"timeout\"%' OR"
                     " v.data LIKE '%\"to\":\"cancelled\"%')))"),
              0);
}

TEST(every_row_of_the_table_is_reached)
{
    up();
    int64_t n = node_up("alpha", 8, "[]"), j;
    /* waiting */
    j = submit(1, 0);
    CHECK(cancel(j));
    state_is(j, JOB_CANCELLED);
    /* starting */
    static const struct {
        int64_t retries;
        const char *said;
        enum job_state want;
    } from_starting[] = {
        {0, RUNNING, JOB_RUNNING},   {0, DONE, JOB_COMPLETED}, {0, FAILED, JOB_FAILED},
        {1, FAILED, JOB_QUEUED},     {0, LATE, JOB_TIMEOUT},   {3, REFUSED, JOB_FAILED},
        {0, ACCEPTED, JOB_STARTING},
    };
    for (size_t i = 0; i < ARRAY_LEN(from_starting); i++) {
        j = submit(1, from_starting[i].retries);
        pass();
        state_is(j, JOB_STARTING);
        report(j, from_starting[i].said);
        state_is(j, from_starting[i].want);
        cancel(j);
        if (get(j).found)
            report(j, STOPPED);
        invariant();
    }
    static const struct {
        int64_t retries;
        const char *said;
        enum job_state want;
    } from_running[] = {
        {0, DONE, JOB_COMPLETED}, {0, FAILED, JOB_FAILED}, {2, FAILED, JOB_QUEUED},
        {5, LATE, JOB_TIMEOUT},   {5, LOST, JOB_FAILED},
    };
    for (int away = 0; away < 2; away++)
        for (size_t i = 0; i < ARRAY_LEN(from_running); i++) {
            j = submit(1, from_running[i].retries);
            pass();
            report(j, RUNNING);
            if (away) {
                node_silent(n);
                state_is(j, JOB_UNKNOWN);
                struct call c = get(j);
                char list[300];
                snprintf(list, sizeof(list), "[{\"id\":%lld,%s}]", (long long)c.attempt.id,
                         from_running[i].said);
                n = node_up("alpha", 8, list);
            } else {
                report(j, from_running[i].said);
            }
            state_is(j, from_running[i].want);
            cancel(j);
            invariant();
        }
    /* cancelling, from each state that has processes */
    j = submit(1, 0);
    pass();
    report(j, RUNNING);
    CHECK(cancel(j));
    CHECK(!cancel(j));
    state_is(j, JOB_CANCELLING);
    report(j, DONE); /* by itself, before the signal came */
    state_is(j, JOB_COMPLETED);
    j = submit(1, 0);
    pass();
    report(j, RUNNING);
    node_silent(n);
    CHECK(cancel(j));
    state_is(j, JOB_CANCELLING);
    n = node_up("alpha", 8, "[]"); /* it is gone there */
    state_is(j, JOB_CANCELLED);
    /* away before it began, and back: once it never got the start, once it had taken it */
    for (int had = 0; had < 2; had++) {
        j = submit(1, 0);
        pass();
        struct call c = get(j);
        if (had)
            report(j, ACCEPTED);
        node_silent(n);
        state_is(j, JOB_UNKNOWN);
        char list[100] = "[]";
        if (had)
            snprintf(list, sizeof(list), "[{\"id\":%lld," ACCEPTED "}]", (long long)c.attempt.id);
        n = node_up("alpha", 8, list);
        state_is(j, JOB_STARTING);
        report(j, RUNNING);
        node_silent(n);
        snprintf(list, sizeof(list), "[{\"id\":%lld,\"state\":\"running\"}]",
                 (long long)c.attempt.id);
        n = node_up("alpha", 8, list);
        state_is(j, JOB_RUNNING);
        report(j, DONE);
    }
    invariant();
    terminal_events_are_one_each();
    static bool seen[JOB_STATES][JOB_STATES];
    struct err e = {0};
    CHECK_OK(store_read(house_store(t.house), covered_tx, seen, &e), &e);
    size_t covered = 0;
    for (size_t i = 0; i < job_machine.n; i++) {
        const struct transition *row = &job_machine.rows[i];
        for (size_t k = 0; k < i; k++) /* else a pair of states would not tell the row */
            CHECK(row->from != job_machine.rows[k].from || row->to != job_machine.rows[k].to);
        covered += seen[row->from][row->to];
        if (!seen[row->from][row->to])
            FAIL_("not reached: %s, %s", job_state_names[row->from], job_machine.events[row->on]);
    }
    printf("# %zu of %zu rows reached\n", covered, job_machine.n);
    down();
}

/* ---- what is not in the table ---- */

struct force {
    int64_t id;
    int state, on, rc;
    char text[ERR_TEXT_MAX];
};

static int force_tx(struct tx *tx, void *ctx, struct err *e)
{
    struct force *f = ctx;
    int rc = tx_exec(tx, "UPDATE jobs SET state = ?1 WHERE id = ?2",
                     ARGS(v_text(job_state_names[f->state]), v_int(f->id)), NULL, e);
    struct job j;
    if (rc == OK)
        rc = job_get(tx, f->id, tx_arena(tx), &j, e);
    if (rc != OK)
        return rc;
    struct err own = {0};
    f->rc = job_step(tx, &j, (enum job_event)f->on, "test", "why", tx_arena(tx), &own);
    snprintf(f->text, sizeof(f->text), "%s", own.text);
    CHECK(f->rc != ERR_CONFLICT || j.state == f->state);
    return OK; /* committed, so that what it may have written would show */
}

TEST(pairs_that_are_not_in_the_table_change_nothing)
{
    up();
    struct force f = {.id = submit(0, 0)};
    int refused = 0;
    for (f.state = 0; f.state < JOB_STATES; f.state++)
        for (f.on = 0; f.on < JOB_EVENTS; f.on++) {
            bool listed = false;
            for (size_t i = 0; i < job_machine.n; i++)
                listed |= job_machine.rows[i].from == f.state && job_machine.rows[i].on == f.on;
            if (listed)
                continue;
            struct err e = {0};
            int64_t events = number("SELECT count(*) FROM events");
            CHECK_OK(store_tx(house_store(t.house), force_tx, &f, &e), &e);
            CHECK_INT(f.rc, ERR_CONFLICT);
            struct call c = get(f.id);
            CHECK_INT(c.job.state, f.state);
            CHECK(!str_eq(c.job.reason, "why"));
            CHECK_INT(number("SELECT count(*) FROM events"), events);
            refused++;
        }
    printf("# %d pairs refused\n", refused);
    f.state = JOB_COMPLETED;
    f.on = JOB_EV_CANCEL;
    struct err e = {0};
    CHECK_OK(store_tx(house_store(t.house), force_tx, &f, &e), &e);
    CHECK_STR(f.text, "the job is completed: cancelling is not possible");
    down();
}

/* ---- reports that come again, late, or from somewhere else ---- */

static char *picture(void)
{
    static char text[400];
    snprintf(text, sizeof(text), "%lld %lld %lld %lld",
             (long long)number("SELECT count(*) FROM events"),
             (long long)number("SELECT coalesce(sum(attempt * 7 + ended_at % 1000003), 0)"
                               " FROM jobs"),
             (long long)number("SELECT coalesce(sum(closed * 31 + coalesce(exit_code, 5) +"
                               " coalesce(ended_at, 3) % 1000003), 0) FROM job_attempts"),
             (long long)number("SELECT count(*) FROM gpu_leases"));
    return strdup(text);
}

TEST(reports_again_or_late_change_nothing)
{
    up();
    int64_t n = node_up("alpha", 2, "[]"), other = node_up("beta", 1, "[]");
    int64_t j = submit(2, 0);
    pass();
    int64_t at = get(j).attempt.id;
    CHECK_INT(get(j).attempt.node_id, n);
    report_to(n, at, RUNNING);
    char *before = picture();
    report_to(n, at, RUNNING);
    report_to(n, at, ACCEPTED);   /* an older word */
    report_to(other, at, DONE);   /* another node's word about it */
    report_to(n, at + 999, DONE); /* nobody's */
    report_to(n, -1, DONE);
    report_to(n, at, "\"state\":7");
    report_to(n, at, "\"x\":null");
    char *after = picture();
    CHECK_STR(after, before);
    free(before);
    free(after);
    state_is(j, JOB_RUNNING);
    report_to(n, at, DONE);
    state_is(j, JOB_COMPLETED);
    before = picture();
    report_to(n, at, DONE);
    report_to(n, at, FAILED);
    report_to(n, at, LOST);
    report_to(n, at, RUNNING);
    report_to(n, at, REFUSED);
    CHECK(!cancel(j));
    after = picture();
    CHECK_STR(after, before);
    free(before);
    free(after);
    state_is(j, JOB_COMPLETED);
    terminal_events_are_one_each();
    down();
}

TEST(a_bad_report_does_not_hide_the_others)
{
    up();
    int64_t n = node_up("alpha", 2, "[]");
    int64_t a = submit(1, 0), b = submit(1, 0);
    pass();
    struct jv *v[] = {
        json("{\"id\":%lld,\"state\":\"ended\",\"exit\":{\"reason\":\"exited\",\"code\":0,"
             "\"detail\":\"%0500d\xe4\xb8\xad\"}}",
             (long long)get(a).attempt.id, 7),
        json("[1]"),
        json("{\"id\":%lld,\"state\":\"ended\",\"exit\":\"?\"}", (long long)get(b).attempt.id)};
    jobs_link_ops.attempts(t.jobs, n, (const struct jv *const *)v, 3);
    for (size_t i = 0; i < 3; i++)
        jv_free(v[i]);
    state_is(a, JOB_COMPLETED);
    state_is(b, JOB_FAILED); /* an end without a reason is never run again */
    /* a detail is cut between two characters */
    CHECK_INT(number("SELECT count(*) FROM job_attempts WHERE length(detail) = 500"), 1);
    invariant();
    down();
}

TEST(cancel_and_end_race_to_one_end)
{
    up();
    node_up("alpha", 4, "[]");
    /* before the scheduler saw it */
    int64_t j = submit(1, 3);
    CHECK(cancel(j));
    pass();
    state_is(j, JOB_CANCELLED);
    CHECK(!get(j).found);
    /* told to start, never heard of again: the cancel waits for the node's word */
    j = submit(1, 3);
    pass();
    CHECK(cancel(j));
    state_is(j, JOB_CANCELLING);
    CHECK_INT(number("SELECT count(*) FROM gpu_leases"), 1);
    report(j, ACCEPTED);
    state_is(j, JOB_CANCELLING);
    report(j, RUNNING);
    state_is(j, JOB_CANCELLING);
    report(j, FAILED); /* tries are left, but nobody wants it any more */
    state_is(j, JOB_CANCELLED);
    CHECK_STR(get(j).job.reason, "cancelled (exit code 3)");
    /* the start was lost with the link, and the cancel came meanwhile */
    j = submit(1, 0);
    pass();
    cancel(j);
    node_up("alpha", 4, "[]");
    state_is(j, JOB_CANCELLED);
    CHECK_INT(number("SELECT count(*) FROM gpu_leases"), 0);
    /* the refusal of a start that was cancelled */
    j = submit(1, 0);
    pass();
    cancel(j);
    report(j, REFUSED);
    state_is(j, JOB_CANCELLED);
    invariant();
    terminal_events_are_one_each();
    down();
}

TEST(tries_are_counted_and_a_lost_supervisor_is_final)
{
    up();
    node_up("alpha", 1, "[]");
    int64_t j = submit(1, 2);
    for (int i = 1; i <= 3; i++) {
        pass();
        CHECK_INT(get(j).attempt.number, i);
        report(j, RUNNING);
        report(j, FAILED);
        CHECK_INT(get(j).job.attempt, i);
        state_is(j, i < 3 ? JOB_QUEUED : JOB_FAILED);
        CHECK_INT(number("SELECT count(*) FROM gpu_leases"), 0);
    }
    CHECK_STR(get(j).job.reason, "exit code 3");
    CHECK_INT(get(j).job.exit_code, 3);
    static const char *const final[] = {LOST, REFUSED};
    for (size_t i = 0; i < ARRAY_LEN(final); i++) {
        j = submit(1, 9);
        pass();
        report(j, RUNNING);
        report(j, final[i]);
        state_is(j, JOB_FAILED);
    }
    /* the node does not know it any more */
    j = submit(1, 9);
    pass();
    report(j, RUNNING);
    node_up("alpha", 1, "[]");
    state_is(j, JOB_FAILED);
    CHECK_INT(get(j).job.end_reason, END_SUPERVISOR_LOST);
    pass();
    state_is(j, JOB_FAILED);
    invariant();
    down();
}

TEST(an_unfit_job_is_refused_and_an_empty_fleet_waits)
{
    up();
    struct err e = {0};
    int64_t early = submit(9, 0); /* no node yet: it may come */
    node_up("alpha", 2, "[]");
    struct job_spec spec = {.command = {words, 1}, .gpus = 3};
    struct call c = {.spec = &spec};
    CHECK_INT(store_tx(house_store(t.house), submit_tx, &c, &e), ERR_NO_CAPACITY);
    CHECK_STR(e.text, "cannot run here: no node has 3 GPUs; the largest, alpha, has 2");
    spec.gpus = 65;
    CHECK_INT(store_tx(house_store(t.house), submit_tx, &c, &e), ERR_NO_CAPACITY);
    CHECK_INT(number("SELECT count(*) FROM jobs"), 1);
    pass();
    state_is(early, JOB_QUEUED);
    CHECK_STR(get(early).job.reason, "no node has 9 GPUs; the largest, alpha, has 2");
    /* a name made from the command is cut between two characters */
    const char *long_words[] = {"/bin/"
                                "12345678901234567890123456789012345678901234567890123456789"
                                "\xe4\xb8\xad"};
    int64_t j = submit_spec(&(struct job_spec){.command = {long_words, 1}});
    CHECK_STR(get(j).job.name, "12345678901234567890123456789012345678901234567890123456789");
    down();
}

TEST(a_thousand_that_wait_do_not_hide_who_could_run)
{
    up();
    node_up("alpha", 1, "[]");
    int64_t first = submit(1, 0);
    pass();
    state_is(first, JOB_STARTING);
    for (int i = 0; i < 1100; i++)
        submit(1, 0);
    int64_t behind = submit(0, 0);
    pass();
    state_is(behind, JOB_STARTING);
    invariant();
    down();
}

/* ---- jobs at a provider ---- */

TEST(a_cloud_job_runs_ends_and_is_cancelled)
{
    up();
    const char *fails[] = {"sh", "-c", "exit 1"};
    struct job_spec spec = {.command = {words, 1}, .kind = JOB_CLOUD, .provider = "runpod"};
    int64_t good = submit_spec(&spec), gone = submit_spec(&spec), late;
    spec.command = (struct texts){fails, 3};
    spec.retries = 1;
    int64_t bad = submit_spec(&spec);
    spec = (struct job_spec){
        .command = {words, 1}, .kind = JOB_CLOUD, .provider = "runpod", .time_limit_s = 2};
    late = submit_spec(&spec);
    jobs_follow_clouds(t.house, t.jobs);
    state_is(good, JOB_STARTING);
    char *first = strdup(get(good).job.external_id);
    jobs_follow_clouds(t.house, t.jobs); /* never handed over twice */
    CHECK_STR(get(good).job.external_id, first);
    free(first);
    atomic_fetch_add(&clock_us, 2 * US_PER_S);
    jobs_follow_clouds(t.house, t.jobs);
    state_is(good, JOB_RUNNING);
    CHECK(cancel(gone));
    state_is(gone, JOB_CANCELLING);
    jobs_follow_clouds(t.house, t.jobs);
    state_is(gone, JOB_CANCELLED);
    for (int i = 0; i < 12; i++) {
        atomic_fetch_add(&clock_us, 2 * US_PER_S);
        jobs_follow_clouds(t.house, t.jobs);
    }
    state_is(good, JOB_COMPLETED);
    state_is(late, JOB_TIMEOUT);
    state_is(bad, JOB_FAILED);
    CHECK_INT(get(bad).job.attempt, 2);
    terminal_events_are_one_each();
    down();
}

TEST(a_cloud_that_does_not_take_a_job_says_why_and_is_not_asked_for_ever)
{
    up();
    struct job_spec spec = {.command = {words, 1},
                            .kind = JOB_CLOUD,
                            .provider = "runpod",
                            .image = "reg/app:missing",
                            .retries = 1};
    int64_t refused = submit_spec(&spec);
    spec.image = "reg/app:busy";
    spec.retries = 0;
    int64_t busy = submit_spec(&spec), gone = submit_spec(&spec);
    jobs_follow_clouds(t.house, t.jobs);
    state_is(refused, JOB_QUEUED); /* that was its first try */
    CHECK_INT(get(refused).job.attempt, 1);
    CHECK(strstr(get(refused).job.reason, "try 1 of 2 ended: runpod did not take it: there is no "
                                          "image reg/app:missing") != NULL);
    state_is(busy, JOB_QUEUED); /* asked again later: no try yet */
    CHECK_INT(get(busy).job.attempt, 0);
    CHECK_STR(get(busy).job.reason, "runpod did not take it: no machine is free at the moment");
    CHECK_INT(number("SELECT count(*) FROM events WHERE type = 'job.waiting'"), 2);
    CHECK(cancel(gone));
    state_is(gone, JOB_CANCELLED);
    jobs_follow_clouds(t.house, t.jobs); /* too early: nobody is asked */
    CHECK_INT(get(refused).job.attempt, 1);
    atomic_fetch_add(&clock_us, 2 * US_PER_S);
    jobs_follow_clouds(t.house, t.jobs);
    state_is(refused, JOB_FAILED);
    CHECK(strstr(get(refused).job.reason, "there is no image") != NULL);
    for (int s = 0; s < 200 && !job_ended(get(busy).job.state); s += 2) {
        atomic_fetch_add(&clock_us, 2 * US_PER_S);
        jobs_follow_clouds(t.house, t.jobs);
    }
    state_is(busy, JOB_FAILED);
    CHECK_INT(get(busy).job.attempt, 1);
    CHECK_INT(number("SELECT count(*) FROM events WHERE type = 'job.waiting'"), 2);
    jobs_follow_clouds(t.house, t.jobs);
    jobs_follow_clouds(t.house, t.jobs);
    jobs_follow_clouds(t.house, t.jobs);
    CHECK_INT((int64_t)t.jobs->hand_overs.n, 0); /* nothing is remembered of what has ended */
    terminal_events_are_one_each();
    down();
}

/* ---- the walk ---- */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { WALK = 3000 }; /* fivefold the work for each step there */
#else
enum { WALK = 20000 };
#endif
enum { WALK_NODES = 3, WALK_OPEN = 20 };

static int open_tx(struct tx *tx, void *ctx, struct err *e)
{
    return record_list(tx, &attempt_record, "WHERE state <> 'ended' ORDER BY id", NO_ARGS, &t.arena,
                       ctx, e);
}

TEST(a_long_walk_keeps_leases_and_attempts_the_same)
{
    static const char *const names[WALK_NODES] = {"alpha", "beta", "gamma"};
    static const int cards[WALK_NODES] = {1, 4, 8};
    static const char *const said[] = {ACCEPTED, RUNNING, RUNNING, RUNNING, DONE,
                                       DONE,     FAILED,  LATE,    STOPPED, LOST,
                                       REFUSED,  RUNNING, ACCEPTED};
    seed = 20251123;
    up();
    int64_t nodes[WALK_NODES], jobs = 0, waiting = 0;
    bool here[WALK_NODES];
    struct attempt old[16] = {{0}};
    size_t n_old = 0;
    for (size_t i = 0; i < WALK_NODES; i++) {
        nodes[i] = node_up(names[i], cards[i], "[]");
        here[i] = true;
    }
    for (int step = 0; step < WALK && test_failures_ == 0; step++) {
        struct err e = {0};
        struct list open = {0};
        arena_reset(&t.arena);
        CHECK_OK(store_read(house_store(t.house), open_tx, &open, &e), &e);
        const struct attempt *at = open.items;
        size_t k = below(WALK_NODES);
        uint64_t what = below(100);
        if (what < 20 && waiting < WALK_OPEN) {
            waiting++;
            submit((int64_t)below(5), (int64_t)below(3));
            jobs++;
        } else if (what < 38) {
            pass();
            waiting = number("SELECT count(*) FROM jobs WHERE state = 'queued'");
        } else if (what < 80 && open.n > 0) {
            const struct attempt *one = &at[below(open.n)];
            report_to(one->node_id, one->id, said[below(ARRAY_LEN(said))]);
            old[n_old++ % ARRAY_LEN(old)] = (struct attempt){.id = one->id,
                                                             .node_id = one->node_id};
        } else if (what < 84 && n_old > 0) { /* something that was said long ago, once more */
            const struct attempt
                *one = &old[below(n_old < ARRAY_LEN(old) ? n_old : ARRAY_LEN(old))];
            report_to(one->node_id, one->id, said[below(ARRAY_LEN(said))]);
        } else if (what < 90 && jobs > 0) {
            cancel((int64_t)(1 + below((uint64_t)jobs)));
        } else if (what < 93 && here[k]) {
            node_silent(nodes[k]);
            here[k] = false;
        } else if (what < 95) {
            atomic_fetch_add(&clock_us, 20 * US_PER_S);
            jobs_check_nodes(t.house, t.jobs);
        } else if (what < 98) {
            /* hello: most of what it had, some of it in another state, some forgotten */
            AUTO(buf) struct buf list = {0};
            buf_addc(&list, '[');
            for (size_t i = 0; i < open.n; i++)
                if (at[i].node_id == nodes[k] && below(8) != 0)
                    buf_printf(&list, "%s{\"id\":%lld,%s}", list.len > 1 ? "," : "",
                               (long long)at[i].id, said[below(ARRAY_LEN(said))]);
            buf_addc(&list, ']');
            nodes[k] = node_up(names[k], cards[k], buf_str(&list));
            here[k] = true;
        } else {
            jobs_close_attempts(t.house, t.jobs);
        }
        invariant();
        if (test_failures_ > 0)
            printf("# at step %d\n", step);
    }
    terminal_events_are_one_each();
    printf("# %lld jobs, %lld ended, %lld attempts\n", (long long)jobs,
           (long long)number("SELECT count(*) FROM jobs WHERE ended_at IS NOT NULL"),
           (long long)number("SELECT count(*) FROM job_attempts"));
    CHECK(number("SELECT count(*) FROM jobs WHERE ended_at IS NOT NULL") > WALK / 20);
    down();
}

TEST_MAIN
