/* Packing and simulation: nothing is ever over-committed, what fits is placed, decisions for a
 * prefix do not depend on what follows, and broken traces are refused by line and column. */
#include "placement/simulate.h"

#include "test.h"

static void fleet_add(struct pack *p)
{
    struct err e = {0};
    for (int i = 0; i < 6; i++)
        CHECK_OK(pack_host_add(p, 32000, 64000, i % 2, i % 2 == 0 ? 4 : 8, &e), &e);
    CHECK_OK(pack_host_add(p, 64000, 64000, 0, 0, &e), &e);
}

static uint64_t dice = 1;
static int64_t roll(int64_t n)
{
    dice = dice * 6364136223846793005u + 1442695040888963407u;
    return (int64_t)((dice >> 33) % (uint64_t)n);
}

static struct shape any_shape(void)
{
    struct shape s = {.cpu_milli = roll(9) * 1000, .memory_mib = roll(9) * 1000};
    s.gpus = (int32_t)(roll(5) == 0 ? 0 : roll(4) == 0 ? 1 + roll(8) : 1);
    s.milli = s.gpus == 0 ? 0 : s.gpus > 1 ? 1000 : (int32_t)(1 + roll(10)) * 100;
    s.models = roll(4) == 0 ? 1u << roll(2) : 0;
    return s;
}

struct held {
    struct shape shape;
    struct pack_spot spot;
};

/* Counts what is held from outside: the same sums, and no GPU above 1000. */
static void check_books(const struct pack *p, const struct held *held, size_t n)
{
    int64_t cpu[7] = {0}, memory[7] = {0}, gpu[7][8] = {{0}}, milli = 0;
    for (size_t i = 0; i < n; i++) {
        const struct held *h = &held[i];
        size_t at = h->spot.host;
        CHECK_INT(__builtin_popcountll(h->spot.gpus), h->shape.gpus);
        cpu[at] += h->shape.cpu_milli;
        memory[at] += h->shape.memory_mib;
        for (int g = 0; g < 64; g++)
            if (h->spot.gpus >> g & 1) {
                CHECK(g < (at % 2 == 0 ? 4 : 8) && at < 6);
                gpu[at][g % 8] += h->shape.milli;
                milli += h->shape.milli;
                CHECK(gpu[at][g % 8] <= 1000);
                CHECK(h->shape.models == 0 || (h->shape.models >> (at % 2) & 1));
            }
    }
    for (size_t i = 0; i < 7; i++)
        CHECK(cpu[i] <= (i < 6 ? 32000 : 64000) && memory[i] <= 64000);
    CHECK_INT(pack_sums(p).gpu_milli_taken, milli);
}

TEST(nothing_is_over_committed_in_a_long_churn)
{
    for (const struct policy *policy = policies; policy->name != NULL; policy++) {
        AUTO(pack) struct pack *p = pack_new(policy, 7);
        struct held held[400];
        size_t n = 0;
        dice = 42;
        fleet_add(p);
        for (int i = 0; i < 4000; i++) {
            if (n > 0 && (n == ARRAY_LEN(held) || roll(5) < 2)) {
                size_t at = (size_t)roll((int64_t)n);
                pack_release(p, &held[at].shape, &held[at].spot);
                held[at] = held[--n];
            } else {
                struct shape s = any_shape();
                pack_learn(p, &s);
                held[n].shape = s;
                n += pack_place(p, &s, &held[n].spot);
            }
            if (i % 97 == 0)
                check_books(p, held, n);
        }
        check_books(p, held, n);
        while (n > 0) {
            n--;
            pack_release(p, &held[n].shape, &held[n].spot);
        }
        CHECK_INT(pack_sums(p).gpu_milli_taken, 0);
        CHECK_INT(pack_sums(p).cpu_milli_taken, 0);
    }
}

TEST(what_fits_is_placed_and_what_cannot_is_told)
{
    for (const struct policy *policy = policies; policy->name != NULL; policy++) {
        AUTO(pack) struct pack *p = pack_new(policy, 1);
        struct pack_spot spot;
        fleet_add(p);
        struct shape whole = {.gpus = 8, .milli = 1000}, share = {.gpus = 1, .milli = 500};
        for (int i = 0; i < 3; i++)
            CHECK(pack_place(p, &whole, &spot) && spot.host % 2 == 1);
        CHECK(!pack_place(p, &whole, &spot) && pack_possible(p, &whole));
        for (int i = 0; i < 24; i++)
            CHECK(pack_place(p, &share, &spot));
        CHECK(!pack_place(p, &share, &spot));
        CHECK(pack_place(p, &(struct shape){.cpu_milli = 64000}, &spot) && spot.host == 6);
        CHECK(!pack_possible(p, &(struct shape){.gpus = 9, .milli = 1000}));
        CHECK(!pack_possible(p, &(struct shape){.gpus = 1, .milli = 1000, .models = 4}));
    }
}

TEST(a_prefix_decides_the_same_whatever_follows)
{
    for (const struct policy *policy = policies; policy->name != NULL; policy++) {
        AUTO(pack) struct pack *a = pack_new(policy, 3);
        AUTO(pack) struct pack *b = pack_new(policy, 3);
        fleet_add(a);
        fleet_add(b);
        struct pack_spot first[60], second[60];
        bool placed[60];
        dice = 9;
        for (int i = 0; i < 60; i++) {
            struct shape s = any_shape();
            pack_learn(a, &s);
            placed[i] = pack_place(a, &s, &first[i]);
        }
        for (int i = 0; i < 100; i++) /* what follows in a and not in b */
            pack_learn(a, &(struct shape){.gpus = 1, .milli = 10});
        dice = 9;
        for (int i = 0; i < 60; i++) {
            struct shape s = any_shape();
            pack_learn(b, &s);
            CHECK_INT(pack_place(b, &s, &second[i]), placed[i]);
            CHECK(!placed[i] ||
                  (first[i].host == second[i].host && first[i].gpus == second[i].gpus));
        }
    }
}

TEST(the_rarest_shape_gives_way_in_a_full_mix)
{
    struct mix *m = mem_alloc(sizeof(*m));
    struct shape often = {.gpus = 1, .milli = 500};
    for (int i = 0; i < 5000; i++) {
        mix_learn(m, &often);
        mix_learn(m, &(struct shape){.cpu_milli = i + 1});
    }
    CHECK_INT(m->n, MIX_SHAPES_MAX);
    CHECK_INT(m->total, 10000);
    CHECK(shape_same(&m->rows[0].shape, &often));
    CHECK_INT(m->rows[0].count, 5000);
    mem_free(m);
}

#define NODES "sn,cpu_milli,memory_mib,gpu,model\nn1,8000,1000,2,A\nn2,8000,1000,1,B\n"
#define TASKS "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,creation_time,deletion_time\n"

TEST(broken_traces_are_refused_by_line_and_column)
{
    static const struct {
        const char *nodes, *tasks, *told;
    } rows[] = {
        {"", TASKS, "nodes has no header line"},
        {"sn,cpu_milli,gpu\n", TASKS, "nodes has no column memory_mib"},
        {"sn,cpu_milli,memory_mib,gpu\nn,1,1,x\n", TASKS,
         "nodes, line 2: gpu is \"x\", not a whole number from 0 to 64"},
        {"sn,cpu_milli,memory_mib,gpu\nn,1,1\n", TASKS,
         "nodes, line 2: 3 fields, the header has 4"},
        {NODES, "name\n", "tasks has no column cpu_milli"},
        {NODES, TASKS "t,-1,0,0,0,,0,1\n",
         "tasks, line 2: cpu_milli is \"-1\", not a whole number from 0 to 100000000"},
        {NODES, TASKS "t,1,0,1,1000,,0,1\n\nu,1,0,1,0,,0,1\n",
         "tasks, line 4: gpu_milli is \"0\" with num_gpu 1; it is 0 without GPUs, 1 to 1000 of "
         "one, "
         "1000 of several"},
        {NODES, TASKS "t,1,0,1,1000,,5,4\n",
         "tasks, line 2: deletion_time 4 is before creation_time 5"},
        {NODES, TASKS "\"t\",1,0,1,1000,,5,6\n", "tasks, line 2: quotes and NUL are not read"},
        {NODES, "name,cpu_milli,memory_mib,num_gpu,gpu_milli\n",
         "tasks has no column creation_time; without times give --arrive-only"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        AUTO(trace) struct trace t = {0};
        struct err e = {0};
        int k = trace_nodes(&t, "nodes", rows[i].nodes, strlen(rows[i].nodes), &e);
        if (k == OK)
            k = trace_tasks(&t, "tasks", rows[i].tasks, strlen(rows[i].tasks), true, &e);
        CHECK(k != OK);
        CHECK_STR(e.text, rows[i].told);
    }
}

TEST(tasks_wait_until_they_fit)
{
    /* three whole GPUs; the fourth task waits for the end of the first, the last never fits */
    static const char tasks[] = TASKS "a,0,0,1,1000,,0,10\nb,0,0,1,1000,,0,20\nc,0,0,1,1000,,0,20\n"
                                      "d,0,0,1,1000,A|B,2,7\ne,0,0,1,1000,C,3,4\n";
    AUTO(trace) struct trace t = {0};
    struct err e = {0};
    struct simulated r;
    CHECK_OK(trace_nodes(&t, "nodes", NODES, strlen(NODES), &e), &e);
    CHECK_OK(trace_tasks(&t, "tasks", tasks, strlen(tasks), true, &e), &e);
    CHECK_OK(simulate(&t, &(struct simulation){.policy = &policies[0], .seed = 1}, &r, &e), &e);
    CHECK_INT(r.placed, 4);
    CHECK_INT(r.refused, 1);
    CHECK_INT(r.queueing.p99, 8);
    CHECK_INT(r.queueing.p50, 0);
    CHECK_INT(r.completion.p99, 20);
    CHECK_INT(r.makespan_s, 20);
    CHECK_INT(r.longest_queue, 1);
    /* with a node more nobody waits: like the first of the two kinds, each of which there is one */
    CHECK_OK(trace_nodes_more(&t, 1, &e), &e);
    CHECK_OK(simulate(&t, &(struct simulation){.policy = &policies[0], .seed = 1}, &r, &e), &e);
    CHECK_INT(r.queueing.p99, 0);
    CHECK_INT(r.sums.gpu_milli_total, 5000);
}

TEST_MAIN
