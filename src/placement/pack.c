/* Hosts, their states, and the choice. Every host points at an interned state; a state keeps what
 * the policy thinks it is worth for this epoch of the mix. A decision walks the hosts, looks at
 * each state once, and compares the states that would follow. */
#include "placement/pack.h"

#include "base/mem.h"

#include <string.h>

/* Room for states: at least this, and some for each host; four slots for each. */
enum { STATES_LEAST = 1 << 16, STATES_PER_HOST = 4, SLOTS_PER_STATE = 4 };

struct interned {
    struct pack_state state;
    uint64_t hash;
    int64_t worth;
    uint64_t epoch;  /* of worth */
    uint64_t looked; /* the decision that saw it last */
};
struct host {
    int64_t cpu_total, memory_total;
    int32_t model, gpus;
    uint32_t state; /* index into states */
    int64_t cpu, memory;
    int16_t free[PACK_GPUS_MAX];
};
struct pack {
    const struct policy *policy;
    struct host *hosts;
    size_t n_hosts, room;
    struct interned *states;
    uint32_t n_states, states_room, *slots; /* slots: index + 1; open addressing */
    uint64_t epoch, decision, random;
    struct mix mix;
    void *own;
    struct pack_sums sums;
};

/* ---- states ---- */

void state_take(struct pack_state *s, const struct shape *t, int first)
{
    s->cpu_milli -= t->cpu_milli;
    s->memory_mib -= t->memory_mib;
    if (t->gpus == 0)
        return;
    s->gpu_milli -= t->gpus * t->milli;
    /* what is left of each moves to where the order wants it */
    for (int g = first; g < first + t->gpus; g++) {
        int16_t left = (int16_t)(s->free[g] - t->milli);
        int at = g;
        while (at > 0 && s->free[at - 1] > left) {
            s->free[at] = s->free[at - 1];
            at--;
        }
        s->free[at] = left;
    }
    int empty = 0;
    while (empty < s->n && s->free[empty] == 0)
        empty++;
    s->n -= empty;
    memmove(s->free, s->free + empty, (size_t)s->n * sizeof(s->free[0]));
}

int64_t state_stranded(const struct mix *m, const struct pack_state *s)
{
    int64_t sum = 0;
    for (size_t i = 0; i < m->n && s->gpu_milli > 0; i++) {
        const struct shape *t = &m->rows[i].shape;
        int64_t lost = 0;
        if (t->gpus == 0 || !state_fits(s, t))
            lost = s->gpu_milli;
        else
            for (int g = 0; g < s->n && s->free[g] < t->milli; g++)
                lost += s->free[g];
        sum += m->rows[i].count * lost;
    }
    return sum;
}

static uint64_t mixed(uint64_t h, uint64_t v)
{
    h = (h ^ v) * 0x9e3779b97f4a7c15u;
    return h ^ h >> 29;
}

static uint64_t state_hash(const struct pack_state *s)
{
    uint64_t h = mixed(mixed((uint64_t)s->model, (uint64_t)s->cpu_milli), (uint64_t)s->memory_mib);
    for (int g = 0; g < s->n; g++)
        h = mixed(h, (uint64_t)s->free[g] + 1);
    return h;
}

static bool state_same(const struct pack_state *a, const struct pack_state *b)
{
    return a->cpu_milli == b->cpu_milli && a->memory_mib == b->memory_mib && a->model == b->model &&
           a->n == b->n && memcmp(a->free, b->free, (size_t)a->n * sizeof(a->free[0])) == 0;
}

static struct pack_state state_of(const struct host *h)
{
    struct pack_state s = {.cpu_milli = h->cpu, .memory_mib = h->memory, .model = h->model};
    for (int g = 0; g < h->gpus; g++) {
        int16_t v = h->free[g];
        if (v == 0)
            continue;
        int at = s.n++;
        for (; at > 0 && s.free[at - 1] > v; at--)
            s.free[at] = s.free[at - 1];
        s.free[at] = v;
        s.gpu_milli += v;
    }
    return s;
}

/* False: there is no room for a new one. */
static bool state_intern(struct pack *p, const struct pack_state *s, uint32_t *out)
{
    uint64_t hash = state_hash(s);
    size_t mask = (size_t)p->states_room * SLOTS_PER_STATE - 1, at = hash & mask;
    for (; p->slots[at] != 0; at = (at + 1) & mask) {
        const struct interned *i = &p->states[p->slots[at] - 1];
        if (i->hash == hash && state_same(&i->state, s)) {
            *out = p->slots[at] - 1;
            return true;
        }
    }
    if (p->n_states == p->states_room)
        return false;
    p->states[p->n_states] = (struct interned){.state = *s, .hash = hash};
    p->slots[at] = ++p->n_states;
    *out = p->n_states - 1;
    return true;
}

static void host_settle(struct pack *p, struct host *h, const struct pack_state *s);

/* Forgets the states that nobody is in; the room grows with the hosts. */
static void states_sweep(struct pack *p)
{
    uint32_t room = p->states_room > 0 ? p->states_room : STATES_LEAST;
    while (room < p->n_hosts * STATES_PER_HOST)
        room *= 2;
    if (room != p->states_room) {
        mem_free(p->states);
        mem_free(p->slots);
        p->states_room = room;
        p->states = mem_alloc(room * sizeof(p->states[0]));
        p->slots = mem_alloc((size_t)room * SLOTS_PER_STATE * sizeof(p->slots[0]));
    } else {
        memset(p->slots, 0, (size_t)room * SLOTS_PER_STATE * sizeof(p->slots[0]));
    }
    p->n_states = 0;
    for (size_t i = 0; i < p->n_hosts; i++) {
        struct pack_state s = state_of(&p->hosts[i]);
        host_settle(p, &p->hosts[i], &s);
    }
}

/* Puts a host into a state. Room is left for the states that decisions look ahead to. */
static void host_settle(struct pack *p, struct host *h, const struct pack_state *s)
{
    while (!state_intern(p, s, &h->state))
        states_sweep(p);
}

static int64_t state_worth(struct pack *p, uint32_t at)
{
    struct interned *i = &p->states[at];
    if (i->epoch != p->epoch) {
        i->worth = p->policy->worth != NULL ? p->policy->worth(p, &i->state) : 0;
        i->epoch = p->epoch;
    }
    return i->worth;
}

/* ---- life ---- */

struct pack *pack_new(const struct policy *policy, uint64_t seed)
{
    struct pack *p = mem_alloc(sizeof(*p));
    p->policy = policy;
    p->random = seed * 0x9e3779b97f4a7c15u + 0x2545f4914f6cdd1du;
    p->epoch = 1;
    states_sweep(p);
    return p;
}

void pack_free(struct pack *p)
{
    if (p == NULL)
        return;
    mem_free(p->hosts);
    mem_free(p->states);
    mem_free(p->slots);
    mem_free(p->own);
    mem_free(p);
}

int pack_host_add(struct pack *p, int64_t cpu_milli, int64_t memory_mib, int32_t model,
                  int32_t gpus, struct err *e)
{
    if (p->n_hosts == PACK_HOSTS_MAX)
        return err_set(e, ERR_TOO_LARGE, "more than %d hosts", PACK_HOSTS_MAX);
    if (gpus < 0 || gpus > PACK_GPUS_MAX)
        return err_set(e, ERR_INVALID, "a host has 0 to %d GPUs", PACK_GPUS_MAX);
    if (model < 0 || model >= PACK_MODELS_MAX)
        return err_set(e, ERR_INVALID, "more than %d GPU models", PACK_MODELS_MAX);
    if (cpu_milli < 0 || memory_mib < 0)
        return err_set(e, ERR_INVALID, "CPU and memory of a host are not negative");
    if (p->n_hosts == p->room) {
        p->room = p->room > 0 ? 2 * p->room : 256;
        p->hosts = mem_realloc(p->hosts, p->room * sizeof(p->hosts[0]));
    }
    struct host *h = &p->hosts[p->n_hosts++];
    *h = (struct host){.cpu_total = cpu_milli,
                       .memory_total = memory_mib,
                       .model = model,
                       .gpus = gpus,
                       .cpu = cpu_milli,
                       .memory = memory_mib};
    for (int g = 0; g < gpus; g++)
        h->free[g] = 1000;
    p->sums.gpu_milli_total += 1000 * (int64_t)gpus;
    p->sums.cpu_milli_total += cpu_milli;
    if (p->n_hosts * STATES_PER_HOST > p->states_room)
        states_sweep(p);
    struct pack_state s = state_of(h);
    host_settle(p, h, &s);
    return OK;
}

size_t pack_hosts(const struct pack *p)
{
    return p->n_hosts;
}
const struct mix *pack_mix(const struct pack *p)
{
    return &p->mix;
}
struct pack_sums pack_sums(const struct pack *p)
{
    return p->sums;
}
void *pack_own(struct pack *p, size_t size)
{
    if (p->own == NULL)
        p->own = mem_alloc(size);
    return p->own;
}

uint64_t pack_random(struct pack *p)
{
    /* xorshift64* (Vigna, 2016) */
    p->random ^= p->random >> 12;
    p->random ^= p->random << 25;
    p->random ^= p->random >> 27;
    return p->random * 0x2545f4914f6cdd1du;
}

void pack_learn(struct pack *p, const struct shape *s)
{
    if (!mix_learn(&p->mix, s))
        return;
    p->epoch++;
    if (p->policy->learned != NULL)
        p->policy->learned(p);
}

/* ---- the choice ---- */

struct choice {
    size_t host;
    int first; /* in the state's list */
    int64_t score;
    bool found;
};

static void consider(struct pack *p, const struct shape *t, size_t host, int first,
                     struct choice *best)
{
    uint32_t from = p->hosts[host].state;
    struct pack_state to = p->states[from].state;
    state_take(&to, t, first);
    int64_t before = state_worth(p, from), after = 0;
    uint32_t next;
    if (p->policy->worth != NULL)
        after = state_intern(p, &to, &next) ? state_worth(p, next) : p->policy->worth(p, &to);
    int64_t score = p->policy->score(p, &p->states[from].state, &to, before, after);
    if (!best->found || score > best->score)
        *best = (struct choice){.host = host, .first = first, .score = score, .found = true};
}

bool pack_place(struct pack *p, const struct shape *t, struct pack_spot *out)
{
    if (p->n_states > p->states_room / 4 * 3)
        states_sweep(p);
    p->decision++;
    struct choice best = {0};
    for (size_t i = 0; i < p->n_hosts; i++) {
        struct interned *s = &p->states[p->hosts[i].state];
        if (s->looked == p->decision && !p->policy->each_host)
            continue;
        s->looked = p->decision;
        if (!state_fits(&s->state, t))
            continue;
        int first = t->gpus > 0 ? state_first(&s->state, t) : 0;
        if (p->policy->any_gpu && t->gpus == 1)
            first += (int)(pack_random(p) % (uint64_t)(s->state.n - first));
        consider(p, t, i, first, &best);
        if (!p->policy->each_gpu || t->gpus != 1 || t->milli == 1000)
            continue;
        for (int g = first + 1; g < s->state.n; g++)
            if (s->state.free[g] != s->state.free[g - 1])
                consider(p, t, i, g, &best);
    }
    if (!best.found)
        return false;
    struct host *h = &p->hosts[best.host];
    struct pack_state left = p->states[h->state].state;
    *out = (struct pack_spot){.host = best.host};
    for (int k = 0; k < t->gpus; k++) {
        int16_t wanted = left.free[best.first + k];
        for (int g = 0; g < h->gpus; g++) {
            if (h->free[g] != wanted || (out->gpus >> g & 1))
                continue;
            out->gpus |= (uint64_t)1 << g;
            break;
        }
    }
    for (int g = 0; g < h->gpus; g++)
        if (out->gpus >> g & 1)
            h->free[g] = (int16_t)(h->free[g] - t->milli);
    h->cpu -= t->cpu_milli;
    h->memory -= t->memory_mib;
    p->sums.gpu_milli_taken += (int64_t)t->gpus * t->milli;
    p->sums.cpu_milli_taken += t->cpu_milli;
    state_take(&left, t, best.first);
    host_settle(p, h, &left);
    return true;
}

void pack_release(struct pack *p, const struct shape *t, const struct pack_spot *spot)
{
    struct host *h = &p->hosts[spot->host];
    for (int g = 0; g < h->gpus; g++)
        if (spot->gpus >> g & 1)
            h->free[g] = (int16_t)(h->free[g] + t->milli);
    h->cpu += t->cpu_milli;
    h->memory += t->memory_mib;
    p->sums.gpu_milli_taken -= (int64_t)t->gpus * t->milli;
    p->sums.cpu_milli_taken -= t->cpu_milli;
    struct pack_state s = state_of(h);
    host_settle(p, h, &s);
}

bool pack_possible(const struct pack *p, const struct shape *t)
{
    for (size_t i = 0; i < p->n_hosts; i++) {
        const struct host *h = &p->hosts[i];
        if (h->cpu_total >= t->cpu_milli && h->memory_total >= t->memory_mib &&
            h->gpus >= t->gpus && (t->gpus == 0 || t->models == 0 || (t->models >> h->model & 1)))
            return true;
    }
    return false;
}

double pack_fragmentation(struct pack *p)
{
    int64_t free_milli = p->sums.gpu_milli_total - p->sums.gpu_milli_taken;
    if (free_milli == 0 || p->mix.total == 0)
        return 0;
    /* tasks without GPUs strand nothing here: they would count every free GPU as lost */
    double lost = 0, arrivals = 0;
    for (size_t i = 0; i < p->mix.n; i++)
        if (p->mix.rows[i].shape.gpus > 0)
            arrivals += (double)p->mix.rows[i].count;
    int64_t without = p->mix.total - (int64_t)arrivals;
    for (size_t i = 0; i < p->n_hosts; i++) {
        const struct pack_state *s = &p->states[p->hosts[i].state].state;
        lost += (double)(state_stranded(&p->mix, s) - without * s->gpu_milli);
    }
    return arrivals > 0 ? lost / arrivals / (double)free_milli : 0;
}
