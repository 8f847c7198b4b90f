/* Formats of the small files of an attempt's folder. All are text, so that a person who looks
 * into a folder understands it; each ends in a line or item that shows it is whole. */
#include "agent/folder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Decimal digits only, so a torn or forged number never becomes another one. */
static bool number(const char *s, const char *end, int64_t *out)
{
    int64_t v = 0;
    if (s == end)
        return false;
    for (; s < end; s++) {
        if (*s < '0' || *s > '9' || v > (INT64_MAX - (*s - '0')) / 10)
            return false;
        v = v * 10 + (*s - '0');
    }
    *out = v;
    return true;
}

/* ---- spec ---- */

static const struct {
    const char *key;
    size_t offset;
} spec_numbers[] =
    {
        {"id", offsetof(struct spec, id)},
        {"time_limit_us", offsetof(struct spec, time_limit_us)},
        {"grace_us", offsetof(struct spec, grace_us)},
        {"log_max_bytes", offsetof(struct spec, log_max_bytes)},
        {"memory_mib", offsetof(struct spec, memory_mib)},
        {"pids_max", offsetof(struct spec, pids_max)},
        {"cpus", offsetof(struct spec, cpus)},
        {"nproc", offsetof(struct spec, nproc)},
        {"isolation", offsetof(struct spec, isolation)},
        {"uid", offsetof(struct spec, uid)},
        {"gid", offsetof(struct spec, gid)},
        {"tmp_mib", offsetof(struct spec, tmp_mib)},
        {"own", offsetof(struct spec, own)},
        {"profiling", offsetof(struct spec, profiling)},
},
  spec_texts[] = {
      {"cwd", offsetof(struct spec, cwd)},         {"gpus", offsetof(struct spec, gpus)},
      {"cg_tree", offsetof(struct spec, cg_tree)}, {"cg_memory", offsetof(struct spec, cg_memory)},
      {"cg_pids", offsetof(struct spec, cg_pids)}, {"cg_cpu", offsetof(struct spec, cg_cpu)},
      {"groups", offsetof(struct spec, groups)},   {"home", offsetof(struct spec, home)},
      {"devices", offsetof(struct spec, devices)}, {"show", offsetof(struct spec, show)},
};

static bool spec_item(struct spec *s, const char *key, size_t key_len, char *value)
{
    for (size_t i = 0; i < sizeof(spec_numbers) / sizeof(spec_numbers[0]); i++)
        if (strlen(spec_numbers[i].key) == key_len &&
            memcmp(spec_numbers[i].key, key, key_len) == 0)
            return number(value, value + strlen(value),
                          (int64_t *)((char *)s + spec_numbers[i].offset));
    for (size_t i = 0; i < sizeof(spec_texts) / sizeof(spec_texts[0]); i++)
        if (strlen(spec_texts[i].key) == key_len && memcmp(spec_texts[i].key, key, key_len) == 0) {
            *(const char **)((char *)s + spec_texts[i].offset) = value;
            return true;
        }
    if (key_len == 3 && memcmp(key, "arg", 3) == 0) {
        s->argv[s->argc++] = value;
        return true;
    }
    if (key_len == 3 && memcmp(key, "env", 3) == 0 && strchr(value, '=') != NULL && *value != '=') {
        s->env[s->envc++] = value;
        return true;
    }
    return false;
}

bool spec_parse(char *data, size_t n, struct spec *out)
{
    if (n < sizeof(SPEC_FIRST) + sizeof(SPEC_LAST) || n > SPEC_MAX || data[n - 1] != '\0' ||
        strcmp(data, SPEC_FIRST) != 0)
        return false;
    size_t words = 0;
    for (size_t at = 0; at < n; at += strlen(data + at) + 1)
        words++;
    if (words > SPEC_WORDS_MAX + 64)
        return false;
    struct spec s = {.argv = calloc(words + 1, sizeof(char *)),
                     .env = calloc(words + 2, sizeof(char *))};
    bool ok = s.argv != NULL && s.env != NULL, whole = false;
    for (size_t at = sizeof(SPEC_FIRST); ok && at < n; at += strlen(data + at) + 1) {
        char *item = data + at, *is = strchr(item, '=');
        whole = strcmp(item, SPEC_LAST) == 0;
        if (whole)
            ok = at + sizeof(SPEC_LAST) == n; /* nothing comes after the end */
        else
            ok = is != NULL && spec_item(&s, item, (size_t)(is - item), is + 1);
    }
    if (!ok || !whole || s.argc == 0) {
        spec_fini(&s);
        return false;
    }
    *out = s;
    return true;
}

void spec_fini(struct spec *s)
{
    free(s->argv);
    free(s->env);
    s->argv = s->env = NULL;
    s->argc = s->envc = 0;
}

/* ---- started ---- */

int started_format(const struct started *s, char to[STARTED_MAX])
{
    int n = snprintf(to, STARTED_MAX, "drover-started 1 %d %llu %s\n", (int)s->shim,
                     (unsigned long long)s->shim_ticks, s->boot_id);
    if (s->job > 0)
        n += snprintf(to + n, (size_t)(STARTED_MAX - n), "job %d %lld\n", (int)s->job,
                      (long long)s->job_at_us);
    return n;
}

bool started_parse(const char *text, size_t n, struct started *out)
{
    struct started s = {0};
    if (n >= sizeof(SPEC_FIRST) && memcmp(text, SPEC_FIRST, sizeof(SPEC_FIRST)) == 0) {
        *out = (struct started){.claimed = true};
        return true;
    }
    char copy[STARTED_MAX];
    if (n >= sizeof(copy) || memchr(text, '\0', n) != NULL)
        return false;
    memcpy(copy, text, n);
    copy[n] = '\0';
    char *end = strchr(copy, '\n');
    if (end == NULL)
        return false;
    int shim = 0, used = 0;
    unsigned long long ticks = 0;
    *end = '\0';
    if (sscanf(copy, "drover-started 1 %9d %20llu %36s%n", &shim, &ticks, s.boot_id, &used) != 3 ||
        copy + used != end || shim <= 0)
        return false;
    s.shim = shim;
    s.shim_ticks = ticks;
    int job = 0;
    long long at = 0;
    /* the second line is added later: it counts once its newline is there */
    if (strchr(end + 1, '\n') != NULL && sscanf(end + 1, "job %9d %19lld", &job, &at) == 2 &&
        job > 0 && at >= 0) {
        s.job = job;
        s.job_at_us = at;
    }
    *out = s;
    return true;
}

void run_mark(const struct started *s, char to[RUN_MARK_SIZE])
{
    snprintf(to, RUN_MARK_SIZE, "DROVER_RUN=%.8s-%d-%llu", s->boot_id, (int)s->shim,
             (unsigned long long)s->shim_ticks);
}

/* ---- stop ---- */

static const char *const stop_names[] = {
    [STOP_NONE] = "none", [STOP_CANCELLED] = "cancelled", [STOP_PREEMPTED] = "preempted"};

int stop_format(enum stop_why why, int64_t grace_us, char to[STOP_MAX])
{
    return snprintf(to, STOP_MAX, "%s %lld\n", stop_names[why], (long long)grace_us);
}

bool stop_parse(const char *text, size_t n, enum stop_why *why, int64_t *grace_us)
{
    for (int w = STOP_CANCELLED; w <= STOP_PREEMPTED; w++) {
        size_t len = strlen(stop_names[w]);
        if (n > len + 2 && n < STOP_MAX && memcmp(text, stop_names[w], len) == 0 &&
            text[len] == ' ' && text[n - 1] == '\n' &&
            number(text + len + 1, text + n - 1, grace_us)) {
            *why = (enum stop_why)w;
            return true;
        }
    }
    return false;
}

/* ---- exit ---- */

static const char *const reason_names[] = {
    [END_EXITED] = "exited",
    [END_SIGNALLED] = "signalled",
    [END_OUT_OF_MEMORY] = "out_of_memory",
    [END_TIMED_OUT] = "timed_out",
    [END_CANCELLED] = "cancelled",
    [END_SUPERVISOR_LOST] = "supervisor_lost",
    [END_START_FAILED] = "start_failed",
    [END_NODE_REBOOTED] = "node_rebooted",
};
_Static_assert(sizeof(reason_names) / sizeof(reason_names[0]) == END_REASONS, "a name for each");

const char *end_reason_name(enum end_reason r)
{
    return r < END_REASONS ? reason_names[r] : "exited";
}

int exit_format(const struct exit_record *x, char to[EXIT_MAX])
{
    char detail[DETAIL_SIZE];
    snprintf(detail, sizeof(detail), "%s", x->detail);
    for (char *c = detail; *c != '\0'; c++)
        if ((unsigned char)*c < 0x20)
            *c = ' '; /* a command's name cannot add a line */
    int n = snprintf(to, EXIT_MAX, "drover-exit 1\nreason %s\n", end_reason_name(x->reason));
    if (x->code >= 0)
        n += snprintf(to + n, (size_t)(EXIT_MAX - n), "code %d\n", x->code);
    if (x->signal > 0)
        n += snprintf(to + n, (size_t)(EXIT_MAX - n), "signal %d\n", x->signal);
    n += snprintf(to + n, (size_t)(EXIT_MAX - n),
                  "started_us %lld\nended_us %lld\ncpu_us %lld\nmax_rss_kib %lld\ndropped %lld\n"
                  "detail %s\nend\n",
                  (long long)x->started_us, (long long)x->ended_us, (long long)x->cpu_us,
                  (long long)x->max_rss_kib, (long long)x->dropped, detail);
    return n;
}

static bool exit_line(struct exit_record *x, const char *line, const char *end)
{
    static const struct {
        const char *key;
        size_t offset;
    } longs[] = {
        {"started_us ", offsetof(struct exit_record, started_us)},
        {"ended_us ", offsetof(struct exit_record, ended_us)},
        {"cpu_us ", offsetof(struct exit_record, cpu_us)},
        {"max_rss_kib ", offsetof(struct exit_record, max_rss_kib)},
        {"dropped ", offsetof(struct exit_record, dropped)},
    };
    size_t len = (size_t)(end - line);
    int64_t v;
    for (size_t i = 0; i < sizeof(longs) / sizeof(longs[0]); i++) {
        size_t k = strlen(longs[i].key);
        if (len > k && memcmp(line, longs[i].key, k) == 0)
            return number(line + k, end, (int64_t *)((char *)x + longs[i].offset));
    }
    if (len > 5 && memcmp(line, "code ", 5) == 0) {
        if (!number(line + 5, end, &v) || v > 255)
            return false;
        x->code = (int)v;
        return true;
    }
    if (len > 7 && memcmp(line, "signal ", 7) == 0) {
        if (!number(line + 7, end, &v) || v < 1 || v > 64)
            return false;
        x->signal = (int)v;
        return true;
    }
    if (len > 7 && memcmp(line, "reason ", 7) == 0) {
        for (int r = 0; r < END_REASONS; r++)
            if (strlen(reason_names[r]) == len - 7 &&
                memcmp(line + 7, reason_names[r], len - 7) == 0) {
                x->reason = (enum end_reason)r;
                return true;
            }
        return false;
    }
    if (len >= 7 && memcmp(line, "detail ", 7) == 0 && len - 7 < sizeof(x->detail)) {
        memcpy(x->detail, line + 7, len - 7);
        x->detail[len - 7] = '\0';
        return true;
    }
    return false;
}

bool exit_parse(const char *text, size_t n, struct exit_record *out)
{
    static const char first[] = "drover-exit 1\n";
    struct exit_record x = {.reason = END_REASONS, .code = -1};
    size_t at = sizeof(first) - 1;
    if (n < at || n > EXIT_MAX || memcmp(text, first, at) != 0 || memchr(text, '\0', n) != NULL)
        return false;
    while (at < n) {
        const char *line = text + at, *end = memchr(line, '\n', n - at);
        if (end == NULL)
            return false;
        at = (size_t)(end - text) + 1;
        if (end - line == 3 && memcmp(line, "end", 3) == 0) {
            if (at != n || x.reason == END_REASONS)
                return false;
            *out = x;
            return true;
        }
        if (!exit_line(&x, line, end))
            return false;
    }
    return false;
}

/* ---- small files ---- */

ssize_t folder_read(int dir, const char *name, char *to, size_t max)
{
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -1;
    size_t n = 0;
    for (;;) {
        ssize_t got = read(fd, to + n, max + 1 - n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0 || (n += (size_t)got) > max) {
            int why = got < 0 ? errno : n > max ? EFBIG : 0;
            close(fd);
            errno = why;
            if (why != 0)
                return -1;
            to[n] = '\0';
            return (ssize_t)n;
        }
    }
}

size_t file_head(const char *path, char *to, size_t max)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t n = 0;
    for (ssize_t got; fd >= 0 && n < max && (got = read(fd, to + n, max - n)) > 0;)
        n += (size_t)got;
    if (fd >= 0)
        close(fd);
    to[n] = '\0';
    return n;
}

int folder_write(int dir, const char *name, const void *data, size_t n)
{
    char tmp[64];
    snprintf(tmp, sizeof(tmp), ".%s.%d", name, (int)getpid());
    int fd = openat(dir, tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -1;
    const char *at = data;
    while (n > 0) {
        ssize_t put = write(fd, at, n);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            break;
        at += put;
        n -= (size_t)put;
    }
    int why = n > 0 ? errno : 0;
    if (close(fd) != 0 && why == 0)
        why = errno;
    if (why == 0 && renameat(dir, tmp, dir, name) != 0)
        why = errno;
    if (why != 0) {
        unlinkat(dir, tmp, 0);
        errno = why;
        return -1;
    }
    return 0;
}

void boot_id_read(char to[BOOT_ID_SIZE])
{
    char text[64];
    ssize_t n = folder_read(AT_FDCWD, "/proc/sys/kernel/random/boot_id", text, sizeof(text) - 1);
    if (n >= BOOT_ID_SIZE - 1)
        memcpy(to, text, BOOT_ID_SIZE - 1);
    to[n >= BOOT_ID_SIZE - 1 ? BOOT_ID_SIZE - 1 : 0] = '\0';
}
