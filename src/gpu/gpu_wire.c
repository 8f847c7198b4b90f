/* The helper's packets: little-endian numbers, texts with a length before them.
 *
 * What must stay true: the decoder reads nothing beyond the packet, leaves no byte of it unread,
 * and gives only values that gpu.h promises, whatever the bytes are. (tests/fuzz/fuzz_gpu_wire.c)
 */
#include "gpu/gpu_wire.h"

#include "gpu/gpu_source.h"

#include "base/mem.h"
#include "base/str.h"

#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Where a number goes and what it may be. A share that is a little over is held at its bound; a
 * number that makes no sense is unknown. */
static const struct field_row {
    const char *name;
    size_t offset;
    bool wide; /* int64_t, else int */
    bool hold; /* outside: hold at the bound instead of unknown */
    int64_t most;
} fields[GPU_FIELDS] = {
    [FIELD_MEMORY_TOTAL_MIB] = {"memory_total_mib", offsetof(struct gpu_facts, memory_total_mib),
                                true, false, 1 << 24},
    [FIELD_MEMORY_USED_MIB] = {"memory_used_mib", offsetof(struct gpu_facts, memory_used_mib), true,
                               false, 1 << 24},
    [FIELD_UTILIZATION_PERCENT] = {"utilization", offsetof(struct gpu_facts, utilization_percent),
                                   false, true, 100},
    [FIELD_MEMORY_UTILIZATION_PERCENT] = {"memory_utilization",
                                          offsetof(struct gpu_facts, memory_utilization_percent),
                                          false, true, 100},
    [FIELD_TEMPERATURE_C] = {"temperature_c", offsetof(struct gpu_facts, temperature_c), false,
                             false, 200},
    [FIELD_MEMORY_TEMPERATURE_C] = {"memory_temperature_c",
                                    offsetof(struct gpu_facts, memory_temperature_c), false, false,
                                    200},
    [FIELD_POWER_W] = {"power_w", offsetof(struct gpu_facts, power_w), false, false, 10000},
    [FIELD_POWER_LIMIT_W] = {"power_limit_w", offsetof(struct gpu_facts, power_limit_w), false,
                             false, 10000},
    [FIELD_ECC_UNCORRECTED] = {"ecc_uncorrected", offsetof(struct gpu_facts, ecc_uncorrected), true,
                               false, INT64_MAX},
};

enum {
    PID_MOST = 1 << 22, /* the kernel's own limit */
    GPU_XID_MOST = 99999,
};

void gpu_told_init(struct gpu_told *t, int index)
{
    memset(t, 0, sizeof(*t));
    t->index = index;
    t->parent = -1;
    for (int i = 0; i < GPU_FIELDS; i++)
        t->values[i] = GPU_WIRE_ABSENT_VALUE;
    for (int i = 0; i < GPU_NUMBERS; i++)
        t->numbers[i] = GPU_WIRE_ABSENT_VALUE;
}

/* ---- writing: a packet of ours always fits, the bounds are there all the same ---- */

struct out {
    uint8_t *at, *end;
};

static void put(struct out *o, uint64_t v, int bytes)
{
    if (o->end - o->at < bytes)
        return;
    for (int i = 0; i < bytes; i++)
        *o->at++ = (uint8_t)(v >> (8 * i));
}

static void put_text(struct out *o, const char *s, size_t size)
{
    size_t n = strnlen(s, size - 1);
    put(o, n, 1);
    if ((size_t)(o->end - o->at) < n)
        return;
    memcpy(o->at, s, n);
    o->at += n;
}

static struct out out_begin(uint8_t *to, enum gpu_wire_type type)
{
    struct out o = {to, to + GPU_WIRE_MAX};
    put(&o, type, 1);
    put(&o, GPU_WIRE_VERSION, 1);
    return o;
}

size_t gpu_wire_call(uint8_t to[GPU_WIRE_MAX], const char *call, int gpu, bool starting)
{
    struct out o = out_begin(to, GPU_WIRE_CALL);
    put(&o, (uint32_t)gpu, 4);
    put(&o, starting, 1);
    put_text(&o, call, GPU_WIRE_CALL_SIZE);
    return (size_t)(o.at - to);
}

size_t gpu_wire_gpu(uint8_t to[GPU_WIRE_MAX], uint32_t round, const struct gpu_told *t)
{
    struct out o = out_begin(to, GPU_WIRE_GPU);
    put(&o, round, 4);
    put(&o, (uint32_t)t->index, 4);
    put(&o, t->state, 1);
    for (int i = 0; i < GPU_FIELDS; i++)
        put(&o, (uint64_t)t->values[i], 8);
    put_text(&o, t->uuid, sizeof(t->uuid));
    put_text(&o, t->name, sizeof(t->name));
    put_text(&o, t->driver, sizeof(t->driver));
    put_text(&o, t->cuda, sizeof(t->cuda));
    put_text(&o, t->note, sizeof(t->note));
    put(&o, (uint32_t)t->parent, 4);
    for (int i = 0; i < GPU_NUMBERS; i++)
        put(&o, (uint64_t)t->numbers[i], 8);
    put_text(&o, t->serial, sizeof(t->serial));
    put_text(&o, t->vbios, sizeof(t->vbios));
    put_text(&o, t->bus, sizeof(t->bus));
    put_text(&o, t->profile, sizeof(t->profile));
    put_text(&o, t->topology, sizeof(t->topology));
    put(&o, (uint64_t)t->n_links, 1);
    for (int i = 0; i < t->n_links; i++) {
        const struct gpu_link *l = &t->links[i];
        put(&o, l->active, 1);
        put(&o, (uint32_t)l->version, 4);
        const int64_t counters[] = {l->replays, l->recoveries, l->flit_crc, l->data_crc};
        for (size_t k = 0; k < ARRAY_LEN(counters); k++)
            put(&o, (uint64_t)counters[k], 8);
    }
    put(&o, (uint64_t)t->processes_total, 8);
    put(&o, (uint64_t)t->n_processes, 1);
    for (int i = 0; i < t->n_processes; i++) {
        put(&o, (uint64_t)t->processes[i].pid, 8);
        put(&o, (uint64_t)t->processes[i].memory_mib, 8);
        put(&o, (uint32_t)t->processes[i].sm_percent, 4);
        put(&o, (uint8_t)t->processes[i].kind, 1);
        put(&o, t->processes[i].dead, 1);
        put_text(&o, t->processes[i].name, sizeof(t->processes[i].name));
    }
    return (size_t)(o.at - to);
}

size_t gpu_wire_xid(uint8_t to[GPU_WIRE_MAX], int gpu, int64_t xid)
{
    struct out o = out_begin(to, GPU_WIRE_XID);
    put(&o, (uint32_t)gpu, 4);
    put(&o, (uint64_t)xid, 8);
    return (size_t)(o.at - to);
}

size_t gpu_wire_end(uint8_t to[GPU_WIRE_MAX], uint32_t round, int64_t told, const char *note)
{
    struct out o = out_begin(to, GPU_WIRE_END);
    put(&o, round, 4);
    put(&o, (uint64_t)told, 8);
    put_text(&o, note, GPU_NOTE_SIZE);
    return (size_t)(o.at - to);
}

size_t gpu_wire_absent(uint8_t to[GPU_WIRE_MAX], const char *note)
{
    struct out o = out_begin(to, GPU_WIRE_ABSENT);
    put_text(&o, note, GPU_NOTE_SIZE);
    return (size_t)(o.at - to);
}

size_t gpu_wire_ask(uint8_t to[GPU_WIRE_ASK_SIZE], uint32_t round, uint64_t skip)
{
    struct out o = {to, to + GPU_WIRE_ASK_SIZE};
    put(&o, 'A', 1);
    put(&o, GPU_WIRE_VERSION, 1);
    put(&o, round, 4);
    put(&o, skip, 8);
    return (size_t)(o.at - to);
}

/* ---- reading ---- */

struct in {
    const uint8_t *at, *end;
    bool bad;
};

static uint64_t get(struct in *in, int bytes)
{
    if (in->bad || in->end - in->at < bytes) {
        in->bad = true;
        return 0;
    }
    uint64_t v = 0;
    for (int i = 0; i < bytes; i++)
        v |= (uint64_t)*in->at++ << (8 * i);
    return v;
}

static int32_t get_i32(struct in *in)
{
    return (int32_t)(uint32_t)get(in, 4);
}

/* Clean UTF-8 without control characters, cut at a character. True: it had to be mended. */
static bool text_clean(const char *from, size_t n, char *to, size_t size)
{
    char clean[3 * 256 + 1];
    size_t len = utf8_clean(from, n, clean);
    bool mended = len != n || memcmp(clean, from, n) != 0;
    if (len >= size) {
        len = size - 1;
        while (len > 0 && ((unsigned char)clean[len] & 0xc0) == 0x80)
            len--;
        mended = true;
    }
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)clean[i] < ' ' || clean[i] == 0x7f) {
            clean[i] = '?';
            mended = true;
        }
    memcpy(to, clean, len);
    to[len] = '\0';
    return mended;
}

static bool get_text(struct in *in, char *to, size_t size)
{
    size_t n = (size_t)get(in, 1);
    if (in->bad || (size_t)(in->end - in->at) < n || n >= size) {
        in->bad = true;
        return false;
    }
    bool mended = text_clean((const char *)in->at, n, to, size);
    in->at += n;
    return mended;
}

/* Adds to a note, "; " between; what does not fit is left out whole. */
static void note_add(char note[GPU_NOTE_SIZE], const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
static void note_add(char note[GPU_NOTE_SIZE], const char *fmt, ...)
{
    char add[GPU_NOTE_SIZE];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(add, sizeof(add), fmt, ap);
    va_end(ap);
    size_t have = strlen(note);
    if (have + 2 + strlen(add) < GPU_NOTE_SIZE)
        snprintf(note + have, GPU_NOTE_SIZE - have, "%s%s", have > 0 ? "; " : "", add);
}

static int64_t field_read(const struct gpu_facts *g, enum gpu_field f)
{
    const char *at = (const char *)g + fields[f].offset;
    return fields[f].wide ? *(const int64_t *)(const void *)at : *(const int *)(const void *)at;
}

static void field_write(struct gpu_facts *g, enum gpu_field f, int64_t v)
{
    char *at = (char *)g + fields[f].offset;
    if (fields[f].wide)
        *(int64_t *)(void *)at = v;
    else
        *(int *)(void *)at = (int)v;
}

static void field_take(struct gpu_facts *g, enum gpu_field f, int64_t told)
{
    const struct field_row *row = &fields[f];
    if (told == GPU_WIRE_ABSENT_VALUE) {
        field_write(g, f, GPU_UNKNOWN);
        return;
    }
    if (told >= 0 && told <= row->most) {
        field_write(g, f, told);
        return;
    }
    note_add(g->note, "the driver gave an impossible %s: %" PRId64, row->name, told);
    field_write(g, f, !row->hold ? GPU_UNKNOWN : told < 0 ? 0 : row->most);
}

static void get_processes(struct in *in, struct gpu_facts *g)
{
    int64_t total = (int64_t)get(in, 8);
    int n = (int)get(in, 1);
    if (n > GPU_PROCESSES_MAX) {
        in->bad = true;
        return;
    }
    int odd = 0;
    for (int i = 0; i < n; i++) {
        struct gpu_process *p = &g->processes[g->n_processes];
        p->pid = (int64_t)get(in, 8);
        p->memory_mib = (int64_t)get(in, 8);
        p->sm_percent = get_i32(in);
        p->kind = (char)get(in, 1);
        p->dead = get(in, 1) != 0;
        if (p->sm_percent < 0 || p->sm_percent > 100)
            p->sm_percent = GPU_UNKNOWN;
        if (p->kind != 'G' && p->kind != 'M')
            p->kind = 'C';
        get_text(in, p->name, sizeof(p->name)); /* any program may call itself anything */
        if (in->bad)
            return;
        if (p->memory_mib == GPU_WIRE_ABSENT_VALUE)
            p->memory_mib = GPU_UNKNOWN;
        bool memory_odd = p->memory_mib < GPU_UNKNOWN || p->memory_mib > fields[0].most;
        bool pid_odd = p->pid <= 0 || p->pid > PID_MOST;
        odd += memory_odd || pid_odd;
        if (memory_odd)
            p->memory_mib = GPU_UNKNOWN;
        if (!pid_odd)
            g->n_processes++;
    }
    if (odd > 0)
        note_add(g->note, "the driver gave %d impossible processes", odd);
    if (total < n || total > INT_MAX) {
        note_add(g->note, "the driver gave an impossible number of processes: %" PRId64, total);
        total = n;
    }
    g->processes_total = (int)total;
}

static void get_numbers(struct in *in, struct gpu_facts *g)
{
    for (int i = 0; i < GPU_NUMBERS; i++) {
        int64_t told = (int64_t)get(in, 8);
        bool sane = told >= 0 && told <= gpu_numbers[i].most;
        if (!sane && told != GPU_WIRE_ABSENT_VALUE)
            note_add(g->note, "the driver gave an impossible %s: %" PRId64, gpu_numbers[i].name,
                     told);
        g->numbers[i] = sane ? told : GPU_UNKNOWN;
    }
}

static void get_links(struct in *in, struct gpu_facts *g)
{
    int n = (int)get(in, 1);
    if (n > GPU_LINKS_MAX)
        in->bad = true;
    for (int i = 0; i < n && !in->bad; i++) {
        struct gpu_link *l = &g->links[g->n_links++];
        l->active = get(in, 1) != 0;
        l->version = get_i32(in);
        if (l->version < 0 || l->version > 99)
            l->version = GPU_UNKNOWN;
        int64_t *const counters[] = {&l->replays, &l->recoveries, &l->flit_crc, &l->data_crc};
        for (size_t k = 0; k < ARRAY_LEN(counters); k++) {
            *counters[k] = (int64_t)get(in, 8);
            if (*counters[k] < 0)
                *counters[k] = GPU_UNKNOWN;
        }
    }
}

static void get_gpu(struct in *in, struct gpu_facts *g)
{
    int32_t index = get_i32(in);
    uint64_t state = get(in, 1);
    if (index < 0 || index > GPU_INDEX_MOST || state > GPU_ERROR) {
        in->bad = true;
        return;
    }
    gpu_facts_init(g, index);
    g->state = (enum gpu_state)state;
    int64_t told[GPU_FIELDS];
    for (int i = 0; i < GPU_FIELDS; i++)
        told[i] = (int64_t)get(in, 8);
    bool mended = get_text(in, g->uuid, sizeof(g->uuid));
    mended |= get_text(in, g->name, sizeof(g->name));
    mended |= get_text(in, g->driver, sizeof(g->driver));
    mended |= get_text(in, g->cuda, sizeof(g->cuda));
    get_text(in, g->note, sizeof(g->note));
    g->parent = get_i32(in);
    if (g->parent < -1 || g->parent >= GPU_MAX || (g->parent < 0 && index >= GPU_MAX))
        in->bad = true;
    get_numbers(in, g);
    mended |= get_text(in, g->serial, sizeof(g->serial));
    mended |= get_text(in, g->vbios, sizeof(g->vbios));
    mended |= get_text(in, g->bus, sizeof(g->bus));
    mended |= get_text(in, g->profile, sizeof(g->profile));
    mended |= get_text(in, g->topology, sizeof(g->topology));
    get_links(in, g);
    for (int i = 0; i < GPU_FIELDS; i++)
        field_take(g, (enum gpu_field)i, told[i]);
    int64_t total = field_read(g, FIELD_MEMORY_TOTAL_MIB);
    if (g->memory_used_mib > total) {
        if (total != GPU_UNKNOWN)
            note_add(g->note, "the driver says that %" PRId64 " MiB are used of %" PRId64,
                     g->memory_used_mib, total);
        g->memory_used_mib = total;
    }
    if (mended)
        note_add(g->note, "the driver gave a text that is not clean");
    get_processes(in, g);
}

bool gpu_wire_decode(const uint8_t *p, size_t n, struct gpu_wire_message *out)
{
    if (n > GPU_WIRE_MAX)
        return false;
    struct in in = {p, p + n, false};
    memset(out, 0, sizeof(*out));
    uint64_t type = get(&in, 1);
    if (get(&in, 1) != GPU_WIRE_VERSION)
        return false;
    out->gpu = -1;
    switch (type) {
    case GPU_WIRE_CALL:
        out->gpu = get_i32(&in);
        out->starting = get(&in, 1) != 0;
        get_text(&in, out->call, sizeof(out->call));
        if (out->gpu < -1 || out->gpu >= GPU_MAX)
            return false;
        break;
    case GPU_WIRE_GPU:
        out->round = (uint32_t)get(&in, 4);
        get_gpu(&in, &out->facts);
        break;
    case GPU_WIRE_XID: {
        out->gpu = get_i32(&in);
        int64_t xid = (int64_t)get(&in, 8);
        if (out->gpu < 0 || out->gpu >= GPU_MAX || xid < 0 || xid > GPU_XID_MOST)
            return false;
        out->xid = (int)xid;
        break;
    }
    case GPU_WIRE_END:
        out->round = (uint32_t)get(&in, 4);
        out->told = (int64_t)get(&in, 8);
        get_text(&in, out->note, sizeof(out->note));
        break;
    case GPU_WIRE_ABSENT:
        get_text(&in, out->note, sizeof(out->note));
        break;
    default:
        return false;
    }
    out->type = (enum gpu_wire_type)type;
    return !in.bad && in.at == in.end;
}

bool gpu_wire_ask_decode(const uint8_t *p, size_t n, uint32_t *round, uint64_t *skip)
{
    struct in in = {p, p + n, false};
    if (get(&in, 1) != 'A' || get(&in, 1) != GPU_WIRE_VERSION)
        return false;
    *round = (uint32_t)get(&in, 4);
    *skip = get(&in, 8);
    return !in.bad && in.at == in.end;
}
