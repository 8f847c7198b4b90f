/* How a log of a given size is kept: rate, size on disk, size of the index, and how long a seek
 * takes, beside a plain write and fdatasync of the same bytes on the same disk in the same run.
 *
 *   logs_bench [FOLDER] [MIB]     FOLDER: default /tmp; MIB of training output: default 256
 */
#include "base/mem.h"
#include "base/world.h"
#include "logs/logs.h"
#include "logs/segment.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CHUNK = 256 << 10, SEEKS = 200 };

static void fail(const char *what)
{
    fprintf(stderr, "logs_bench: %s\n", what);
    exit(1);
}

/* Cheap and the same every time: the measured thing is the store. */
static uint32_t noise(uint32_t below)
{
    static uint64_t state = 1;
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (uint32_t)(state >> 33) % below;
}

/* Lines as a training run prints them: much alike, never the same. */
static size_t fill(uint8_t *to, size_t room, uint64_t *line, int64_t *clock_us)
{
    size_t at = 0;
    char text[160];
    for (;;) {
        int n = snprintf(text, sizeof(text),
                         "2026-11-23 14:%02d:%02d,%03d INFO train: epoch %d step %d loss %.6f lr "
                         "%.3e grad %.4f  %.1f samples/s",
                         (int)(*line / 60000 % 60), (int)(*line / 1000 % 60), (int)(*line % 1000),
                         (int)(*line / 5000), (int)(*line % 5000),
                         1.0 / (1 + (double)*line / 1e5) + (double)noise(10000) / 1e6,
                         3e-4 / (1 + (double)*line / 1e6), (double)noise(100000) / 1e4,
                         900 + (double)noise(1000) / 10);
        if (at + SPOOL_HEAD_SIZE + (size_t)n > room)
            return at;
        spool_encode_head(to + at, SPOOL_OUT, 0, (uint32_t)n, *clock_us);
        memcpy(to + at + SPOOL_HEAD_SIZE, text, (size_t)n);
        at += SPOOL_HEAD_SIZE + (size_t)n;
        ++*line;
        *clock_us += 1000;
    }
}

/* The same bytes to a plain file, synced as often as the log is. */
static double plain_rate(const char *dir, const uint8_t *chunk, size_t n, int rounds)
{
    char path[300];
    snprintf(path, sizeof(path), "%s/plain", dir);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    int64_t began = mono_us();
    for (int i = 0; i < rounds; i++)
        if (write(fd, chunk, n) != (ssize_t)n || fdatasync(fd) != 0)
            fail("writing the plain file");
    double seconds = (double)(mono_us() - began) / 1e6;
    close(fd);
    unlink(path);
    return (double)n * rounds / seconds / (1 << 20);
}

static double seek_ms(struct logs *l, const struct logs_stat *st, enum logs_from from)
{
    int64_t began = mono_us();
    for (int i = 0; i < SEEKS; i++) {
        AUTO(arena) struct arena a = {0};
        struct logs_page page;
        int64_t at = from == LOGS_FROM_LINE ? 1 + (int64_t)random_below((uint64_t)st->lines)
                     : from == LOGS_FROM_TIME
                         ? st->first_us +
                               (int64_t)random_below((uint64_t)(st->last_us - st->first_us))
                         : 100;
        struct logs_query q = {.from = from, .at = at, .max_lines = 100};
        if (logs_read(l, 1, &q, &a, &page, NULL) != OK || page.n == 0)
            fail("reading");
    }
    return (double)(mono_us() - began) / 1e3 / SEEKS;
}

int main(int argc, char **argv)
{
    char dir[256], path[300];
    long mib = argc > 2 ? strtol(argv[2], NULL, 10) : 256;
    snprintf(dir, sizeof(dir), "%s/logs-bench.XXXXXX", argc > 1 ? argv[1] : "/tmp");
    struct logs *l;
    struct err e = {0};
    if (mkdtemp(dir) == NULL || mib < 1 || logs_open(dir, NULL, &l, &e) != OK)
        fail("cannot begin");
    uint8_t *chunk = mem_alloc(CHUNK);
    uint64_t line = 0, have = 0;
    int64_t clock_us = now_us(), spent_us = 0;
    int rounds = 0;
    for (; have < (uint64_t)mib << 20; rounds++) {
        size_t n = fill(chunk, CHUNK, &line, &clock_us);
        int64_t began = mono_us();
        if (logs_append(l, 1, have, chunk, n, &have, &e) != OK)
            fail(e.text);
        spent_us += mono_us() - began;
    }
    int64_t began = mono_us();
    if (logs_end(l, 1, &e) != OK)
        fail(e.text);
    spent_us += mono_us() - began;
    struct logs_stat st;
    if (logs_stat(l, 1, &st, &e) != OK)
        fail(e.text);
    logs_close(l);
    if (logs_open(dir, NULL, &l, &e) != OK)
        fail(e.text);
    began = mono_us();
    if (logs_stat(l, 1, &st, &e) != OK)
        fail(e.text);
    double open_ms = (double)(mono_us() - began) / 1e3;

    uint8_t bytes[TRAILER_SIZE];
    struct trailer trailer;
    snprintf(path, sizeof(path), "%s/01/1.seg", dir);
    int fd = open(path, O_RDONLY);
    if (fd < 0 ||
        pread(fd, bytes, sizeof(bytes), (off_t)st.stored - TRAILER_SIZE) != TRAILER_SIZE ||
        !trailer_decode(&trailer, bytes))
        fail("the index");
    close(fd);
    double rate = (double)st.bytes / (double)spent_us * 1e6 / (1 << 20);
    double plain = plain_rate(dir, chunk, CHUNK, rounds);
    printf("log of %ld MiB, %lld lines\n", mib, (long long)st.lines);
    printf("append and end  %8.1f MiB/s   plain write and fdatasync %8.1f   %.2f of it\n", rate,
           plain, rate / plain);
    printf("on disk         %8.1f MiB     %.1f %% of the spool\n", (double)st.stored / (1 << 20),
           100.0 * (double)st.stored / (double)st.bytes);
    printf("index at end    %8.1f KiB     %llu frames, %.3f %% of what is on disk\n",
           (double)trailer.packed_len / 1024, (unsigned long long)trailer.frames,
           100.0 * (double)trailer.packed_len / (double)st.stored);
    printf("open            %8.2f ms\n", open_ms);
    printf("100 lines       %8.2f ms by line   %.2f ms by time   %.2f ms from the end\n",
           seek_ms(l, &st, LOGS_FROM_LINE), seek_ms(l, &st, LOGS_FROM_TIME),
           seek_ms(l, &st, LOGS_FROM_TAIL));
    logs_delete(l, 1, NULL);
    logs_close(l);
    static const char *const left[] = {"01", "lock", ""};
    for (size_t i = 0; i < ARRAY_LEN(left); i++) {
        snprintf(path, sizeof(path), "%s/%s", dir, left[i]);
        remove(path);
    }
    mem_free(chunk);
    return 0;
}
