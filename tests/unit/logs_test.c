/* The log store: what a reader sees is always a prefix of what was appended, whatever dies, tears,
 * fills up or is repeated. Random parts print their seed and take another one from DROVER_SEED. */
#include "test.h"

#include "logs/logs.h"
#include "logs/segment.h"

#include "base/world.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[64];
static uint64_t rnd_state = 1;

static uint32_t rnd(uint32_t below)
{
    rnd_state = rnd_state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (uint32_t)(rnd_state >> 33) % below;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    return remove(path);
}

static void fresh_dir(void)
{
    if (dir[0] != '\0')
        nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    snprintf(dir, sizeof(dir), "/tmp/drover-logs-test-XXXXXX");
    if (mkdtemp(dir) == NULL)
        abort();
}

__attribute__((destructor)) static void remove_dir(void)
{
    if (dir[0] != '\0')
        nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void seed(void)
{
    const char *given = getenv("DROVER_SEED");
    rnd_state = given != NULL ? strtoull(given, NULL, 0) : 20251123;
    printf("# seed %llu\n", (unsigned long long)rnd_state);
}

static struct logs *open_logs(const struct logs_settings *s)
{
    struct logs *l = NULL;
    struct err e = {0};
    CHECK_OK(logs_open(dir, s, &l, &e), &e);
    if (l == NULL)
        exit(1);
    return l;
}

/* ---- a spool in memory, and what a reader must make of it ---- */

struct spool {
    struct buf bytes;
    int64_t clock_us;
};

static void spool_add(struct spool *s, int stream, bool continues, const void *p, size_t n)
{
    uint8_t head[SPOOL_HEAD_SIZE];
    s->clock_us += 1000;
    spool_encode_head(head, (uint8_t)stream, continues ? SPOOL_CONTINUES : 0, (uint32_t)n,
                      s->clock_us);
    s->bytes.max = 512 << 20;
    buf_add(&s->bytes, head, sizeof(head));
    buf_add(&s->bytes, p, n);
}

static void spool_line(struct spool *s, int stream, const char *text)
{
    spool_add(s, stream, false, text, strlen(text));
}

/* Lines like those of programs: mostly short text, some binary, some empty, few in pieces. */
static void spool_random(struct spool *s, size_t bytes)
{
    static char text[SPOOL_TEXT_MAX];
    static bool open_[4];
    memset(open_, 0, sizeof(open_));
    while (s->bytes.len < bytes) {
        int stream = 1 + (int)rnd(10) / 7 + (rnd(50) == 0);
        uint32_t kind = rnd(100);
        size_t n = kind < 5 ? 0 : kind < 90 ? 20 + rnd(80) : kind < 99 ? rnd(2000) : rnd(65537);
        for (size_t i = 0; i < n; i++)
            text[i] = kind % 10 == 3 ? (char)rnd(256) : (char)('a' + (i * 7 + kind) % 20);
        if (n >= 12)
            memcpy(text, "epoch 3 loss", 12);
        spool_add(s, stream, rnd(30) == 0, text, n);
    }
    for (int stream = 1; stream <= 3; stream++)
        spool_line(s, stream, "end");
}

static uint64_t append_all(struct logs *l, int64_t id, const struct spool *s, uint64_t from,
                           uint64_t to)
{
    uint64_t have = from;
    struct err e = {0};
    while (have < to) {
        size_t n = 1 + rnd(rnd(8) == 0 ? 300000 : 5000);
        if (n > to - have)
            n = to - have;
        if (logs_append(l, id, have, s->bytes.data + have, n, &have, &e) != OK) {
            FAIL_("append at %llu: %s", (unsigned long long)have, e.text);
            break;
        }
    }
    return have;
}

/* Reads the whole log in pages and compares every record with the spool's first `bytes`. */
static int64_t check_same(struct logs *l, int64_t id, const struct spool *s, uint64_t bytes,
                          size_t page_lines)
{
    struct line_count count = {.next = 1};
    uint64_t at = 0;
    int64_t n = 0;
    struct err e = {0};
    for (;;) {
        AUTO(arena) struct arena a = {0};
        struct logs_page page;
        struct logs_query q = {
            .from = LOGS_FROM_OFFSET, .at = (int64_t)at, .max_lines = page_lines};
        if (logs_read(l, id, &q, &a, &page, &e) != OK) {
            FAIL_("reading at %llu: %s", (unsigned long long)at, e.text);
            return n;
        }
        for (size_t i = 0; i < page.n; i++, n++) {
            const struct log_line *line = &page.lines[i];
            struct spool_record r;
            long took = spool_decode(s->bytes.data + at, s->bytes.len - at, &r);
            if (took <= 0 || line->offset != at || line->stream != r.stream ||
                line->at_us != r.time_us || line->len != r.len ||
                line->partial != ((r.flags & SPOOL_CONTINUES) != 0) ||
                line->n != line_of(&count, &r) || memcmp(line->text, r.data, r.len) != 0) {
                FAIL_("record %lld at %llu differs", (long long)n, (unsigned long long)at);
                return n;
            }
            at += (size_t)took;
        }
        CHECK_INT(page.next_offset, at);
        if (page.n == 0)
            break;
    }
    CHECK_INT(at, bytes);
    return n;
}

static uint64_t whole_below(const struct spool *s, uint64_t have)
{
    return spool_whole(s->bytes.data, have, NULL);
}

static uint64_t have_of(struct logs *l, int64_t id)
{
    struct logs_stat st = {0};
    struct err e = {0};
    CHECK_OK(logs_stat(l, id, &st, &e), &e);
    return st.have;
}

/* ---- the tests ---- */

TEST(what_is_appended_is_read)
{
    seed();
    fresh_dir();
    struct spool s = {0};
    spool_random(&s, 3 << 20);
    struct logs *l = open_logs(NULL);
    CHECK_INT(append_all(l, 17, &s, 0, s.bytes.len), s.bytes.len);
    int64_t n = check_same(l, 17, &s, s.bytes.len, 777);
    CHECK(n > 1000);
    struct logs_stat st;
    struct err e = {0};
    CHECK_OK(logs_stat(l, 17, &st, &e), &e);
    CHECK(!st.complete);
    CHECK(st.durable > 2 << 20 && st.durable < s.bytes.len);
    CHECK_INT(st.first_us, 1000);
    CHECK_INT(st.last_us, s.clock_us);
    CHECK_OK(logs_end(l, 17, &e), &e);
    CHECK_OK(logs_end(l, 17, &e), &e);
    check_same(l, 17, &s, s.bytes.len, 100000);
    int64_t lines = st.lines;
    CHECK_OK(logs_stat(l, 17, &st, &e), &e);
    CHECK(st.complete);
    CHECK_INT(st.lines, lines);
    CHECK_INT(st.durable, s.bytes.len);
    CHECK(st.stored < s.bytes.len * 2 / 3);
    logs_close(l);
    l = open_logs(NULL);
    CHECK_INT(check_same(l, 17, &s, s.bytes.len, 5000), n);
    CHECK_OK(logs_stat(l, 17, &st, &e), &e);
    CHECK_INT(st.lines, lines);
    CHECK(st.complete);
    CHECK_INT(st.first_us, 1000);
    CHECK_INT(st.last_us, s.clock_us);
    uint64_t have;
    CHECK_INT(logs_append(l, 17, s.bytes.len, s.bytes.data, 16, &have, &e), ERR_CONFLICT);
    CHECK_OK(logs_append(l, 17, 5, s.bytes.data + 5, 16, &have, &e), &e);
    CHECK_INT(have, s.bytes.len);
    logs_close(l);
    buf_fini(&s.bytes);
}

TEST(repeats_are_ignored_gaps_and_rubbish_refused)
{
    fresh_dir();
    struct spool s = {0};
    spool_line(&s, SPOOL_OUT, "one");
    spool_line(&s, SPOOL_ERR, "two");
    spool_line(&s, SPOOL_OUT, "three");
    struct logs *l = open_logs(NULL);
    struct err e = {0};
    uint64_t have = 99;
    CHECK_OK(logs_append(l, 1, 0, s.bytes.data, 25, &have, &e), &e);
    CHECK_INT(have, 25);
    check_same(l, 1, &s, 19, 10);
    CHECK_OK(logs_append(l, 1, 3, s.bytes.data + 3, 20, &have, &e), &e);
    CHECK_INT(have, 25);
    CHECK_INT(logs_append(l, 1, 26, s.bytes.data + 26, 1, &have, &e), ERR_CONFLICT);
    CHECK_INT(have, 25);
    CHECK_OK(logs_append(l, 1, 0, s.bytes.data, s.bytes.len, &have, &e), &e);
    CHECK_INT(check_same(l, 1, &s, s.bytes.len, 10), 3);
    CHECK_INT(logs_append(l, 1, have, "\x09rubbish", 8, &have, &e), ERR_MALFORMED);
    CHECK_INT(have, s.bytes.len);
    /* A start that only later turns out to be no record is taken back. */
    CHECK_OK(logs_append(l, 1, have, "\x01", 1, &have, &e), &e);
    CHECK_INT(have, s.bytes.len + 1);
    CHECK_INT(logs_append(l, 1, have,
                          "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 15, &have,
                          &e),
              ERR_MALFORMED);
    CHECK_INT(have, s.bytes.len);
    logs_close(l);
    l = open_logs(NULL);
    CHECK_INT(have_of(l, 1), s.bytes.len);
    check_same(l, 1, &s, s.bytes.len, 10);
    CHECK_INT(logs_append(l, -1, 0, "", 0, &have, &e), ERR_INVALID);
    void *large = mem_alloc(LOGS_APPEND_MAX + 1);
    CHECK_INT(logs_append(l, 1, 0, large, LOGS_APPEND_MAX + 1, &have, &e), ERR_TOO_LARGE);
    mem_free(large);
    struct logs *second;
    CHECK_INT(logs_open(dir, NULL, &second, &e), ERR_CONFLICT);
    logs_close(l);
    buf_fini(&s.bytes);
}

/* An attempt that nobody printed in, one that ends inside a record, one that is deleted. */
TEST(edges_of_a_life)
{
    fresh_dir();
    struct logs *l = open_logs(NULL);
    struct err e = {0};
    AUTO(arena) struct arena a = {0};
    struct logs_page page;
    struct logs_stat st;
    CHECK_OK(logs_read(l, 5, NULL, &a, &page, &e), &e);
    CHECK_INT(page.n, 0);
    CHECK(!page.complete);
    CHECK_OK(logs_end(l, 5, &e), &e);
    CHECK_OK(logs_read(l, 5, NULL, &a, &page, &e), &e);
    CHECK(page.complete);
    logs_close(l);
    l = open_logs(NULL);
    CHECK_OK(logs_stat(l, 5, &st, &e), &e);
    CHECK(st.complete);
    CHECK_INT(st.lines, 0);

    struct spool s = {0};
    spool_line(&s, SPOOL_OUT, "whole");
    spool_line(&s, SPOOL_OUT, "torn");
    uint64_t have;
    CHECK_OK(logs_append(l, 6, 0, s.bytes.data, s.bytes.len - 2, &have, &e), &e);
    CHECK_OK(logs_end(l, 6, &e), &e);
    CHECK_OK(logs_stat(l, 6, &st, &e), &e);
    CHECK_INT(st.have, s.bytes.len - 2);
    CHECK_INT(st.bytes, 21);
    CHECK_INT(st.lines, 1);
    logs_close(l);
    l = open_logs(NULL);
    CHECK_OK(logs_stat(l, 6, &st, &e), &e);
    CHECK_INT(st.have, s.bytes.len - 2);
    CHECK_OK(logs_delete(l, 6, &e), &e);
    CHECK_OK(logs_delete(l, 6, &e), &e);
    CHECK_OK(logs_stat(l, 6, &st, &e), &e);
    CHECK_INT(st.have, 0);
    CHECK(!st.complete);
    CHECK_OK(logs_append(l, 6, 0, s.bytes.data, s.bytes.len, &have, &e), &e);
    CHECK_INT(check_same(l, 6, &s, s.bytes.len, 10), 2);
    logs_close(l);
    buf_fini(&s.bytes);
}

static struct logs_page read_page(struct logs *l, struct arena *a, struct logs_query q)
{
    struct logs_page page = {0};
    struct err e = {0};
    CHECK_OK(logs_read(l, 1, &q, a, &page, &e), &e);
    return page;
}

TEST(seeks_by_line_time_offset_and_tail)
{
    for (int ended = 0; ended < 2; ended++) {
        fresh_dir();
        struct logs *l = open_logs(NULL);
        AUTO(arena) struct arena a = {0};
        struct spool s = {0};
        char text[64];
        enum { LINES = 40000 };
        uint64_t *offsets = mem_alloc(LINES * sizeof(*offsets));
        for (int i = 0; i < LINES; i++) {
            offsets[i] = s.bytes.len;
            snprintf(text, sizeof(text), "this is line %d of a training run", i + 1);
            spool_line(&s, i % 1000 == 999 ? SPOOL_ERR : SPOOL_OUT, text);
        }
        append_all(l, 1, &s, 0, s.bytes.len);
        struct err e = {0};
        if (ended)
            CHECK_OK(logs_end(l, 1, &e), &e);
        struct logs_page p = read_page(
            l, &a, (struct logs_query){.from = LOGS_FROM_LINE, .at = 31234, .max_lines = 3});
        CHECK_INT(p.n, 3);
        CHECK_INT(p.lines[0].n, 31234);
        CHECK_STR(p.lines[0].text, "this is line 31234 of a training run");
        CHECK_INT(p.next_offset, offsets[31236]);
        p = read_page(
            l, &a, (struct logs_query){.from = LOGS_FROM_TIME, .at = 1000 * 20000, .max_lines = 1});
        CHECK_INT(p.lines[0].n, 20000);
        p = read_page(l, &a,
                      (struct logs_query){.from = LOGS_FROM_OFFSET,
                                          .at = (int64_t)offsets[777] - 3,
                                          .max_lines = 1});
        CHECK_INT(p.lines[0].n, 778);
        p = read_page(l, &a, (struct logs_query){.from = LOGS_FROM_TAIL, .at = 5});
        CHECK_INT(p.n, 5);
        CHECK_INT(p.lines[0].n, LINES - 4);
        CHECK_INT(p.next_offset, s.bytes.len);
        CHECK_INT(p.complete, ended);
        p = read_page(l, &a,
                      (struct logs_query){.from = LOGS_FROM_TAIL, .at = 12, .streams = LOGS_ERR});
        CHECK_INT(p.n, 12);
        CHECK_INT(p.lines[0].n, 29000);
        CHECK_INT(p.lines[11].n, 40000);
        p = read_page(l, &a, (struct logs_query){.streams = LOGS_ERR, .max_lines = 100});
        CHECK_INT(p.n, 40);
        p = read_page(l, &a, (struct logs_query){.streams = LOGS_SYSTEM});
        CHECK_INT(p.n, 0);
        CHECK_INT(p.next_offset, s.bytes.len);
        p = read_page(l, &a, (struct logs_query){.from = LOGS_FROM_TAIL, .at = 0});
        CHECK_INT(p.n, 0);
        CHECK_INT(p.next_offset, s.bytes.len);
        p = read_page(l, &a,
                      (struct logs_query){.from = LOGS_FROM_TAIL, .at = 1 << 30, .max_lines = 2});
        CHECK_INT(p.lines[0].n, 1);
        p = read_page(l, &a, (struct logs_query){.from = LOGS_FROM_LINE, .at = LINES + 1});
        CHECK_INT(p.n, 0);
        CHECK_INT(p.next_offset, s.bytes.len);
        p = read_page(l, &a, (struct logs_query){.max_bytes = 100});
        CHECK_INT(p.n, 3);
        logs_close(l);
        mem_free(offsets);
        buf_fini(&s.bytes);
    }
}

/* 100 MiB without a newline: pieces of 64 KiB with one line number, and pages stay small. */
TEST(a_line_of_100_MiB_comes_in_pieces)
{
    fresh_dir();
    struct logs *l = open_logs(NULL);
    struct err e = {0};
    static char piece[SPOOL_TEXT_MAX];
    memset(piece, 'x', sizeof(piece));
    struct spool s = {0};
    spool_line(&s, SPOOL_OUT, "before");
    uint64_t have = 0;
    CHECK_OK(logs_append(l, 1, 0, s.bytes.data, s.bytes.len, &have, &e), &e);
    enum { PIECES = 1600 };
    for (int i = 0; i < PIECES; i++) {
        buf_reset(&s.bytes);
        spool_add(&s, SPOOL_OUT, i < PIECES - 1, piece, sizeof(piece));
        if (i == 100)
            spool_line(&s, SPOOL_ERR, "in between");
        CHECK_OK(logs_append(l, 1, have, s.bytes.data, s.bytes.len, &have, &e), &e);
    }
    buf_reset(&s.bytes);
    spool_line(&s, SPOOL_OUT, "after");
    CHECK_OK(logs_append(l, 1, have, s.bytes.data, s.bytes.len, &have, &e), &e);
    AUTO(arena) struct arena a = {0};
    struct logs_page p = read_page(l, &a, (struct logs_query){.from = LOGS_FROM_LINE, .at = 2});
    CHECK(p.n > 0 && p.n <= 16);
    CHECK_INT(p.lines[0].n, 2);
    CHECK(p.lines[0].partial);
    CHECK_INT(p.lines[0].len, SPOOL_TEXT_MAX);
    p = read_page(l, &a, (struct logs_query){.from = LOGS_FROM_TAIL, .at = 2});
    CHECK_INT(p.n, 2);
    CHECK_INT(p.lines[0].n, 2);
    CHECK(!p.lines[0].partial);
    CHECK_STR(p.lines[1].text, "after");
    CHECK_INT(p.lines[1].n, 4);
    p = read_page(l, &a, (struct logs_query){.streams = LOGS_ERR});
    CHECK_INT(p.n, 1);
    CHECK_INT(p.lines[0].n, 3);
    struct logs_stat st;
    CHECK_OK(logs_stat(l, 1, &st, &e), &e);
    CHECK_INT(st.lines, 4);
    CHECK(st.stored < 3 << 20);
    logs_close(l);
    buf_fini(&s.bytes);
}

/* ---- crashes ---- */

static void file_path(char to[128], int64_t id, const char *ending)
{
    snprintf(to, 128, "%s/%02x/%lld.%s", dir, (unsigned)(id & 0xff), (long long)id, ending);
}

/* Every byte at which a file may have been cut: what is left is a prefix, and goes on exactly. */
TEST(torn_files_are_mended)
{
    seed();
    struct spool s = {0};
    spool_random(&s, 900000);
    for (int round = 0; round < 120; round++) {
        fresh_dir();
        struct logs *l = open_logs(NULL);
        uint64_t appended = append_all(l, 3, &s, 0, 1 + rnd((uint32_t)s.bytes.len));
        bool ended = round % 4 == 3;
        struct err e = {0};
        if (ended) {
            appended = append_all(l, 3, &s, appended, s.bytes.len);
            CHECK_OK(logs_end(l, 3, &e), &e);
        }
        logs_close(l);
        /* Cut the newest file, or put foreign bytes at its end. */
        char seg[128], raw[128];
        file_path(seg, 3, "seg");
        file_path(raw, 3, "raw");
        struct stat st;
        const char *victim = ended || (stat(raw, &st) != 0) ||
                                     (round % 8 == 2 && stat(seg, &st) == 0)
                                 ? seg
                                 : raw;
        CHECK_INT(stat(victim, &st), 0);
        bool raw_is_left = stat(raw, &(struct stat){0}) == 0;
        off_t cut = st.st_size - (off_t)rnd(rnd(2) ? 300 : (uint32_t)st.st_size + 1);
        if (cut < 0)
            cut = 0;
        CHECK_INT(truncate(victim, cut), 0);
        if (round % 3 == 0) {
            int fd = open(victim, O_WRONLY | O_APPEND);
            char junk[999];
            for (size_t i = 0; i < sizeof(junk); i++)
                junk[i] = round % 2 == 0 ? (char)rnd(256) : 0;
            CHECK_INT(write(fd, junk, sizeof(junk)), sizeof(junk));
            close(fd);
        }
        l = open_logs(NULL);
        uint64_t have = have_of(l, 3);
        CHECK(have <= appended);
        check_same(l, 3, &s, whole_below(&s, have), 4000);
        (void)raw_is_left;
        struct logs_stat stat_;
        CHECK_OK(logs_stat(l, 3, &stat_, &e), &e);
        if (!stat_.complete) {
            append_all(l, 3, &s, have, s.bytes.len);
            CHECK_OK(logs_end(l, 3, &e), &e);
        }
        check_same(l, 3, &s, s.bytes.len, 4000);
        logs_close(l);
        if (test_failures_ > 0) {
            printf("# round %d\n", round);
            break;
        }
    }
    buf_fini(&s.bytes);
}

/* A child appends and is killed at a random moment; the parent finds a prefix and goes on. */
TEST(kill_9_at_random_moments)
{
    seed();
    struct spool s = {0};
    spool_random(&s, 2 << 20);
    for (int round = 0; round < 12; round++) {
        fresh_dir();
        uint64_t have = 0;
        int kills = 0;
        while (have < s.bytes.len && kills < 30) {
            uint64_t state = rnd_state += 12345;
            pid_t child = fork();
            if (child == 0) {
                rnd_state = state;
                struct logs *l = NULL;
                if (logs_open(dir, NULL, &l, NULL) != OK)
                    _exit(1);
                struct logs_stat st;
                logs_stat(l, 9, &st, NULL);
                append_all(l, 9, &s, st.have, s.bytes.len);
                for (;;)
                    pause();
            }
            usleep(300 + rnd(12000));
            kill(child, SIGKILL);
            int status;
            waitpid(child, &status, 0);
            CHECK(WIFSIGNALED(status));
            kills++;
            struct logs *l = open_logs(NULL);
            uint64_t now = have_of(l, 9);
            CHECK(now >= have);
            have = now;
            check_same(l, 9, &s, whole_below(&s, have), 50000);
            logs_close(l);
        }
        struct logs *l = open_logs(NULL);
        append_all(l, 9, &s, have, s.bytes.len);
        struct err e = {0};
        CHECK_OK(logs_end(l, 9, &e), &e);
        check_same(l, 9, &s, s.bytes.len, 50000);
        logs_close(l);
        if (test_failures_ > 0)
            break;
    }
    buf_fini(&s.bytes);
}

TEST(a_changed_byte_is_told_with_its_file)
{
    fresh_dir();
    seed();
    struct spool s = {0};
    spool_random(&s, 800000);
    struct logs *l = open_logs(NULL);
    append_all(l, 3, &s, 0, s.bytes.len);
    struct err e = {0};
    CHECK_OK(logs_end(l, 3, &e), &e);
    logs_close(l);
    char seg[128];
    file_path(seg, 3, "seg");
    int fd = open(seg, O_RDWR);
    uint8_t byte;
    CHECK_INT(pread(fd, &byte, 1, 500), 1);
    byte ^= 1;
    CHECK_INT(pwrite(fd, &byte, 1, 500), 1);
    close(fd);
    l = open_logs(NULL);
    AUTO(arena) struct arena a = {0};
    struct logs_page page;
    CHECK_INT(logs_read(l, 3, NULL, &a, &page, &e), ERR_CORRUPT);
    CHECK_STR(e.text, "the log file 03/3.seg is damaged at byte 0");
    /* The rest of the log is not lost with it. */
    struct logs_query q = {.from = LOGS_FROM_TAIL, .at = 3};
    CHECK_OK(logs_read(l, 3, &q, &a, &page, &e), &e);
    CHECK_INT(page.n, 3);
    CHECK_STR(page.lines[2].text, "end");
    logs_close(l);
    buf_fini(&s.bytes);
}

/* ---- a disk that is full or fails ---- */

TEST(a_log_stops_at_the_floor_of_the_disk)
{
    fresh_dir();
    struct spool s = {0};
    spool_random(&s, 1000);
    struct disk_room room;
    struct err e = {0};
    uint64_t have = 7;
    struct logs *l = open_logs(&(struct logs_settings){.floor_mib = INT64_C(1) << 40});
    CHECK(logs_room(l, &room) && room.free < room.floor);
    CHECK_INT(logs_append(l, 1, 0, s.bytes.data, s.bytes.len, &have, &e), ERR_FULL);
    CHECK_INT(have, 0);
    CHECK_OK(logs_end(l, 1, &e), &e); /* what ends a log frees room */
    logs_close(l);
    l = open_logs(&(struct logs_settings){.floor_mib = DISK_FLOOR_AUTO});
    CHECK(logs_room(l, &room) && room.floor <= room.total / 4);
    CHECK_OK(logs_append(l, 2, 0, s.bytes.data, s.bytes.len, &have, &e), &e);
    logs_close(l);
    CHECK_INT(disk_floor(INT64_C(4) << 40, DISK_FLOOR_AUTO), INT64_C(1) << 30);
    CHECK_INT(disk_floor(INT64_C(2) << 30, DISK_FLOOR_AUTO), (INT64_C(2) << 30) / 20);
    CHECK_INT(disk_floor(12 << 20, DISK_FLOOR_AUTO), 3 << 20);
    CHECK_INT(disk_floor(12 << 20, 5), 5 << 20);
    buf_fini(&s.bytes);
}

static _Atomic int64_t disk_room = INT64_MAX; /* _Atomic: tests append from several threads */
static _Atomic int sync_fails;

static long small_pwrite(int fd, const void *p, size_t n, int64_t at)
{
    if (disk_room <= 0) {
        errno = ENOSPC;
        return -1;
    }
    if ((int64_t)n > disk_room)
        n = (size_t)disk_room; /* a short write, as a real disk does before ENOSPC */
    disk_room -= (int64_t)n;
    return pwrite(fd, p, n, at);
}

static int failing_fdatasync(int fd)
{
    if (sync_fails > 0 && sync_fails-- > 0) {
        errno = EIO;
        return -1;
    }
    return 0;
}

static const struct logs_disk small_disk = {small_pwrite, failing_fdatasync};

TEST(a_full_disk_takes_nothing_and_goes_on_later)
{
    seed();
    struct spool s = {0};
    spool_random(&s, 1500000);
    const struct logs_settings settings = {.disk = &small_disk};
    for (int round = 0; round < 60; round++) {
        fresh_dir();
        struct logs *l = open_logs(&settings);
        uint64_t have = 0;
        struct err e = {0};
        int refused = 0;
        disk_room = 1 + rnd(700000);
        while (have < s.bytes.len) {
            size_t n = 1 + rnd(90000);
            if (n > s.bytes.len - have)
                n = s.bytes.len - have;
            uint64_t before = have;
            int k = logs_append(l, 4, have, s.bytes.data + have, n, &have, &e);
            if (k == OK)
                continue;
            CHECK_INT(k, ERR_FULL);
            CHECK(have >= before && have < before + n);
            refused++;
            check_same(l, 4, &s, whole_below(&s, have), 100000);
            if (round % 2 == 0) {
                logs_close(l);
                disk_room = INT64_MAX;
                l = open_logs(&settings);
                CHECK_INT(have_of(l, 4), have);
            }
            disk_room = 1 + rnd(700000);
        }
        disk_room = 1;
        int k = logs_end(l, 4, &e);
        CHECK(k == OK || k == ERR_FULL);
        check_same(l, 4, &s, s.bytes.len, 100000);
        disk_room = INT64_MAX;
        CHECK_OK(logs_end(l, 4, &e), &e);
        check_same(l, 4, &s, s.bytes.len, 100000);
        logs_close(l);
        l = open_logs(NULL);
        check_same(l, 4, &s, s.bytes.len, 100000);
        logs_close(l);
        CHECK(refused > 0);
        if (test_failures_ > 0)
            break;
    }
    buf_fini(&s.bytes);
}

TEST(a_failed_sync_makes_nothing_durable)
{
    fresh_dir();
    struct spool s = {0};
    spool_line(&s, SPOOL_OUT, "hello");
    const struct logs_settings settings = {.disk = &small_disk};
    disk_room = INT64_MAX;
    sync_fails = 0;
    struct logs *l = open_logs(&settings);
    struct err e = {0};
    uint64_t have, durable = 77;
    CHECK_OK(logs_append(l, 1, 0, s.bytes.data, s.bytes.len, &have, &e), &e);
    CHECK_OK(logs_durable(l, 1, &durable, &e), &e);
    CHECK_INT(durable, 0);
    sync_fails = 1;
    durable = 77;
    CHECK_INT(logs_sync(l, 1, &durable, &e), ERR_IO);
    CHECK_INT(durable, 77);
    CHECK_OK(logs_sync(l, 1, &durable, &e), &e);
    CHECK_INT(durable, s.bytes.len);
    sync_fails = 1;
    CHECK_INT(logs_end(l, 1, &e), ERR_IO);
    CHECK_OK(logs_end(l, 1, &e), &e);
    CHECK_INT(check_same(l, 1, &s, s.bytes.len, 10), 1);
    logs_close(l);
    buf_fini(&s.bytes);
}

/* ---- many logs, many threads ---- */

static int count_descriptors(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (d != NULL && readdir(d) != NULL)
        n++;
    closedir(d);
    return n;
}

TEST(many_logs_need_few_descriptors)
{
    fresh_dir();
    const struct logs_settings settings = {.open_max = 8, .disk = &small_disk};
    struct logs *l = open_logs(&settings);
    int before = count_descriptors();
    struct err e = {0};
    for (int round = 0; round < 3; round++) {
        for (int64_t id = 1; id <= 300; id++) {
            struct spool s = {0};
            char text[64];
            for (int i = 0; i <= round; i++) {
                snprintf(text, sizeof(text), "log %lld line %d", (long long)id, i);
                spool_line(&s, SPOOL_OUT, text);
            }
            CHECK_OK(logs_append(l, id, 0, s.bytes.data, s.bytes.len, NULL, &e), &e);
            if (round == 2 && id % 2 == 0)
                CHECK_OK(logs_end(l, id, &e), &e);
            buf_fini(&s.bytes);
        }
    }
    CHECK(count_descriptors() <= before + 2 * 8);
    for (int64_t id = 1; id <= 300; id++) {
        AUTO(arena) struct arena a = {0};
        struct logs_page page;
        CHECK_OK(logs_read(l, id, NULL, &a, &page, &e), &e);
        CHECK_INT(page.n, 3);
        CHECK_INT(page.complete, id % 2 == 0);
    }
    logs_close(l);
}

struct follower {
    struct logs *l;
    int64_t id;
    pthread_mutex_t lock;
    pthread_cond_t more;
    uint64_t told;
    bool ended;
    uint64_t read;
    int64_t lines;
};

static void on_more(void *ctx, int64_t attempt, uint64_t bytes, bool ended)
{
    struct follower *f = ctx;
    pthread_mutex_lock(&f->lock);
    if (bytes > f->told)
        f->told = bytes;
    f->ended |= ended;
    pthread_cond_signal(&f->more);
    pthread_mutex_unlock(&f->lock);
}

static void *follow(void *ctx)
{
    struct follower *f = ctx;
    logs_watch(f->l, f->id, on_more, f);
    for (bool done = false; !done;) {
        AUTO(arena) struct arena a = {0};
        struct logs_page page = {0};
        struct logs_query q = {.from = LOGS_FROM_OFFSET, .at = (int64_t)f->read};
        if (logs_read(f->l, f->id, &q, &a, &page, NULL) != OK)
            break;
        f->read = page.next_offset;
        f->lines += (int64_t)page.n;
        done = page.complete;
        pthread_mutex_lock(&f->lock);
        while (!done && !f->ended && f->told <= f->read)
            pthread_cond_wait(&f->more, &f->lock);
        pthread_mutex_unlock(&f->lock);
    }
    logs_unwatch(f->l, f->id, on_more, f);
    return NULL;
}

struct writer {
    struct logs *l;
    int64_t id;
    const struct spool *s;
};

static void *write_log(void *ctx)
{
    struct writer *w = ctx;
    for (uint64_t have = 0; have < w->s->bytes.len;) {
        size_t n = w->s->bytes.len - have < 7000 ? w->s->bytes.len - have : 7000;
        if (logs_append(w->l, w->id, have, w->s->bytes.data + have, n, &have, NULL) != OK)
            break;
    }
    logs_end(w->l, w->id, NULL);
    return NULL;
}

TEST(followers_see_everything_and_are_woken)
{
    fresh_dir();
    seed();
    const struct logs_settings settings = {.open_max = 2, .disk = &small_disk};
    disk_room = INT64_MAX;
    struct logs *l = open_logs(&settings);
    struct spool s = {0};
    spool_random(&s, 1200000);
    enum { LOGS = 4, FOLLOWERS = 8 };
    pthread_t writers[LOGS], readers[FOLLOWERS];
    struct writer w[LOGS];
    struct follower f[FOLLOWERS];
    for (int i = 0; i < FOLLOWERS; i++) {
        f[i] = (struct follower){.l = l, .id = i % LOGS};
        pthread_mutex_init(&f[i].lock, NULL);
        pthread_cond_init(&f[i].more, NULL);
        pthread_create(&readers[i], NULL, follow, &f[i]);
    }
    for (int i = 0; i < LOGS; i++) {
        w[i] = (struct writer){l, i, &s};
        pthread_create(&writers[i], NULL, write_log, &w[i]);
    }
    for (int i = 0; i < LOGS; i++)
        pthread_join(writers[i], NULL);
    for (int i = 0; i < FOLLOWERS; i++)
        pthread_join(readers[i], NULL);
    int64_t n = check_same(l, 0, &s, s.bytes.len, 100000);
    for (int i = 0; i < FOLLOWERS; i++) {
        CHECK_INT(f[i].read, s.bytes.len);
        CHECK_INT(f[i].lines, n);
    }
    logs_close(l);
    buf_fini(&s.bytes);
}

/* What the fuzzer looks for, with bytes that are the same every time. */
TEST(foreign_bytes_are_survived)
{
    seed();
    fresh_dir();
    struct spool s = {0};
    spool_random(&s, 300000);
    struct logs *l = open_logs(&(struct logs_settings){.disk = &small_disk});
    append_all(l, 3, &s, 0, s.bytes.len);
    logs_end(l, 3, NULL);
    append_all(l, 259, &s, 0, 290000);
    logs_close(l);
    static const char *const endings[] = {"seg", "seg", "raw"};
    static const int64_t ids[] = {3, 259, 259};
    for (int round = 0; round < 300; round++) {
        char path[128];
        file_path(path, ids[round % 3], endings[round % 3]);
        int fd = open(path, O_RDWR);
        struct stat st;
        if (fd < 0 || fstat(fd, &st) != 0)
            break;
        uint8_t *old = mem_alloc((size_t)st.st_size);
        CHECK_INT(pread(fd, old, (size_t)st.st_size, 0), st.st_size);
        for (uint32_t i = 0, n = 1 + rnd(6); i < n; i++) {
            off_t at = rnd(2)   ? rnd((uint32_t)st.st_size)
                       : rnd(2) ? rnd(160)
                                : st.st_size - 1 - rnd(160);
            uint8_t byte = (uint8_t)rnd(256);
            if (at >= 0 && at < st.st_size)
                CHECK_INT(pwrite(fd, &byte, 1, at), 1);
        }
        l = open_logs(&(struct logs_settings){.disk = &small_disk});
        for (uint64_t at = 0;;) {
            AUTO(arena) struct arena a = {0};
            struct logs_page page = {0};
            struct logs_query q = {.from = LOGS_FROM_OFFSET, .at = (int64_t)at};
            if (logs_read(l, ids[round % 3], &q, &a, &page, NULL) != OK || page.n == 0)
                break;
            at = page.next_offset;
        }
        logs_close(l);
        CHECK_INT(ftruncate(fd, 0), 0);
        CHECK_INT(pwrite(fd, old, (size_t)st.st_size, 0), st.st_size);
        mem_free(old);
        close(fd);
    }
    buf_fini(&s.bytes);
}

/* Same conversions in the same order, and found by the code's own text. */
TEST(texts_are_translated)
{
    for (const struct err_text *t = logs_texts_zh; t->en != NULL; t++) {
        const char *zh = t->zh;
        for (const char *en = strchr(t->en, '%'); en != NULL; en = strchr(en + 1, '%')) {
            zh = strchr(zh, '%');
            CHECK(zh != NULL && strncmp(zh, en, 2) == 0);
            zh = zh != NULL ? zh + 1 : t->zh;
        }
        CHECK(strchr(zh, '%') == NULL);
    }
    fresh_dir();
    err_translate_with(logs_texts_zh);
    err_lang_set(LANG_ZH);
    struct logs *l = open_logs(NULL);
    struct err e = {0};
    CHECK_INT(logs_append(l, 7, 5, "x", 1, NULL, &e), ERR_CONFLICT);
    CHECK_STR(e.text, "尝试 7 的日志有 0 字节，从 5 开始会留下空缺");
    logs_close(l);
    err_lang_set(LANG_EN);
}

TEST_MAIN
