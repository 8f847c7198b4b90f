/* Playing a trace. With times it is a queue and a heap of ends; a shape that did not fit is not
 * tried again before something has ended. */
#include "placement/simulate.h"

#include <stdlib.h>
#include <string.h>

enum { FRAGMENTATION_SAMPLES = 200 };

struct running {
    int64_t end_s;
    size_t task; /* index into the trace; ends at the same second go in this order */
    struct pack_spot spot;
};
struct play {
    const struct trace *t;
    const struct simulation *s;
    struct pack *pack;
    struct simulated *out;
    size_t *order; /* tasks by creation time */
    size_t *queue; /* indexes of tasks, in order */
    size_t queued;
    struct running *heap;
    size_t n_running;
    uint64_t *failed, round; /* by shape: the round in which it did not fit */
    int64_t *queueing, *completion;
    int64_t now_s;
    double busy; /* GPU thousandths x seconds */
};

static bool place(struct play *p, size_t task, int64_t at_s, struct pack_spot *spot)
{
    const struct trace_task *t = &p->t->tasks[task];
    p->out->decisions++;
    bool placed = pack_place(p->pack, &p->t->shapes[t->shape], spot);
    if (placed || p->s->arrive_only) {
        p->out->placed += placed;
        p->out->refused += !placed;
        if (p->s->decided != NULL)
            p->s->decided(p->s->ctx, t, placed ? spot : NULL, at_s);
    }
    return placed;
}

/* ---- the heap of ends ---- */

static bool ends_before(const struct running *a, const struct running *b)
{
    return a->end_s != b->end_s ? a->end_s < b->end_s : a->task < b->task;
}

static void heap_push(struct play *p, struct running r)
{
    size_t at = p->n_running++;
    for (; at > 0 && ends_before(&r, &p->heap[(at - 1) / 2]); at = (at - 1) / 2)
        p->heap[at] = p->heap[(at - 1) / 2];
    p->heap[at] = r;
}

static struct running heap_pop(struct play *p)
{
    struct running top = p->heap[0], last = p->heap[--p->n_running];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= p->n_running)
            break;
        if (child + 1 < p->n_running && ends_before(&p->heap[child + 1], &p->heap[child]))
            child++;
        if (!ends_before(&p->heap[child], &last))
            break;
        p->heap[at] = p->heap[child];
        at = child;
    }
    p->heap[at] = last;
    return top;
}

/* ---- with times ---- */

static void clock_to(struct play *p, int64_t at_s)
{
    p->busy += (double)pack_sums(p->pack).gpu_milli_taken * (double)(at_s - p->now_s);
    p->now_s = at_s;
}

static bool start(struct play *p, size_t task)
{
    const struct trace_task *t = &p->t->tasks[task];
    struct running r = {.end_s = p->now_s + t->deleted_s - t->created_s, .task = task};
    if (p->failed[t->shape] == p->round)
        return false;
    if (!place(p, task, p->now_s, &r.spot)) {
        p->failed[t->shape] = p->round;
        return false;
    }
    size_t done = (size_t)p->out->placed - 1;
    p->queueing[done] = p->now_s - t->created_s;
    p->completion[done] = r.end_s - t->created_s;
    heap_push(p, r);
    return true;
}

static void end_due(struct play *p, int64_t until_s)
{
    while (p->n_running > 0 && p->heap[0].end_s <= until_s) {
        clock_to(p, p->heap[0].end_s);
        while (p->n_running > 0 && p->heap[0].end_s == p->now_s) {
            struct running r = heap_pop(p);
            pack_release(p->pack, &p->t->shapes[p->t->tasks[r.task].shape], &r.spot);
        }
        p->round++;
        size_t left = 0;
        for (size_t i = 0; i < p->queued; i++)
            if (!start(p, p->queue[i]))
                p->queue[left++] = p->queue[i];
        p->queued = left;
    }
}

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static struct spread_of spread_of(int64_t *v, size_t n)
{
    struct spread_of s = {0};
    if (n == 0)
        return s;
    qsort(v, n, sizeof(v[0]), by_value);
    for (size_t i = 0; i < n; i++)
        s.mean += (double)v[i] / (double)n;
    /* nearest rank */
    s.p50 = v[(n * 50 + 99) / 100 - 1];
    s.p90 = v[(n * 90 + 99) / 100 - 1];
    s.p99 = v[(n * 99 + 99) / 100 - 1];
    return s;
}

static void by_time(const struct trace *t, size_t *order)
{
    /* a trace is nearly in order: insertion from the back; a far one is found by halving */
    for (size_t i = 0; i < t->n_tasks; i++) {
        size_t low = 0, high = i;
        if (i == 0 || t->tasks[order[i - 1]].created_s <= t->tasks[i].created_s)
            low = i;
        while (low < high) {
            size_t middle = (low + high) / 2;
            if (t->tasks[order[middle]].created_s <= t->tasks[i].created_s)
                low = middle + 1;
            else
                high = middle;
        }
        memmove(&order[low + 1], &order[low], (i - low) * sizeof(order[0]));
        order[low] = i;
    }
}

static void play_times(struct play *p)
{
    size_t n = p->t->n_tasks, samples = 0;
    size_t every = n / FRAGMENTATION_SAMPLES + 1;
    by_time(p->t, p->order);
    p->round = 1;
    int64_t first_s = n > 0 ? p->t->tasks[p->order[0]].created_s : 0;
    p->now_s = first_s;
    for (size_t i = 0; i < n; i++) {
        size_t task = p->order[i];
        const struct trace_task *t = &p->t->tasks[task];
        end_due(p, t->created_s);
        clock_to(p, t->created_s);
        if (p->s->mix == NULL)
            pack_learn(p->pack, &p->t->shapes[t->shape]);
        if (!pack_possible(p->pack, &p->t->shapes[t->shape])) {
            p->out->refused++;
            if (p->s->decided != NULL)
                p->s->decided(p->s->ctx, t, NULL, p->now_s);
        } else if (!start(p, task)) {
            p->queue[p->queued++] = task;
        }
        if (p->queued > p->out->longest_queue)
            p->out->longest_queue = p->queued;
        if (i % every == 0) {
            p->out->fragmentation += pack_fragmentation(p->pack);
            samples++;
        }
    }
    p->out->sums = pack_sums(p->pack);
    end_due(p, INT64_MAX);
    if (samples > 0)
        p->out->fragmentation /= (double)samples;
    p->out->makespan_s = p->now_s - first_s;
    double room = (double)p->out->sums.gpu_milli_total * (double)p->out->makespan_s;
    p->out->utilisation = room > 0 ? p->busy / room : 0;
    p->out->queueing = spread_of(p->queueing, (size_t)p->out->placed);
    p->out->completion = spread_of(p->completion, (size_t)p->out->placed);
}

static void play_arrivals(struct play *p)
{
    for (size_t i = 0; i < p->t->n_tasks; i++) {
        struct pack_spot spot;
        if (p->s->mix == NULL)
            pack_learn(p->pack, &p->t->shapes[p->t->tasks[i].shape]);
        place(p, i, 0, &spot);
    }
    p->out->sums = pack_sums(p->pack);
    p->out->fragmentation = pack_fragmentation(p->pack);
}

int simulate(const struct trace *t, const struct simulation *s, struct simulated *out,
             struct err *e)
{
    AUTO(pack) struct pack *pack = pack_new(s->policy, s->seed);
    for (size_t i = 0; i < t->n_nodes; i++) {
        const struct trace_node *n = &t->nodes[i];
        int k = pack_host_add(pack, n->cpu_milli, n->memory_mib, n->model, n->gpus, e);
        if (k != OK)
            return k;
    }
    for (size_t i = 0; s->mix != NULL && i < s->mix->n_tasks; i++)
        pack_learn(pack, &s->mix->shapes[s->mix->tasks[i].shape]);
    *out = (struct simulated){0};
    struct play p = {.t = t, .s = s, .pack = pack, .out = out};
    size_t n = t->n_tasks + 1;
    if (s->arrive_only) {
        play_arrivals(&p);
        return OK;
    }
    p.order = mem_alloc(n * sizeof(p.order[0]));
    p.queue = mem_alloc(n * sizeof(p.queue[0]));
    p.heap = mem_alloc(n * sizeof(p.heap[0]));
    p.failed = mem_alloc((t->n_shapes + 1) * sizeof(p.failed[0]));
    p.queueing = mem_alloc(n * sizeof(p.queueing[0]));
    p.completion = mem_alloc(n * sizeof(p.completion[0]));
    play_times(&p);
    mem_free(p.order);
    mem_free(p.queue);
    mem_free(p.heap);
    mem_free(p.failed);
    mem_free(p.queueing);
    mem_free(p.completion);
    return OK;
}
