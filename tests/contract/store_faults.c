/* What was acknowledged stays, whatever dies: kill -9 of the process that writes, a disk that gets
 * full, one whose fsync fails or is slow.
 *
 * This program runs itself: --writer URL BASE writes until it is killed and tells each
 * acknowledged number on its standard output; --disk-full runs under tests/preload/faultfs.c. */
#include "store_fixture.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

enum { WRITERS = 6, ROUNDS = 20, ROUND_SIZE = 1000000, PER_WRITER = 100000 };

static const char rows_twice[] = "CREATE TABLE IF NOT EXISTS a (n $INT PRIMARY KEY);"
                                 "CREATE TABLE IF NOT EXISTS b (n $INT PRIMARY KEY);";

static int write_both(struct tx *tx, void *ctx, struct err *e)
{
    int64_t n = *(int64_t *)ctx;
    int kind = tx_exec(tx, "INSERT INTO a (n) VALUES (?1)", ARGS(v_int(n)), NULL, e);
    if (kind == OK)
        kind = tx_exec(tx, "INSERT INTO b (n) VALUES (?1)", ARGS(v_int(n)), NULL, e);
    return kind;
}

static const char not_in_both[] =
    "SELECT (SELECT count(*) FROM a WHERE NOT EXISTS (SELECT 1 FROM b WHERE b.n = a.n))"
    " + (SELECT count(*) FROM b WHERE NOT EXISTS (SELECT 1 FROM a WHERE a.n = b.n))";

/* ---- kill -9 ---- */

struct writing {
    pthread_t thread;
    struct store *store;
    int64_t next;
};

static void *writing_main(void *arg)
{
    struct writing *w = arg;
    for (;; w->next++) {
        struct err e = {0};
        int kind = store_tx(w->store, write_both, &w->next, &e);
        if (kind != OK) {
            fprintf(stderr, "# writer: %s\n", e.text);
            _exit(3);
        }
        if (write(STDOUT_FILENO, &w->next, sizeof(w->next)) != sizeof(w->next))
            _exit(0);
    }
    return NULL;
}

static int child_writer(const char *url, int64_t base)
{
    struct err e = {0};
    struct store *s = NULL;
    if (store_open(&(struct store_config){.url = url}, &s, &e) != OK) {
        fprintf(stderr, "# writer: %s\n", e.text);
        return 3;
    }
    struct writing w[WRITERS];
    for (int i = 0; i < WRITERS; i++) {
        w[i] = (struct writing){.store = s, .next = base + i * PER_WRITER};
        pthread_create(&w[i].thread, NULL, writing_main, &w[i]);
    }
    for (int i = 0; i < WRITERS; i++)
        pthread_join(w[i].thread, NULL);
    return 0;
}

struct acked {
    int64_t *numbers;
    size_t n, cap;
};

static void acked_add(struct acked *a, int64_t number)
{
    if (a->n == a->cap) {
        a->cap = a->cap > 0 ? 2 * a->cap : 1024;
        a->numbers = mem_realloc(a->numbers, a->cap * sizeof(*a->numbers));
    }
    a->numbers[a->n++] = number;
}

/* Starts a writer, kills it a while after its first acknowledgement, hears it to the end. */
static void one_kill(const char *url, int64_t base, struct acked *acked)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return;
    char number[32];
    snprintf(number, sizeof(number), "%lld", (long long)base);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(ends[1], STDOUT_FILENO);
        execl("/proc/self/exe", "store_faults", "--writer", url, number, (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    int64_t got;
    size_t before = acked->n;
    int64_t kill_at = INT64_MAX;
    while (read(ends[0], &got, sizeof(got)) == sizeof(got)) {
        acked_add(acked, got);
        if (kill_at == INT64_MAX)
            kill_at = mono_us() + (int64_t)random_below(40000);
        else if (mono_us() >= kill_at)
            kill(pid, SIGKILL);
    }
    close(ends[0]);
    int status = 0;
    waitpid(pid, &status, 0);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    CHECK(acked->n > before);
}

static int all_there(struct tx *tx, void *ctx, struct err *e)
{
    struct acked *a = ctx;
    int64_t missing = 0;
    for (size_t i = 0; i < a->n; i++) {
        int64_t n;
        bool found;
        int kind = tx_int(tx, "SELECT a.n FROM a JOIN b ON b.n = a.n WHERE a.n = ?1",
                          ARGS(v_int(a->numbers[i])), &n, &found, e);
        if (kind != OK)
            return kind;
        missing += !found;
    }
    CHECK_INT(missing, 0);
    return OK;
}

/* DROVER_TEST_ROUNDS asks for more than the short form. */
static int rounds_wanted(void)
{
    const char *wanted = getenv("DROVER_TEST_ROUNDS");
    return wanted != NULL ? (int)strtol(wanted, NULL, 10) : ROUNDS;
}

static void kill_rounds(enum engine_kind kind)
{
    int rounds = rounds_wanted();
    struct fixture f;
    struct err e = {0};
    fixture_open(&f, kind, 0, 0);
    CHECK_OK(do_script(f.store, rows_twice, &e), &e);
    size_t total = 0;
    for (int round = 0; round < rounds; round++) {
        store_close(f.store);
        f.store = NULL;
        struct acked acked = {0};
        one_kill(f.url, (int64_t)(round + 1) * ROUND_SIZE, &acked);
        CHECK_OK(store_open(&(struct store_config){.url = f.url}, &f.store, &e), &e);
        if (f.store == NULL)
            break;
        CHECK_OK(store_read(f.store, all_there, &acked, &e), &e);
        CHECK_INT(ask(f.store, not_in_both), 0);
        total += acked.n;
        mem_free(acked.numbers);
    }
    printf("# %d kills, %zu acknowledged writes\n", rounds, total);
    fixture_close(&f);
}

TEST(sqlite_what_was_acknowledged_survives_kill)
{
    kill_rounds(ON_SQLITE);
}

TEST(postgres_what_was_acknowledged_survives_kill)
{
    kill_rounds(ON_POSTGRES);
}

/* ---- a disk that fails (in the child) ---- */

static const char *control;

static void faults(const char *words)
{
    if (words == NULL) {
        unlink(control);
        return;
    }
    char next[256];
    snprintf(next, sizeof(next), "%s.next", control);
    FILE *f = fopen(next, "w");
    if (f == NULL || fputs(words, f) < 0 || fclose(f) != 0 || rename(next, control) != 0)
        FAIL_("cannot write %s", next);
}

struct part {
    int64_t n;
    enum err_kind heard;
};

static void part_done(void *ctx, const struct err *e)
{
    ((struct part *)ctx)->heard = e->kind;
}

static int big_write(struct tx *tx, void *ctx, struct err *e)
{
    int kind = write_both(tx, ctx, e);
    if (kind == OK)
        kind = tx_exec(tx, "INSERT INTO big (b) VALUES (zeroblob(300000))", NO_ARGS, NULL, e);
    return kind;
}

/* A group of writes of which one is refused by its own function too; gives what the last of them
 * heard. All hear one kind, or, when a slow machine made two commits of the group and the disk got
 * full between them, OK first and the failure from then on. */
static enum err_kind a_group(struct store *s, bool fills_up, int64_t *next, int64_t *good)
{
    enum { PARTS = 30 };
    struct part parts[PARTS];
    struct gate g;
    gate_init(&g);
    store_tx_async(s, gate_tx, &g, ignore_done, NULL);
    sem_wait(&g.entered);
    for (int i = 0; i < PARTS; i++) {
        parts[i] = (struct part){i == 11 ? 1 : ++*next, ERR_KINDS}; /* 1 is there already */
        store_tx_async(s, i == 20 ? big_write : write_both, &parts[i].n, part_done, &parts[i]);
    }
    struct part last = {++*next, OK};
    sem_post(&g.leave);
    struct err e = {0};
    last.heard = store_tx(s, write_both, &last.n, &e);
    if (last.heard == OK)
        ++*good;
    bool fails = last.heard != OK && !fills_up;
    for (int i = 0; i < PARTS; i++) {
        fails |= parts[i].heard == last.heard && last.heard != OK;
        CHECK_INT(parts[i].heard, fails ? last.heard : i == 11 ? ERR_CONFLICT : OK);
        *good += parts[i].heard == OK;
    }
    gate_fini(&g);
    return last.heard;
}

static void expect(struct store *s, int64_t good)
{
    CHECK_INT(ask(s, "SELECT count(*) FROM a"), good);
    CHECK_INT(ask(s, not_in_both), 0);
}

static int child_disk_full(const char *url)
{
    static const struct {
        const char *words;
        enum err_kind kind;
    } cases[] = {
        {"write=ENOSPC", ERR_FULL},
        {"", ERR_FULL},
        {"sync=ENOSPC", ERR_FULL},
        {"write=ENOSPC room=0", ERR_FULL},
        {"write=EDQUOT", ERR_FULL},
        {"write=ENOSPC room=4097", ERR_FULL},
        {"write=ENOSPC room=70001", ERR_FULL},
        {"sync=EIO", ERR_IO},
        {"write=EIO", ERR_IO},
        {"delay_ms=60", OK},
    };
    control = getenv("FAULTFS_CONTROL");
    struct err e = {0};
    struct store *s = NULL;
    CHECK_OK(store_open(&(struct store_config){.url = url}, &s, &e), &e);
    CHECK_OK(do_script(s, rows_twice, &e), &e);
    CHECK_OK(do_script(s,
                       "CREATE TABLE big (id $ID, b $BLOB); INSERT INTO a (n) VALUES (1);"
                       "INSERT INTO b (n) VALUES (1);",
                       &e),
             &e);
    int64_t next = 1, good = 1;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        faults(cases[i].words);
        int64_t began_us = mono_us();
        enum err_kind heard = a_group(s, strstr(cases[i].words, "room=") != NULL, &next, &good);
        if (heard != cases[i].kind)
            FAIL_("\"%s\" gave %s", cases[i].words, err_row(heard)->name);
        if (heard == OK)
            CHECK(mono_us() - began_us >= 60 * US_PER_MS);
        expect(s, good); /* a read needs no space */
        faults(NULL);
        expect(s, good);
        CHECK_INT(a_group(s, false, &next, &good), OK);
        expect(s, good);
    }
    printf("# %lld writes were acknowledged between faults\n", (long long)good);
    FILE *f = fopen(getenv("TEST_GOOD_FILE"), "w");
    CHECK(f != NULL && fprintf(f, "%lld", (long long)good) > 0 && fclose(f) == 0);
    fflush(stdout);
    _exit(test_failures_ > 0); /* as a crash would: nothing is closed */
}

TEST(sqlite_a_failing_disk_fails_whole_groups_and_heals)
{
    const char *library = getenv("TEST_FAULTFS");
    CHECK(library != NULL && access(library, R_OK) == 0);
    char url[256], prefix[200], control_file[200], good_file[200], asan[512];
    snprintf(prefix, sizeof(prefix), "%s/disk", fixture_dir());
    snprintf(url, sizeof(url), "sqlite:///%s.db", prefix);
    snprintf(control_file, sizeof(control_file), "%s/faults", fixture_dir());
    snprintf(good_file, sizeof(good_file), "%s/good", fixture_dir());
    const char *options = getenv("ASAN_OPTIONS");
    snprintf(asan, sizeof(asan), "%s:verify_asan_link_order=0", options != NULL ? options : "");
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        setenv("LD_PRELOAD", library != NULL ? library : "", 1);
        setenv("FAULTFS_PREFIX", prefix, 1);
        setenv("FAULTFS_CONTROL", control_file, 1);
        setenv("TEST_GOOD_FILE", good_file, 1);
        setenv("ASAN_OPTIONS", asan, 1);
        execl("/proc/self/exe", "store_faults", "--disk-full", url, (char *)NULL);
        _exit(127);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);

    long long good = -1;
    FILE *f = fopen(good_file, "r");
    CHECK(f != NULL && fscanf(f, "%lld", &good) == 1);
    if (f != NULL)
        fclose(f);
    struct err e = {0};
    struct store *s = NULL;
    CHECK_OK(store_open(&(struct store_config){.url = url}, &s, &e), &e);
    if (s != NULL) {
        expect(s, good);
        CHECK_INT(
            ask(s, "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check = 'ok'"), 1);
    }
    store_close(s);
}

/* ---- a damaged file ---- */

enum { PAGE = 4096 };

/* One write and no orderly end, as after kill -9. */
static void end_badly(const char *url)
{
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        struct err e = {0};
        struct store *s = NULL;
        if (store_open(&(struct store_config){.url = url}, &s, &e) != OK ||
            do_script(s, "CREATE TABLE IF NOT EXISTS last (n $INT); INSERT INTO last VALUES (1);",
                      &e) != OK)
            _exit(1);
        kill(getpid(), SIGKILL);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    CHECK(WIFSIGNALED(status));
}

TEST(sqlite_damaged_pages_are_found_after_an_unclean_stop)
{
    struct fixture f;
    struct err e = {0};
    fixture_open(&f, ON_SQLITE, 0, 0);
    CHECK_OK(do_script(f.store,
                       "CREATE TABLE bulk (id $ID, note $TEXT); INSERT INTO bulk (note) WITH"
                       " RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)"
                       " SELECT 'a note of some length, number ' || i FROM n;",
                       &e),
             &e);
    fixture_reopen(&f);
    store_close(f.store);
    end_badly(f.url);
    struct store *s = NULL;
    CHECK_OK(store_open(&(struct store_config){.url = f.url}, &s, &e), &e); /* whole: it opens */
    CHECK_INT(ask(s, "SELECT count(*) FROM bulk"), 20000);
    CHECK(store_warning(s) == NULL);
    store_close(s);

    int fd = open(f.url + strlen("sqlite:///"), O_RDWR);
    uint8_t page[PAGE], junk[PAGE];
    off_t middle = lseek(fd, 0, SEEK_END) / 2 / PAGE * PAGE;
    memset(junk, 0xa5, sizeof(junk));
    CHECK_INT(pread(fd, page, PAGE, middle), PAGE);
    end_badly(f.url);
    CHECK_INT(pwrite(fd, junk, PAGE, middle), PAGE);
    for (int again = 0; again < 2; again++) { /* it stays refused, however often it is tried */
        s = NULL;
        CHECK_INT(store_open(&(struct store_config){.url = f.url}, &s, &e), ERR_CORRUPT);
        CHECK_STR(e.code, STORE_DAMAGED);
        CHECK(strstr(e.text, ".recover") != NULL && s == NULL);
    }
    CHECK_INT(pwrite(fd, page, PAGE, middle), PAGE); /* the backup */
    CHECK_OK(store_open(&(struct store_config){.url = f.url}, &s, &e), &e);
    CHECK_INT(ask(s, "SELECT count(*) FROM bulk"), 20000);
    store_close(s);
    close(fd);
}

TEST(sqlite_a_check_that_takes_too_long_is_given_up_and_told)
{
    struct fixture f;
    struct err e = {0};
    fixture_open(&f, ON_SQLITE, 0, 0);
    CHECK_OK(
        do_script(f.store,
                  "CREATE TABLE bulk (id $ID, note $TEXT); INSERT INTO bulk (note) WITH"
                  " RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400000)"
                  " SELECT 'a note of some length, number ' || i FROM n;",
                  &e),
        &e);
    store_close(f.store);
    end_badly(f.url);
    struct store *s = NULL;
    CHECK_OK(store_open(&(struct store_config){.url = f.url, .check_ms = 1}, &s, &e), &e);
    CHECK(s != NULL && store_warning(s) != NULL);
    CHECK_INT(ask(s, "SELECT count(*) FROM bulk"), 400000);
    store_close(s);
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc > 3 && strcmp(argv[1], "--writer") == 0)
        return child_writer(argv[2], strtoll(argv[3], NULL, 10));
    if (argc > 2 && strcmp(argv[1], "--disk-full") == 0)
        return child_disk_full(argv[2]);
    return test_run(argc, argv);
}
