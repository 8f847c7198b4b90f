/* Placement: every outcome with its sentence, a long churn that must never break a promise, and
 * the documented scores of cloud providers to the last digit. */
#include "base/json.h"
#include "placement/placement.h"
#include "providers/providers.h"

#include "test.h"

enum { GPUS = 8 };
struct fleet_of_test {
    struct place_node nodes[4];
    struct place_gpu gpus[4][GPUS];
};

/* "2xA100 1xT4": a node that answers, all free. */
static void node_add(struct fleet_of_test *f, size_t i, const char *name, const char *type,
                     size_t n_gpus, int64_t cpus, int64_t memory_mib)
{
    static const char *const ids[] = {"g0", "g1", "g2", "g3", "g4", "g5", "g6", "g7"};
    for (size_t k = 0; k < n_gpus; k++)
        f->gpus[i][k] = (struct place_gpu){
            .id = ids[k], .type = type, .index = (int64_t)k, .free_milli = 1000, .usable = true};
    f->nodes[i] = (struct place_node){.id = (int64_t)i + 1,
                                      .name = name,
                                      .usable = true,
                                      .cpus_free = cpus,
                                      .cpus_total = cpus,
                                      .memory_free_mib = memory_mib,
                                      .memory_total_mib = memory_mib,
                                      .gpus = f->gpus[i],
                                      .n_gpus = n_gpus};
}

static const char *const a100[] = {"A100"};
static const char *const t4[] = {"t4"};
static const char *const a100_or_t4[] = {"A100", "T4"};

TEST(each_outcome_and_its_sentence)
{
    static const struct {
        const char *what;
        struct place_request r;
        int damage; /* 1: nobody answers; 2: GPUs of n-1 taken; 3: n-1 is away; 4: a GPU is ill */
        enum place_outcome outcome;
        const char *reason;
    } rows[] = {
        {"fits", {.gpus = 4, .types = a100, .n_types = 1}, 0, PLACED, ""},
        {"type in any case", {.gpus = 1, .types = t4, .n_types = 1}, 0, PLACED, ""},
        {"without GPUs", {.cpus = 64}, 0, PLACED, ""},
        {"nothing asked", {.gpus = 0}, 0, PLACED, ""},
        {"nobody answers", {.gpus = 1}, 1, WAITS_NODE, "no node answers"},
        {"more than there is",
         {.gpus = 9},
         0,
         FITS_NEVER,
         "no node has 9 GPUs; the largest, big, has 4"},
        {"too few of the type",
         {.gpus = 5, .types = a100_or_t4, .n_types = 2},
         0,
         FITS_NEVER,
         "no node has 5 A100 or T4; the largest, big, has 4"},
        {"CPUs", {.cpus = 65}, 0, FITS_NEVER, "no node has 65 CPUs; the largest has 64"},
        {"memory",
         {.memory_mib = 4001},
         0,
         FITS_NEVER,
         "no node has 4001 MiB of memory; the largest has 4000"},
        {"together",
         {.gpus = 4, .cpus = 32},
         0,
         FITS_NEVER,
         "no single node has 4 GPUs with so many CPUs and so much memory"},
        {"taken",
         {.gpus = 3, .types = a100, .n_types = 1},
         2,
         WAITS_GPUS,
         "GPUs: 2 of 3 A100 free"},
        {"ill", {.gpus = 4, .types = a100, .n_types = 1}, 4, WAITS_GPUS, "GPUs: 3 of 4 A100 free"},
        {"away",
         {.gpus = 4, .types = a100, .n_types = 1},
         3,
         WAITS_NODE,
         "no node that answers is large enough"},
        {"CPUs are taken", {.cpus = 60}, 2, WAITS_CPUS, "CPUs: no node has 60 free"},
        {"CPUs beside GPUs",
         {.gpus = 1, .types = a100, .n_types = 1, .cpus = 10},
         2,
         WAITS_CPUS,
         "CPUs: no node has 10 free beside the GPUs"},
        {"memory is taken",
         {.memory_mib = 3900},
         2,
         WAITS_MEMORY,
         "memory: no node has 3900 MiB free"},
        {"none counted where nothing is left",
         {.gpus = 1, .types = a100, .n_types = 1},
         2,
         PLACED,
         ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct fleet_of_test f = {0};
        node_add(&f, 0, "big", "A100", 4, 16, 4000);
        node_add(&f, 1, "small", "T4", 1, 64, 1000);
        if (rows[i].damage == 1)
            f.nodes[0].usable = f.nodes[1].usable = false;
        if (rows[i].damage == 2) {
            f.gpus[0][0].free_milli = 0;
            f.gpus[0][1].free_milli = 999; /* a part is not free */
            f.nodes[0].cpus_free = -1;     /* its host has fewer than when the jobs came */
            f.nodes[0].memory_free_mib = 0;
            f.nodes[1].cpus_free = 50;
        }
        if (rows[i].damage == 3)
            f.nodes[0].usable = false;
        if (rows[i].damage == 4)
            f.gpus[0][2].usable = false;
        struct place_decision d;
        placement_decide(f.nodes, 2, &rows[i].r, 1, &d);
        if (d.outcome != rows[i].outcome || strcmp(d.reason, rows[i].reason) != 0)
            FAIL_("%s: outcome %d, \"%s\"", rows[i].what, (int)d.outcome, d.reason);
    }
}

TEST(possible_names_what_there_is)
{
    char reason[200] = "";
    struct fleet_of_test f = {0};
    CHECK(!placement_possible(f.nodes, 0, &(struct place_request){.gpus = 1}, reason));
    CHECK_STR(reason, "there is no node yet");
    node_add(&f, 0, "cpu", "none", 0, 4, 100);
    CHECK(!placement_possible(f.nodes, 1, &(struct place_request){.gpus = 1}, reason));
    CHECK_STR(reason, "no node has 1 GPU; this fleet has no GPUs");
    CHECK(placement_possible(f.nodes, 1, &(struct place_request){.cpus = 4}, reason));
    node_add(&f, 1, "t", "T4", 2, 4, 100);
    CHECK(!placement_possible(
        f.nodes, 2, &(struct place_request){.gpus = 1, .types = a100, .n_types = 1}, reason));
    CHECK_STR(reason, "no node has 1 A100; see the types there are with: drover gpus");
    /* also on a node that is away, and whatever runs there now */
    f.nodes[1].usable = false;
    f.gpus[1][0].free_milli = f.gpus[1][1].free_milli = 0;
    CHECK(placement_possible(f.nodes, 2, &(struct place_request){.gpus = 2}, reason));
}

TEST(what_waits_keeps_its_gpus_and_no_others)
{
    struct fleet_of_test f = {0};
    node_add(&f, 0, "big", "A100", 4, 16, 4000);
    node_add(&f, 1, "small", "T4", 2, 16, 4000);
    f.gpus[0][0].free_milli = 0;
    struct place_request r[] = {
        {.text = "j-1", .gpus = 4, .types = a100, .n_types = 1},
        {.text = "j-2", .gpus = 1, .types = a100, .n_types = 1},
        {.text = "j-3", .gpus = 1}, /* any: a T4 is left */
        {.text = "j-4", .gpus = 2}, /* any: would need A100s */
        {.text = "j-5", .gpus = 1, .types = t4, .n_types = 1},
        {.text = "j-6", .cpus = 1},
    };
    struct place_decision d[ARRAY_LEN(r)];
    placement_decide(f.nodes, 2, r, ARRAY_LEN(r), d);
    CHECK_INT(d[0].outcome, WAITS_GPUS);
    CHECK_INT(d[1].outcome, WAITS_TURN);
    CHECK_STR(d[1].reason, "GPUs: j-1 is ahead and waits for them");
    CHECK_INT(d[2].outcome, PLACED);
    CHECK_INT(d[2].node, 1);
    CHECK_INT(d[3].outcome, WAITS_TURN);
    CHECK_INT(d[4].outcome, WAITS_TURN); /* j-4 could have both T4s once j-3 has ended */
    CHECK_STR(d[4].reason, "GPUs: j-4 is ahead and waits for them");
    CHECK_INT(d[5].outcome, PLACED);
}

TEST(a_job_that_waits_for_cpus_keeps_its_gpus)
{
    struct fleet_of_test f = {0};
    node_add(&f, 0, "big", "A100", 4, 16, 4000);
    f.nodes[0].cpus_free = 2;
    struct place_request r[] = {{.text = "j-1", .gpus = 2, .cpus = 8}, {.text = "j-2", .gpus = 4}};
    struct place_decision d[2];
    placement_decide(f.nodes, 1, r, 2, d);
    CHECK_INT(d[0].outcome, WAITS_CPUS);
    CHECK_INT(d[1].outcome, WAITS_TURN); /* else small ones could pass it for ever */
}

TEST(what_nobody_can_run_now_holds_nothing)
{
    struct fleet_of_test f = {0};
    node_add(&f, 0, "away", "A100", 8, 16, 4000);
    node_add(&f, 1, "here", "A100", 2, 16, 4000);
    f.nodes[0].usable = false;
    struct place_request r[] = {{.text = "j-1", .gpus = 8}, {.text = "j-2", .gpus = 2}};
    struct place_decision d[2];
    placement_decide(f.nodes, 2, r, 2, d);
    CHECK_INT(d[0].outcome, WAITS_NODE);
    CHECK_INT(d[1].outcome, PLACED);
    /* the same with a GPU that is ill on the only node that is large enough */
    node_add(&f, 0, "ill", "A100", 8, 16, 4000);
    node_add(&f, 1, "here", "A100", 2, 16, 4000);
    f.gpus[0][5].usable = false;
    placement_decide(f.nodes, 2, r, 2, d);
    CHECK_INT(d[0].outcome, WAITS_GPUS);
    CHECK_INT(d[1].outcome, PLACED);
}

TEST(many_different_ones_ahead_are_all_kept)
{
    struct fleet_of_test f = {0};
    node_add(&f, 0, "big", "A100", 8, 64, 4000);
    node_add(&f, 1, "small", "T4", 4, 64, 4000);
    f.gpus[0][0].free_milli = f.gpus[1][0].free_milli = 0;
    struct place_request r[41];
    struct place_decision d[41];
    for (size_t i = 0; i < 39; i++)
        r[i] = (struct place_request){.text = "j-1", .gpus = 8, .types = a100, .n_types = 1};
    r[39] = (struct place_request){.text = "j-40", .gpus = 4, .types = t4, .n_types = 1};
    r[40] = (struct place_request){.text = "j-41", .gpus = 1, .types = t4, .n_types = 1};
    placement_decide(f.nodes, 2, r, 41, d);
    CHECK_INT(d[40].outcome, WAITS_TURN);
    CHECK_STR(d[40].reason, "GPUs: j-40 is ahead and waits for them");
}

TEST(the_fullest_node_that_fits_is_taken)
{
    struct fleet_of_test f = {0};
    node_add(&f, 0, "empty", "A100", 8, 64, 4000);
    node_add(&f, 1, "full", "A100", 8, 64, 4000);
    for (int k = 0; k < 6; k++)
        f.gpus[1][k].free_milli = 0;
    struct place_request r[] = {{.text = "j-1", .gpus = 2}, {.text = "j-2", .gpus = 8}};
    struct place_decision d[2];
    placement_decide(f.nodes, 2, r, 2, d);
    CHECK_INT(d[0].node, 1);
    CHECK_STR(d[0].gpus[0]->id, "g6");
    CHECK_INT(d[1].outcome, PLACED);
    CHECK_INT(d[1].node, 0);
}

/* ---- churn ---- */

static uint64_t seed = 20251123;
static uint64_t below(uint64_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed % n;
}

enum { NODES = 6, QUEUE = 12, LIVE = 64, STEPS = 200000 };
struct churn {
    struct place_node nodes[NODES];
    struct place_gpu gpus[NODES][GPUS];
};
struct churn_job {
    bool live;
    struct place_request r;
    size_t node;
    uint32_t gpus; /* bit set on its node */
};

static bool type_ok(const struct place_request *r, const char *type)
{
    for (size_t i = 0; i < r->n_types; i++)
        if (strcmp(r->types[i], type) == 0)
            return true;
    return r->n_types == 0;
}

static const char *const kinds[] = {"A100", "T4", "V100"};
static const char *const v100_or_t4[] = {"V100", "T4"};

static struct place_request churn_request(int64_t id)
{
    static const char *const names[] = {"j-1", "j-2", "j-3", "j-4"};
    struct place_request r = {.id = id, .text = names[id % 4]};
    r.gpus = (int64_t)(below(4) == 0 ? 0 : 1 + below(below(5) == 0 ? 8 : 3));
    r.cpus = (int64_t)(below(2) == 0 ? 0 : 1 + below(12));
    r.memory_mib = (int64_t)(below(2) == 0 ? 0 : 1 + below(900));
    switch (below(4)) {
    case 0:
        r.types = kinds + below(3);
        r.n_types = 1;
        break;
    case 1:
        r.types = v100_or_t4;
        r.n_types = 2;
        break;
    default:
        break;
    }
    return r;
}

static void copy_of(const struct churn *c, struct churn *to)
{
    *to = *c;
    for (size_t i = 0; i < NODES; i++)
        to->nodes[i].gpus = to->gpus[i];
}

TEST(a_long_churn_breaks_no_promise)
{
    static struct churn_job live[LIVE];
    static struct churn world;
    for (size_t i = 0; i < NODES; i++) {
        for (size_t k = 0; k < GPUS; k++)
            world.gpus[i][k] = (struct place_gpu){
                .id = "g", .type = kinds[i % 3 == 2 ? k % 3 : i % 3], .usable = true};
        world.nodes[i] = (struct place_node){.id = (int64_t)i,
                                             .name = "n",
                                             .usable = true,
                                             .cpus_total = 8 + (int64_t)i * 4,
                                             .memory_total_mib = 500 + (int64_t)i * 200,
                                             .n_gpus = i == 0 ? 2 : GPUS};
    }
    struct place_request queue[QUEUE];
    for (int64_t i = 0; i < QUEUE; i++)
        queue[i] = churn_request(i);
    size_t placed = 0, waited = 0;
    int64_t next_id = QUEUE;
    for (int step = 0; step < STEPS && test_failures_ == 0; step++) {
        /* nodes go and come, GPUs fall ill, jobs end */
        if (below(50) == 0)
            world.nodes[below(NODES)].usable ^= true;
        if (below(50) == 0)
            world.gpus[below(NODES)][below(GPUS)].usable ^= true;
        for (size_t i = below(3); i > 0; i--)
            live[below(LIVE)].live = false;
        /* the picture is made anew, as the scheduler does it */
        static struct churn now, again;
        copy_of(&world, &now);
        for (size_t i = 0; i < NODES; i++) {
            now.nodes[i].cpus_free = now.nodes[i].cpus_total;
            now.nodes[i].memory_free_mib = now.nodes[i].memory_total_mib;
            for (size_t k = 0; k < GPUS; k++)
                now.gpus[i][k].free_milli = 1000;
        }
        for (size_t i = 0; i < LIVE; i++) {
            if (!live[i].live)
                continue;
            now.nodes[live[i].node].cpus_free -= live[i].r.cpus;
            now.nodes[live[i].node].memory_free_mib -= live[i].r.memory_mib;
            for (size_t k = 0; k < GPUS; k++)
                if (live[i].gpus >> k & 1)
                    now.gpus[live[i].node][k].free_milli -= 1000;
        }
        copy_of(&now, &again);
        static struct churn before;
        copy_of(&now, &before);
        struct place_decision d[QUEUE], d2[QUEUE];
        placement_decide(now.nodes, NODES, queue, QUEUE, d);
        placement_decide(again.nodes, NODES, queue, QUEUE, d2);
        for (size_t q = 0; q < QUEUE; q++) {
            const struct place_request *r = &queue[q];
            CHECK_INT(d[q].outcome, d2[q].outcome);
            CHECK_STR(d[q].reason, d2[q].reason);
            CHECK((d[q].outcome == PLACED) == (d[q].reason[0] == '\0'));
            if (d[q].outcome != PLACED) {
                waited++;
                continue;
            }
            placed++;
            CHECK_INT(d[q].node, d2[q].node);
            struct place_node *n = &before.nodes[d[q].node];
            CHECK(n->usable);
            CHECK(r->cpus == 0 || n->cpus_free >= r->cpus);
            CHECK(r->memory_mib == 0 || n->memory_free_mib >= r->memory_mib);
            n->cpus_free -= r->cpus;
            n->memory_free_mib -= r->memory_mib;
            struct churn_job job = {true, *r, d[q].node, 0};
            for (size_t k = 0; k < (size_t)r->gpus; k++) {
                size_t at = (size_t)(d[q].gpus[k] - now.gpus[d[q].node]);
                CHECK(at < n->n_gpus);
                struct place_gpu *g = &before.gpus[d[q].node][at % GPUS];
                CHECK(g->usable && g->free_milli == 1000); /* also: never given twice */
                CHECK(type_ok(r, g->type));
                g->free_milli = 0;
                job.gpus |= 1u << at;
                /* nobody ahead that waits could have run on this node with this GPU */
                for (size_t p = 0; p < q; p++) {
                    if (d[p].outcome == PLACED || queue[p].gpus == 0 ||
                        !type_ok(&queue[p], g->type))
                        continue;
                    int64_t could = 0;
                    for (size_t m = 0; m < n->n_gpus; m++)
                        could += before.gpus[d[q].node][m].usable &&
                                 type_ok(&queue[p], before.gpus[d[q].node][m].type);
                    CHECK(could < queue[p].gpus || n->cpus_total < queue[p].cpus ||
                          n->memory_total_mib < queue[p].memory_mib);
                }
            }
            for (size_t i = 0; i < LIVE && job.live; i++)
                if (!live[i].live) {
                    live[i] = job;
                    job.live = false;
                }
            if (job.live)
                memset(live, 0, sizeof(live)); /* too many for the table: all end */
        }
        /* who was placed leaves the queue; now and then somebody gives up; new ones come behind */
        size_t kept = 0;
        for (size_t q = 0; q < QUEUE; q++)
            if (d[q].outcome != PLACED && d[q].outcome != FITS_NEVER && below(40) != 0)
                queue[kept++] = queue[q];
        while (kept < QUEUE)
            queue[kept++] = churn_request(next_id++);
    }
    printf("# %zu placed, %zu waits\n", placed, waited);
    CHECK(placed > 10000 && waited > 10000);
}

TEST(waiting_is_worth_priority)
{
    /* a low job of two hours ago goes before a high one of now when a point is worth 30 minutes */
    int64_t half_hour = INT64_C(1800) * 1000000;
    CHECK(placement_order_key(0, 2, half_hour) < placement_order_key(7 * half_hour, 8, half_hour));
    CHECK(placement_order_key(0, 2, half_hour) > placement_order_key(5 * half_hour, 8, half_hour));
    CHECK_INT(placement_order_key(1000, 5, 100), 500);
}

/* ---- providers: contract 8.2 to 8.4 ---- */

TEST(scores_are_the_documented_digits)
{
    static const char *const want[3][4] = {
        {"0.7926771140418929", "0.7829999999999999", "0.8474666666666666", "0.8112821308507887"},
        {"0.7537454545454546", "0.7027692307692307", "0.7866461538461539", "0.7557016317016316"},
        {"0.7373204633204633", "0.6292857142857143", "0.7338571428571429", "0.7141216216216216"},
    };
    CHECK_INT(n_providers, 3);
    for (size_t p = 0; p < 3; p++)
        for (int s = STRATEGY_COST; s <= STRATEGY_BALANCED; s++) {
            char text[32];
            CHECK_STR(json_real_text(provider_score_for(&providers[p], "A100", s), text),
                      want[p][s]);
        }
    char text[32];
    CHECK_STR(json_real_text(provider_score_for(&providers[0], "a100", STRATEGY_COST), text),
              "0.0");
    CHECK_STR(json_real_text(provider_score_for(&providers[1], "RTX4090", STRATEGY_COST), text),
              "0.0");
}

TEST(providers_are_chosen_as_documented)
{
    static const struct {
        const char *type, *preferred, *chosen;
    } rows[] = {
        {"RTX4090", NULL, "runpod"},      {"A6000", NULL, "runpod"},
        {"V100", NULL, "tencent"},        {"A100", NULL, "runpod"},
        {"T4", NULL, "runpod"},           {"H100", NULL, NULL},
        {"T4", "alibaba", "alibaba"},     {"A100", "tencent", "tencent"},
        {"RTX4090", "tencent", "runpod"}, {"v100", NULL, NULL},
        {"H100", "runpod", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        for (int s = STRATEGY_COST; s <= STRATEGY_BALANCED; s++) {
            double score = -1;
            const struct provider *p = provider_choose(
                rows[i].type, s, rows[i].preferred ? provider_find(rows[i].preferred) : NULL,
                &score);
            CHECK_STR(p ? p->name : NULL, rows[i].chosen);
            CHECK(p == NULL ? score == 0.0 : score == provider_score_for(p, rows[i].type, s));
        }
    CHECK(provider_find("RunPod") == NULL);
}

TEST(routing_keys_and_queues_are_as_documented)
{
    static const struct {
        int64_t count, priority;
        const char *key, *queue;
    } rows[] = {
        {1, 1, "runpod_A100_1_low", "priority_low"},
        {1, 2, "runpod_A100_1_low", "priority_low"},
        {1, 3, "runpod_A100_1", "gpu_tasks"},
        {4, 5, "runpod_A100_4", "gpu_tasks"},
        {5, 5, "runpod_A100_5_high", "gpu_tasks"},
        {8, 5, "runpod_A100_8_high", "gpu_tasks"},
        {8, 2, "runpod_A100_8_high", "priority_low"},
        {1, 7, "runpod_A100_1", "gpu_tasks"},
        {1, 8, "runpod_A100_1_high", "priority_high"},
        {8, 9, "runpod_A100_8_urgent", "priority_high"},
        {1, 10, "runpod_A100_1_urgent", "priority_high"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char key[160];
        CHECK_STR(routing_key(&providers[0], "A100", rows[i].count, rows[i].priority, key),
                  rows[i].key);
        CHECK_STR(routing_queue(rows[i].priority), rows[i].queue);
    }
    CHECK_INT(provider_price_micro(provider_find("runpod"), "A100"), 2890000);
    CHECK_INT(provider_price_micro(provider_find("tencent"), "RTX4090"), 1000000);
}

TEST_MAIN
