/* drover simulate: the placement of this program on a trace, without a server. One run for each
 * policy that is named; nothing is written before the whole trace was found good. */
#include "cli/context.h"

#include "base/json.h"
#include "base/str.h"
#include "base/world.h"
#include "placement/simulate.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { POLICIES_AT_ONCE = 16 };

static int file_read(const char *path, struct buf *to, struct err *e)
{
    AUTO(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_sys(e, "opening %s", path);
    *to = (struct buf){.max = TRACE_BYTES_MAX};
    for (;;) {
        char *room = buf_reserve(to, 1 << 16);
        if (room == NULL)
            return err_set(e, ERR_TOO_LARGE, "%s has more than %d bytes", path, TRACE_BYTES_MAX);
        ssize_t n = read(fd, room, 1 << 16);
        if (n < 0)
            return err_sys(e, "reading %s", path);
        if (n == 0)
            return OK;
        to->len += (size_t)n;
    }
}

static int tasks_from(struct trace *t, const char *path, bool with_times, struct err *e)
{
    AUTO(buf) struct buf text = {0};
    int k = file_read(path, &text, e);
    return k != OK ? k : trace_tasks(t, path, buf_str(&text), text.len, with_times, e);
}

struct decisions {
    FILE *to;
    const struct trace *trace;
};

static void decided(void *ctx, const struct trace_task *task, const struct pack_spot *spot,
                    int64_t at_s)
{
    struct decisions *d = ctx;
    fprintf(d->to, "%s,%" PRId64 ",%s,", task->name, at_s,
            spot != NULL ? d->trace->nodes[spot->host].name : "");
    const char *between = "";
    for (int g = 0; spot != NULL && g < PACK_GPUS_MAX; g++)
        if (spot->gpus >> g & 1) {
            fprintf(d->to, "%s%d", between, g);
            between = "|";
        }
    fputc('\n', d->to);
}

struct run {
    const struct policy *policy;
    struct simulated r;
    double decisions_per_second;
};

static double rounded(double v, double steps)
{
    return (double)(int64_t)(v * steps + 0.5) / steps;
}

static double percent_of(const struct simulated *r)
{
    return r->sums.gpu_milli_total == 0
               ? 0
               : 100.0 * (double)r->sums.gpu_milli_taken / (double)r->sums.gpu_milli_total;
}

static void json_spread(struct json *j, const char *name, const struct spread_of *s)
{
    json_key(j, name);
    json_open(j, '{');
    json_kreal(j, "mean", rounded(s->mean, 1000));
    json_kint(j, "p50", s->p50);
    json_kint(j, "p90", s->p90);
    json_kint(j, "p99", s->p99);
    json_close(j, '}');
}

static void json_run(struct json *j, const struct run *run, const struct simulation *s)
{
    const struct simulated *r = &run->r;
    json_open(j, '{');
    json_ktext(j, "policy", run->policy->name);
    json_kint(j, "seed", (int64_t)s->seed);
    json_kint(j, "placed", r->placed);
    json_kint(j, "refused", r->refused);
    json_kint(j, "gpu_milli_allocated", r->sums.gpu_milli_taken);
    json_kint(j, "gpu_milli_total", r->sums.gpu_milli_total);
    json_kreal(j, "percent", rounded(percent_of(r), 10000));
    json_kreal(j, "fragmentation_percent", rounded(100 * r->fragmentation, 10000));
    if (!s->arrive_only) {
        json_spread(j, "queueing_s", &r->queueing);
        json_spread(j, "completion_s", &r->completion);
        json_kreal(j, "utilisation_percent", rounded(100 * r->utilisation, 10000));
        json_kint(j, "makespan_s", r->makespan_s);
        json_kint(j, "longest_queue", (int64_t)r->longest_queue);
    }
    json_kreal(j, "decisions_per_second", rounded(run->decisions_per_second, 1));
    json_close(j, '}');
}

static void print_json_runs(const struct run *runs, size_t n, const struct simulation *s)
{
    AUTO(buf) struct buf b = {0};
    struct json j = json_to(&b);
    if (n > 1) {
        json_open(&j, '{');
        json_key(&j, "runs");
        json_open(&j, '[');
    }
    for (size_t i = 0; i < n; i++)
        json_run(&j, &runs[i], s);
    if (n > 1) {
        json_close(&j, ']');
        json_close(&j, '}');
    }
    printf("%s\n", buf_str(&b));
}

static const char *seconds(struct arena *a, double s)
{
    char to[DURATION_TEXT_SIZE];
    return arena_strdup(a, duration_format((int64_t)(s * 1e6), to));
}

static void print_table(struct cli *c, const struct run *runs, size_t n, const struct simulation *s)
{
    static const struct column arrivals[] = {
        {.title = "POLICY"},
        {.title = "PLACED", .right = true},
        {.title = "REFUSED", .right = true},
        {.title = "GPU IN USE", .right = true},
        {.title = "DECISIONS/S", .right = true, .optional = true},
        {0},
    };
    static const struct column times[] = {
        {.title = "POLICY"},
        {.title = "PLACED", .right = true},
        {.title = "REFUSED", .right = true, .optional = true},
        {.title = "WAIT MEAN", .right = true},
        {.title = "P50", .right = true, .optional = true},
        {.title = "P90", .right = true},
        {.title = "P99", .right = true},
        {.title = "DONE MEAN", .right = true, .optional = true},
        {.title = "IN USE", .right = true},
        {.title = "FRAGMENTED", .right = true, .optional = true},
        {.title = "DECISIONS/S", .right = true, .optional = true},
        {0},
    };
    struct arena *a = &c->arena;
    struct table t = table_new(a, s->arrive_only ? arrivals : times);
    for (size_t i = 0; i < n; i++) {
        const struct simulated *r = &runs[i].r;
        struct cell *cell = table_row(&t);
        const char *speed = arena_printf(a, "%.0f", runs[i].decisions_per_second);
        (cell++)->text = runs[i].policy->name;
        (cell++)->text = arena_printf(a, "%" PRId64, r->placed);
        (cell++)->text = arena_printf(a, "%" PRId64, r->refused);
        if (s->arrive_only) {
            (cell++)->text = arena_printf(a, "%.2f %%", percent_of(r));
        } else {
            (cell++)->text = seconds(a, r->queueing.mean);
            (cell++)->text = seconds(a, (double)r->queueing.p50);
            (cell++)->text = seconds(a, (double)r->queueing.p90);
            (cell++)->text = seconds(a, (double)r->queueing.p99);
            (cell++)->text = seconds(a, r->completion.mean);
            (cell++)->text = arena_printf(a, "%.2f %%", 100 * r->utilisation);
            (cell++)->text = arena_printf(a, "%.1f %%", 100 * r->fragmentation);
        }
        cell->text = speed;
    }
    table_print(stdout, &t, &c->out);
    table_fini(&t);
}

/* "fgd,bestfit", and the option again */
static int policies_read(const struct parsed *p, struct run *runs, size_t *n, struct err *e)
{
    *n = 0;
    for (const struct given *g = opt_next(p, "policy", NULL); g != NULL;
         g = opt_next(p, "policy", g))
        for (const char *at = g->text; at != NULL;) {
            const char *comma = strchr(at, ',');
            char name[64];
            snprintf(name, sizeof(name), "%.*s", (int)(comma != NULL ? comma - at : 63), at);
            const struct policy *policy = policy_named(name);
            if (policy == NULL)
                return err_set(e, ERR_INVALID, "there is no policy \"%s\"", name);
            if (*n == POLICIES_AT_ONCE)
                return err_set(e, ERR_INVALID, "at most %d policies at once", POLICIES_AT_ONCE);
            runs[(*n)++].policy = policy;
            at = comma != NULL ? comma + 1 : NULL;
        }
    if (*n == 0)
        runs[(*n)++].policy = &policies[0];
    return OK;
}

/* Reads all there is to read; nothing is printed before that. */
static int traces_read(const struct parsed *p, bool arrive_only, struct trace *t, struct trace *mix,
                       struct err *e)
{
    AUTO(buf) struct buf text = {0};
    const char *nodes = opt_text(p, "nodes"), *pods = opt_text(p, "pods");
    if (nodes == NULL || pods == NULL)
        return err_set(e, ERR_INVALID, "--nodes and --pods name the two files of a trace");
    int k = file_read(nodes, &text, e);
    if (k == OK)
        k = trace_nodes(t, nodes, buf_str(&text), text.len, e);
    if (k == OK)
        k = trace_nodes_more(t, (size_t)opt_number(p, "add-nodes", 0), e);
    if (k == OK)
        k = tasks_from(t, pods, !arrive_only, e);
    if (k == OK && opt_text(p, "mix") != NULL) {
        /* the same models by the same bits */
        memcpy(mix->models, t->models, sizeof(t->models));
        mix->n_models = t->n_models;
        k = tasks_from(mix, opt_text(p, "mix"), false, e);
    }
    return k;
}

static int simulate_run(struct cli *c, const struct parsed *p)
{
    struct err e = {0};
    AUTO(trace) struct trace t = {0};
    AUTO(trace) struct trace mix = {0};
    struct run runs[POLICIES_AT_ONCE] = {0};
    size_t n = 0;
    struct simulation s = {.seed = (uint64_t)opt_number(p, "seed", 1),
                           .arrive_only = opt_given(p, "arrive-only")};
    err_translate_with(placement_texts_zh);
    int k = policies_read(p, runs, &n, &e);
    if (k == OK)
        k = traces_read(p, s.arrive_only, &t, &mix, &e);
    const char *path = opt_text(p, "decisions");
    struct decisions told = {.trace = &t};
    if (k == OK && path != NULL) {
        if (n > 1)
            k = err_set(&e, ERR_INVALID, "--decisions is for one policy at a time");
        else if ((told.to = fopen(path, "we")) == NULL)
            k = err_sys(&e, "opening %s", path);
        else
            fprintf(told.to, "task,at_s,node,gpus\n");
    }
    if (k == ERR_INVALID && t.n_nodes == 0)
        return usage_error(c, p->verb, &e);
    s.mix = opt_text(p, "mix") != NULL ? &mix : NULL;
    if (told.to != NULL) {
        s.decided = decided;
        s.ctx = &told;
    }
    for (size_t i = 0; k == OK && i < n; i++) {
        s.policy = runs[i].policy;
        int64_t from_us = mono_us(), took_us;
        k = simulate(&t, &s, &runs[i].r, &e);
        took_us = mono_us() - from_us;
        runs[i].decisions_per_second = (double)runs[i].r.decisions * 1e6 /
                                       (double)(took_us > 0 ? took_us : 1);
    }
    if (told.to != NULL && fclose(told.to) != 0 && k == OK)
        k = err_sys(&e, "writing %s", path);
    if (k != OK)
        return client_fail(NULL, &e);
    if (c->json)
        print_json_runs(runs, n, &s);
    else
        print_table(c, runs, n, &s);
    return EXIT_DONE;
}

static const struct opt simulate_opts[] = {
    {.name = "nodes",
     .type = OPT_TEXT,
     .metavar = "CSV",
     .help = "the fleet: sn, cpu_milli, memory_mib, gpu, model"},
    {.name = "pods",
     .type = OPT_TEXT,
     .metavar = "CSV",
     .help = "the tasks: name, cpu_milli, memory_mib, num_gpu, gpu_milli, gpu_spec, times"},
    {.name = "arrive-only",
     .type = OPT_FLAG,
     .help = "tasks come one by one and never leave; what does not fit is refused"},
    {.name = "policy",
     .type = OPT_TEXT,
     .metavar = "P",
     .help = "foresight (the default), fgd, bestfit, spread, random; several to compare",
     .choices = "foresight fgd bestfit spread random",
     .many = true},
    {.name = "mix",
     .type = OPT_TEXT,
     .metavar = "CSV",
     .help = "what tasks to expect; otherwise learned from those that came"},
    {.name = "add-nodes",
     .type = OPT_INT,
     .metavar = "N",
     .help = "what if there were N more of the commonest node",
     .most = 100000},
    {.name = "seed", .type = OPT_INT, .metavar = "N", .help = "for random", .most = INT64_MAX},
    {.name = "decisions",
     .type = OPT_TEXT,
     .metavar = "FILE",
     .help = "write each decision there: task, time, node, GPUs"},
    {0},
};
static const char *const simulate_examples[] = {
    "drover simulate --nodes nodes.csv --pods tasks.csv --arrive-only --policy foresight,fgd",
    "drover simulate --nodes nodes.csv --pods tasks.csv --add-nodes 2 --json",
    NULL,
};
const struct verb verb_simulate = {
    .name = "simulate",
    .summary = "play a trace of tasks through the placement, without a server",
    .about = "With --arrive-only the figure is how much of all GPUs is in use at the end. Without, "
             "tasks come and go at their times, and it is how long they wait. Equal input and seed "
             "give equal decisions; only decisions_per_second is measured.",
    .opts = simulate_opts,
    .examples = simulate_examples,
    .run = simulate_run,
};
