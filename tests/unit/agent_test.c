/* The agent's formats and its memory: the spool, an attempt's folder, the journal. */
#include "agent/attempt.h"
#include "test.h"
#include "unit/agent_parsers.h"

#include <fcntl.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- helpers ---- */

static char folder[64];

static int folder_make(void)
{
    snprintf(folder, sizeof(folder), "/tmp/drover-agent-unit-XXXXXX");
    if (mkdtemp(folder) == NULL)
        abort();
    return open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void folder_drop(int dir)
{
    char line[128];
    close(dir);
    snprintf(line, sizeof(line), "rm -rf %s", folder);
    CHECK_INT(system(line), 0);
}

static size_t record(uint8_t *to, uint8_t stream, uint8_t flags, const char *text)
{
    size_t n = strlen(text);
    spool_encode_head(to, stream, flags, (uint32_t)n, 1700000000123456);
    memcpy(to + SPOOL_HEAD_SIZE, text, n);
    return SPOOL_HEAD_SIZE + n;
}

static size_t spec_text(char *to, const char *const *items)
{
    size_t n = 0;
    for (; *items != NULL; items++) {
        strcpy(to + n, *items);
        n += strlen(*items) + 1;
    }
    return n;
}

/* ---- spool ---- */

TEST(a_spool_record_reads_back_as_it_was_written)
{
    uint8_t bytes[256];
    struct spool_record r;
    size_t n = record(bytes, SPOOL_ERR, SPOOL_CONTINUES, "half a line");
    CHECK_INT(spool_decode(bytes, n, &r), n);
    CHECK_INT(r.stream, SPOOL_ERR);
    CHECK_INT(r.flags, SPOOL_CONTINUES);
    CHECK_INT(r.time_us, 1700000000123456);
    CHECK(r.len == 11 && memcmp(r.data, "half a line", 11) == 0);
    /* The layout is fixed: server and agent of different ages must agree. */
    CHECK(memcmp(bytes, "\x02\x01\0\0\x0b\0\0\0\x40\x22\x20\x18\x24\x0a\x06\0", 16) == 0);
}

TEST(a_torn_spool_ends_at_its_last_whole_record)
{
    uint8_t bytes[256];
    struct spool_record r;
    bool bad;
    size_t first = record(bytes, SPOOL_OUT, 0, "one");
    size_t both = first + record(bytes + first, SPOOL_OUT, 0, "second");
    for (size_t n = 0; n <= both; n++) {
        CHECK_INT(spool_whole(bytes, n, &bad), n == both ? both : n >= first ? first : 0);
        CHECK(!bad);
    }
    memset(bytes + both, 0, 32); /* what a power cut leaves */
    CHECK_INT(spool_whole(bytes, both + 32, &bad), both);
    CHECK(bad);
    CHECK_INT(spool_decode(bytes, 0, &r), SPOOL_MORE);
    bytes[4] = 0xff, bytes[5] = 0xff, bytes[6] = 0xff;
    CHECK_INT(spool_decode(bytes, both, &r), SPOOL_BAD);
}

TEST(a_chunk_is_named_by_its_offset)
{
    char name[SPOOL_NAME_SIZE];
    uint64_t at = 0;
    spool_chunk_name(0x1234abcdu, name);
    CHECK_STR(name, "log.000000001234abcd");
    CHECK(spool_chunk_parse(name, &at) && at == 0x1234abcdu);
    CHECK(!spool_chunk_parse("log.1", &at) && !spool_chunk_parse("log.00000000123gabcd", &at) &&
          !spool_chunk_parse("started", &at) && !spool_chunk_parse("log.000000001234abcd0", &at));
}

/* ---- folder ---- */

TEST(a_spec_reads_back_with_its_words_and_limits)
{
    char text[512];
    struct spec s;
    const char *items[] = {SPEC_FIRST,      "id=7",    "cwd=/x y", "grace_us=250", "memory_mib=64",
                           "cg_tree=/g/a7", "arg=sh",  "arg=",     "arg=a=b\nc",   "env=A=1=2",
                           "gpus=0,3",      SPEC_LAST, NULL};
    size_t n = spec_text(text, items);
    CHECK(spec_parse(text, n, &s));
    CHECK_INT(s.id, 7);
    CHECK_INT(s.grace_us, 250);
    CHECK_INT(s.memory_mib, 64);
    CHECK_INT(s.time_limit_us, 0);
    CHECK_STR(s.cwd, "/x y");
    CHECK_STR(s.cg_tree, "/g/a7");
    CHECK_STR(s.gpus, "0,3");
    CHECK(s.cg_memory == NULL);
    CHECK_INT(s.argc, 3);
    CHECK_STR(s.argv[1], "");
    CHECK_STR(s.argv[2], "a=b\nc");
    CHECK(s.argv[3] == NULL && s.env[1] == NULL);
    CHECK_STR(s.env[0], "A=1=2");
    spec_fini(&s);
}

TEST(a_spec_that_is_torn_or_foreign_is_refused)
{
    char text[512];
    struct spec s;
    const char *good[] = {SPEC_FIRST, "id=7", "arg=sh", SPEC_LAST, NULL};
    size_t n = spec_text(text, good);
    for (size_t cut = 0; cut < n; cut++)
        CHECK(!spec_parse(text, cut, &s));
    const char *const bad[][6] = {{"drover-spec 2", "id=7", "arg=sh", SPEC_LAST},
                                  {SPEC_FIRST, "id=7", SPEC_LAST},
                                  {SPEC_FIRST, "id=-7", "arg=sh", SPEC_LAST},
                                  {SPEC_FIRST, "id=7x", "arg=sh", SPEC_LAST},
                                  {SPEC_FIRST, "id=99999999999999999999", "arg=sh", SPEC_LAST},
                                  {SPEC_FIRST, "what=7", "arg=sh", SPEC_LAST},
                                  {SPEC_FIRST, "arg=sh", "env==x", SPEC_LAST},
                                  {SPEC_FIRST, "arg=sh", "env=x", SPEC_LAST},
                                  {SPEC_FIRST, "arg=sh", SPEC_LAST, "arg=x"}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        n = spec_text(text, bad[i]);
        CHECK(!spec_parse(text, n, &s));
    }
}

TEST(started_comes_in_two_parts_and_a_claim_is_told_apart)
{
    struct started s = {.shim = 4711, .shim_ticks = 123456789, .boot_id = "abc-def"}, t;
    char text[STARTED_MAX];
    int n = started_format(&s, text);
    CHECK(started_parse(text, (size_t)n, &t));
    CHECK(t.shim == 4711 && t.shim_ticks == 123456789 && t.job == 0 && !t.claimed);
    CHECK_STR(t.boot_id, "abc-def");
    s.job = 4712;
    s.job_at_us = 99;
    int m = started_format(&s, text);
    for (int cut = n; cut < m; cut++) { /* the second part is being written */
        CHECK(started_parse(text, (size_t)cut, &t));
        CHECK_INT(t.job, 0);
    }
    CHECK(started_parse(text, (size_t)m, &t));
    CHECK(t.job == 4712 && t.job_at_us == 99);
    CHECK(!started_parse("", 0, &t) && !started_parse("drover-started 1 -4 5 x\n", 24, &t));
    CHECK(started_parse(SPEC_FIRST "\0id=1", sizeof(SPEC_FIRST) + 5, &t) && t.claimed);
}

TEST(an_exit_record_reads_back_and_a_torn_one_does_not)
{
    struct exit_record x = {.reason = END_OUT_OF_MEMORY,
                            .code = -1,
                            .signal = 9,
                            .started_us = 5,
                            .ended_us = 77,
                            .cpu_us = 8,
                            .max_rss_kib = 1024,
                            .dropped = 3,
                            .detail = "killed:\nout of memory"},
                       y;
    char text[EXIT_MAX];
    int n = exit_format(&x, text);
    for (int cut = 0; cut < n; cut++)
        CHECK(!exit_parse(text, (size_t)cut, &y));
    CHECK(exit_parse(text, (size_t)n, &y));
    CHECK(y.reason == END_OUT_OF_MEMORY && y.code == -1 && y.signal == 9 && y.ended_us == 77 &&
          y.dropped == 3 && y.max_rss_kib == 1024);
    CHECK_STR(y.detail, "killed: out of memory");
    memset(x.detail, 'x', sizeof(x.detail) - 1);
    n = exit_format(&x, text);
    CHECK(n < EXIT_MAX && exit_parse(text, (size_t)n, &y));
    enum stop_why why;
    int64_t grace;
    char stop[STOP_MAX];
    n = stop_format(STOP_PREEMPTED, 1500, stop);
    CHECK(stop_parse(stop, (size_t)n, &why, &grace) && why == STOP_PREEMPTED && grace == 1500);
    CHECK(!stop_parse(stop, (size_t)n - 1, &why, &grace) &&
          !stop_parse("none 1\n", 7, &why, &grace));
}

/* ---- journal ---- */

struct told {
    int64_t id[64];
    enum journal_kind kind[64];
    char boot[64][BOOT_ID_SIZE];
    size_t n;
};

static void tell(void *ctx, const struct journal_record *r)
{
    struct told *t = ctx;
    if (t->n == 64)
        return;
    t->id[t->n] = r->id;
    t->kind[t->n] = r->kind;
    strcpy(t->boot[t->n++], r->boot_id);
}

static struct journal *reopen(int dir, struct told *t, size_t *bad)
{
    struct journal *j = NULL;
    struct err e;
    *t = (struct told){0};
    CHECK_OK(journal_open(dir, "boot-2", &j, tell, t, bad, &e), &e);
    return j;
}

TEST(the_journal_remembers_what_was_accepted_and_not_forgotten)
{
    int dir = folder_make();
    struct told t;
    size_t bad;
    bool exactly;
    struct err e;
    struct journal *j = reopen(dir, &t, &bad);
    CHECK_INT(t.n, 0);
    journal_add(j, JOURNAL_ACCEPTED, 30);
    journal_add(j, JOURNAL_ACCEPTED, 10);
    journal_add(j, JOURNAL_REFUSED, 20);
    CHECK_OK(journal_sync(j, &e), &e);
    journal_add(j, JOURNAL_FORGOTTEN, 10);
    CHECK_OK(journal_write(j, &e), &e);
    CHECK(journal_forgotten(j, 10, &exactly) && exactly && !journal_forgotten(j, 30, &exactly));
    journal_close(j);
    j = reopen(dir, &t, &bad);
    CHECK_INT(bad, 0);
    CHECK_INT(t.n, 2);
    CHECK(t.id[0] == 20 && t.kind[0] == JOURNAL_REFUSED && t.id[1] == 30);
    CHECK_STR(t.boot[1], "boot-2");
    CHECK(journal_forgotten(j, 10, &exactly) && exactly);
    journal_close(j);
    folder_drop(dir);
}

TEST(a_torn_tail_or_a_bad_sector_costs_one_record)
{
    for (int cut = 1; cut < JOURNAL_RECORD_SIZE; cut += 7) {
        int dir = folder_make();
        struct told t;
        size_t bad;
        struct err e;
        struct journal *j = reopen(dir, &t, &bad);
        for (int64_t id = 1; id <= 5; id++)
            journal_add(j, JOURNAL_ACCEPTED, id);
        CHECK_OK(journal_sync(j, &e), &e);
        journal_close(j);
        int fd = openat(dir, "journal", O_RDWR);
        CHECK_INT(ftruncate(fd, 4 * JOURNAL_RECORD_SIZE + cut), 0); /* torn tail */
        CHECK_INT(pwrite(fd, "#", 1, JOURNAL_RECORD_SIZE + 8), 1);  /* the second is bad */
        CHECK_INT(pwrite(fd, "\0\0\0\0", 4, 4 * JOURNAL_RECORD_SIZE + cut), 4); /* zeros after it */
        close(fd);
        j = reopen(dir, &t, &bad);
        CHECK_INT(bad, 1);
        CHECK_INT(t.n, 3);
        CHECK(t.id[0] == 1 && t.id[1] == 3 && t.id[2] == 4);
        journal_add(j, JOURNAL_ACCEPTED, 6); /* goes where the torn one was */
        CHECK_OK(journal_sync(j, &e), &e);
        journal_close(j);
        j = reopen(dir, &t, &bad);
        CHECK(t.n == 4 && t.id[3] == 6);
        journal_close(j);
        folder_drop(dir);
    }
}

TEST(a_rewritten_journal_knows_the_same_and_old_ids_stay_old)
{
    int dir = folder_make();
    struct told t;
    size_t bad;
    bool exactly;
    struct err e;
    struct journal *j = reopen(dir, &t, &bad);
    for (int64_t id = 1; id <= 10000; id++) {
        journal_add(j, JOURNAL_ACCEPTED, id);
        if (id != 42)
            journal_add(j, JOURNAL_FORGOTTEN, id);
    }
    CHECK_OK(journal_sync(j, &e), &e);
    CHECK(journal_wants_compact(j, 1));
    struct journal_record live = {JOURNAL_ACCEPTED, 42, 5, "boot-1"};
    CHECK_OK(journal_compact(j, &live, 1, &e), &e);
    CHECK(!journal_wants_compact(j, 1));
    journal_add(j, JOURNAL_ACCEPTED, 10001);
    CHECK_OK(journal_sync(j, &e), &e);
    journal_close(j);
    j = reopen(dir, &t, &bad);
    CHECK_INT(bad, 0);
    CHECK(t.n == 2 && t.id[0] == 42 && t.id[1] == 10001);
    CHECK_STR(t.boot[0], "boot-1");
    CHECK(journal_forgotten(j, 10000, &exactly) && exactly);
    CHECK(journal_forgotten(j, 3, &exactly) && !exactly);
    CHECK(!journal_forgotten(j, 10002, &exactly));
    journal_close(j);
    folder_drop(dir);
}

/* ---- an attempt by its files ---- */

TEST(an_attempt_is_what_its_folder_says)
{
    int dir = folder_make();
    struct groups groups = {.version = "none"};
    struct attempt_home h = {dir, folder, &groups, "boot-2"};
    struct attempt *a = attempt_create(5);
    char spec[256], text[EXIT_MAX];
    const char *items[] = {SPEC_FIRST, "id=5", "arg=true", SPEC_LAST, NULL};
    CHECK_INT(attempt_prepare(&h, a, spec, spec_text(spec, items)), 0);
    strcpy(a->boot_id, "boot-2");
    a->state = ATTEMPT_ACCEPTED;
    CHECK(!attempt_check(&h, a));
    CHECK_INT(a->state, ATTEMPT_ACCEPTED);
    /* A shim that is gone and left no exit record: lost, and only after its tree was looked for. */
    int in = attempt_open(&h, 5);
    struct started s = {.shim = 4194303, .shim_ticks = 1, .boot_id = "boot-2", .job = 4194302};
    CHECK_INT(folder_write(in, FOLDER_STARTED, text, (size_t)started_format(&s, text)), 0);
    CHECK(attempt_check(&h, a) && a->losing);
    attempt_lose(&h, a);
    CHECK_INT(a->state, ATTEMPT_ENDED);
    CHECK_INT(a->exit.reason, END_SUPERVISOR_LOST);
    /* The end is on disk: another agent says the same. */
    struct attempt *b = attempt_create(5);
    strcpy(b->boot_id, "boot-2");
    b->state = ATTEMPT_ACCEPTED;
    attempt_recover(&h, b);
    CHECK_INT(b->state, ATTEMPT_ENDED);
    CHECK_STR(b->exit.detail, a->exit.detail);
    CHECK(b->exit.ended_us == a->exit.ended_us);
    attempt_remove(&h, a);
    CHECK(faccessat(dir, "5", F_OK, 0) != 0);
    attempt_destroy(a);
    attempt_destroy(b);
    close(in);
    folder_drop(dir);
}

TEST(an_attempt_of_another_boot_is_never_launched)
{
    int dir = folder_make();
    struct groups groups = {.version = "none"};
    struct attempt_home h = {dir, folder, &groups, "boot-2"};
    struct attempt *a = attempt_create(5);
    char spec[256];
    const char *items[] = {SPEC_FIRST, "id=5", "arg=true", SPEC_LAST, NULL};
    CHECK_INT(attempt_prepare(&h, a, spec, spec_text(spec, items)), 0);
    strcpy(a->boot_id, "boot-1");
    a->state = ATTEMPT_ACCEPTED;
    attempt_recover(&h, a); /* `started` may have been lost with the power */
    CHECK_INT(a->launch, LAUNCH_NO);
    CHECK_INT(a->exit.reason, END_NODE_REBOOTED);
    attempt_destroy(a);
    folder_drop(dir);
}

TEST(a_claimed_attempt_cannot_start_and_a_started_one_cannot_be_claimed)
{
    int dir = folder_make();
    struct groups groups = {.version = "none"};
    struct attempt_home h = {dir, folder, &groups, "boot-2"};
    char spec[256], text[STARTED_MAX];
    const char *items[] = {SPEC_FIRST, "id=1", "arg=true", SPEC_LAST, NULL};
    for (int64_t id = 1; id <= 2; id++) {
        struct attempt *a = attempt_create(id);
        CHECK_INT(attempt_prepare(&h, a, spec, spec_text(spec, items)), 0);
        strcpy(a->boot_id, "boot-2");
        a->state = ATTEMPT_ACCEPTED;
        int in = attempt_open(&h, id);
        if (id == 2) {
            struct started s = {.shim = getpid(), .shim_ticks = 1, .boot_id = "boot-2"};
            CHECK_INT(folder_write(in, FOLDER_STARTED, text, (size_t)started_format(&s, text)), 0);
            CHECK(!attempt_claim(&h, a));
        } else {
            attempt_stop(&h, a, STOP_CANCELLED, 1000);
            CHECK_INT(a->state, ATTEMPT_ENDED);
            CHECK_INT(a->exit.reason, END_CANCELLED);
            CHECK(linkat(in, FOLDER_SPEC, in, FOLDER_STARTED, 0) != 0);
            CHECK(attempt_claim(&h, a)); /* still ours */
        }
        close(in);
        attempt_destroy(a);
    }
    folder_drop(dir);
}

TEST(a_spool_over_several_chunks_reads_as_one_and_is_freed_from_its_front)
{
    int dir = folder_make();
    struct groups groups = {.version = "none"};
    struct attempt_home h = {dir, folder, &groups, "boot-2"};
    struct attempt *a = attempt_create(9);
    char spec[256], name[SPOOL_NAME_SIZE];
    uint8_t bytes[256], got[256];
    const char *items[] = {SPEC_FIRST, "id=9", "arg=true", SPEC_LAST, NULL};
    CHECK_INT(attempt_prepare(&h, a, spec, spec_text(spec, items)), 0);
    int in = attempt_open(&h, 9);
    size_t n = record(bytes, SPOOL_OUT, 0, "first");
    spool_chunk_name(0, name);
    CHECK_INT(folder_write(in, name, bytes, n + 3), 0); /* with a torn record after it */
    CHECK_INT(attempt_read_log(&h, a, 0, got, sizeof(got)), n);
    CHECK_INT(attempt_read_log(&h, a, n, got, sizeof(got)), 0);
    size_t m = record(bytes, SPOOL_OUT, 0, "the second");
    spool_chunk_name(n, name);
    CHECK_INT(folder_write(in, name, bytes, m), 0);
    CHECK_INT(attempt_read_log(&h, a, n, got, sizeof(got)), m);
    CHECK(memcmp(got, bytes, m) == 0);
    CHECK_INT(a->end, n + m);
    attempt_free_log(&h, a, n - 1);
    CHECK_INT(a->n_chunks, 2);
    attempt_free_log(&h, a, n + m);
    CHECK_INT(a->n_chunks, 1); /* the last one stays: the shim may still write to it */
    CHECK_INT(attempt_read_log(&h, a, n, got, sizeof(got)), m);
    CHECK_INT(attempt_read_log(&h, a, 0, got, sizeof(got)), 0);
    close(in);
    attempt_destroy(a);
    folder_drop(dir);
}

/* ---- hostile bytes ---- */

TEST(no_parser_reads_beyond_its_input)
{
    uint8_t seeds[AGENT_PARSERS][1024];
    size_t n[AGENT_PARSERS];
    struct started s = {.shim = 4711, .shim_ticks = 5, .boot_id = "abc", .job = 9, .job_at_us = 8};
    struct exit_record x = {.reason = END_EXITED, .code = 3, .detail = "exit code 3"};
    struct journal_record r = {JOURNAL_ACCEPTED, 5, 6, "abc"};
    const char *items[] = {SPEC_FIRST, "id=7", "cwd=/x", "arg=sh", "env=A=1", SPEC_LAST, NULL};
    static const char message[] =
        "{\"type\":\"start\",\"attempt\":{\"id\":3,\"job\":1,\"name\":\"n\",\"argv\":[\"a\",\"b\"],"
        "\"env\":{\"A\":\"1\"},\"cwd\":null,\"image\":null,\"gpus\":[0,1],\"gpu_uuids\":[\"x\"],"
        "\"simulated\":false,\"cpus\":2,\"memory_mib\":5,\"pids_max\":7,\"time_limit_us\":8,"
        "\"grace_us\":9,\"log_max_bytes\":100000}}";
    n[0] = record(seeds[0], SPOOL_OUT, 0, "one line");
    n[0] += record(seeds[0] + n[0], SPOOL_ERR, 1, "another");
    n[1] = spec_text((char *)seeds[1], items);
    n[2] = (size_t)started_format(&s, (char *)seeds[2]);
    char text[EXIT_MAX];
    n[3] = (size_t)exit_format(&x, text);
    memcpy(seeds[3], text, n[3]);
    n[4] = (size_t)stop_format(STOP_CANCELLED, 5000000, (char *)seeds[4]);
    journal_encode(&r, seeds[5]);
    n[5] = JOURNAL_RECORD_SIZE;
    n[6] = sizeof(message) - 1;
    memcpy(seeds[6], message, n[6]);
    uint32_t dice = 1;
    for (int which = 0; which < AGENT_PARSERS; which++) {
        agent_parsers_try(which, seeds[which], n[which]);
        for (size_t cut = 0; cut <= n[which]; cut++)
            agent_parsers_try(which, seeds[which], cut);
        for (int round = 0; round < 4000; round++) {
            uint8_t copy[1024];
            memcpy(copy, seeds[which], n[which]);
            for (int flips = 0; flips < 1 + round % 4; flips++) {
                dice = dice * 1664525u + 1013904223u;
                copy[(dice >> 8) % n[which]] = round % 3 == 0
                                                   ? (uint8_t)(dice >> 24)
                                                   : (uint8_t)(copy[(dice >> 8) % n[which]] ^
                                                               1u << (dice >> 29));
            }
            agent_parsers_try(which, copy, n[which]);
        }
    }
}

TEST_MAIN
