/* The order of commits, and a server that goes away: what only a store with several writers on the
 * other side of a connection can get wrong. */
#include "store_fixture.h"

#include "io/store_backend.h" /* a shorter patience than the real one */

#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>

static const char events[] = "CREATE TABLE event (id $ID, ord $INT NOT NULL, who $INT NOT NULL);"
                             "CREATE INDEX event_order ON event (ord, id);";

static int event_add(struct tx *tx, int64_t who, struct err *e)
{
    int64_t order = -1;
    int kind = tx_commit_order(tx, &order, e);
    if (kind != OK)
        return kind;
    return tx_exec(tx, "INSERT INTO event (ord, who) VALUES (?1, ?2)",
                   ARGS(v_int(order), v_int(who)), NULL, e);
}

/* A reader with a cursor, as a relay or a stream has one. */
enum { SEEN_MAX = 4096 };
struct reader {
    int64_t order, id;
    int64_t seen[SEEN_MAX]; /* ids in the order in which they were read */
    int n;
    bool naive; /* ignores the boundary and goes by id: what must not be done */
};

static int reader_step(struct tx *tx, void *ctx, struct err *e)
{
    struct reader *r = ctx;
    int64_t below = 0;
    int kind = tx_visible_below(tx, &below, e);
    if (kind != OK)
        return kind;
    static const char sql[] = "SELECT ord, id FROM event WHERE (ord > ?1 OR (ord = ?1 AND id > ?2))"
                              " AND ord < ?3 ORDER BY ord, id";
    static const char naive_sql[] = "SELECT ord, id FROM event WHERE id > ?1 ORDER BY id";
    struct rows *rows = r->naive
                            ? tx_query(tx, naive_sql, ARGS(v_int(r->id)))
                            : tx_query(tx, sql, ARGS(v_int(r->order), v_int(r->id), v_int(below)));
    while (rows_next(rows) && r->n < SEEN_MAX) {
        r->order = row_int(rows, 0);
        r->id = row_int(rows, 1);
        r->seen[r->n++] = r->id;
    }
    return rows_end(rows, e);
}

struct slow {
    struct gate gate;
    int64_t who;
};

static int event_then_wait(struct tx *tx, void *ctx, struct err *e)
{
    struct slow *s = ctx;
    int kind = event_add(tx, s->who, e);
    if (kind == OK)
        kind = gate_tx(tx, &s->gate, e);
    return kind;
}

static int event_now(struct tx *tx, void *ctx, struct err *e)
{
    return event_add(tx, *(int64_t *)ctx, e);
}

static void sem_done(void *ctx, const struct err *e)
{
    CHECK_INT(e->kind, OK);
    sem_post(ctx);
}

/* T1 takes the lower id and commits last. */
TEST(postgres_a_reader_never_meets_a_row_before_one_it_has_read)
{
    struct fixture f;
    fixture_open(&f, ON_POSTGRES, 4, 0);
    struct err e = {0};
    CHECK_OK(do_script(f.store, events, &e), &e);
    struct slow slow = {.who = 1};
    gate_init(&slow.gate);
    sem_t done;
    sem_init(&done, 0, 0);
    store_tx_async(f.store, event_then_wait, &slow, sem_done, &done);
    sem_wait(&slow.gate.entered);
    int64_t who = 2;
    CHECK_OK(store_tx(f.store, event_now, &who, &e), &e);

    struct reader good = {0}, naive = {.naive = true};
    CHECK_OK(store_read(f.store, reader_step, &good, &e), &e);
    CHECK_OK(store_read(f.store, reader_step, &naive, &e), &e);
    CHECK_INT(naive.n, 1); /* the second row is there; its reader will miss the first for ever */
    CHECK_INT(good.n, 0);  /* it waits for what may still come before */

    sem_post(&slow.gate.leave);
    sem_wait(&done);
    CHECK_OK(store_read(f.store, reader_step, &good, &e), &e);
    CHECK_OK(store_read(f.store, reader_step, &naive, &e), &e);
    CHECK_INT(naive.n, 1);
    CHECK_INT(good.n, 2);
    CHECK_INT(good.seen[0], 1);
    CHECK_INT(good.seen[1], 2);
    gate_fini(&slow.gate);
    sem_destroy(&done);
    fixture_close(&f);
}

struct logger {
    pthread_t thread;
    struct store *store;
    int64_t who;
};

static int event_slowly(struct tx *tx, void *ctx, struct err *e)
{
    int kind = event_add(tx, *(int64_t *)ctx, e);
    usleep((useconds_t)random_below(3000));
    return kind;
}

static void *logger_main(void *arg)
{
    struct logger *l = arg;
    struct err e = {0};
    for (int i = 0; i < 40; i++)
        CHECK_OK(store_tx(l->store, event_slowly, &l->who, &e), &e);
    return NULL;
}

CONTRACT(a_cursor_reads_every_event_once_in_one_order, 4, 0)
{
    struct err e = {0};
    CHECK_OK(do_script(f->store, events, &e), &e);
    struct logger l[4];
    for (size_t i = 0; i < ARRAY_LEN(l); i++) {
        l[i] = (struct logger){.store = f->store, .who = (int64_t)i};
        pthread_create(&l[i].thread, NULL, logger_main, &l[i]);
    }
    struct reader live = {0}, after = {0};
    for (int i = 0; i < 100; i++) {
        CHECK_OK(store_read(f->store, reader_step, &live, &e), &e);
        usleep(1000);
    }
    for (size_t i = 0; i < ARRAY_LEN(l); i++)
        pthread_join(l[i].thread, NULL);
    CHECK_OK(store_read(f->store, reader_step, &live, &e), &e);
    CHECK_OK(store_read(f->store, reader_step, &after, &e), &e);
    CHECK_INT(live.n, 160);
    CHECK_INT(after.n, 160);
    CHECK(memcmp(live.seen, after.seen, sizeof(live.seen)) == 0);
}

static int order_in_read(struct tx *tx, void *ctx, struct err *e)
{
    int64_t order;
    return tx_commit_order(tx, &order, e);
}

CONTRACT(a_read_has_no_place_in_the_order, 0, 0)
{
    struct err e = {0};
    CHECK_INT(store_read(f->store, order_in_read, NULL, &e), ERR_INTERNAL);
}

/* ---- a server that goes away ---- */

static int kick(struct tx *tx, void *ctx, struct err *e)
{
    int64_t n;
    return tx_int(tx,
                  "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE"
                  " application_name = 'drover' AND pid <> pg_backend_pid()",
                  NO_ARGS, &n, NULL, e);
}

TEST(postgres_lost_connections_are_made_again)
{
    struct fixture f;
    fixture_open(&f, ON_POSTGRES, 3, 0);
    struct err e = {0};
    CHECK_OK(do_script(f.store, events, &e), &e);
    struct store *other = NULL;
    CHECK_OK(store_open(&(struct store_config){.url = f.url, .readers = 1}, &other, &e), &e);
    int64_t who = 1;
    for (int i = 0; i < 3; i++) {
        CHECK_INT(ask(f.store, "SELECT count(*) FROM event"), i);
        CHECK_OK(store_tx(other, kick, NULL, &e), &e);
        CHECK_INT(ask(f.store, "SELECT count(*) FROM event"), i);
        CHECK_OK(store_tx(f.store, event_now, &who, &e), &e);
    }
    store_close(other);
    fixture_close(&f);
}

struct steady {
    pthread_t thread;
    struct store *store;
    atomic_bool stop;
    int64_t ok, unknown, refused;
};

static void *steady_main(void *arg)
{
    struct steady *s = arg;
    int64_t who = 1;
    while (!s->stop) {
        struct err e = {0};
        int kind = store_tx(s->store, event_now, &who, &e);
        if (kind == OK)
            s->ok++;
        else if (strcmp(e.code, STORE_OUTCOME_UNKNOWN) == 0)
            s->unknown++;
        else
            s->refused++;
    }
    return NULL;
}

TEST(postgres_writes_go_on_over_a_restart)
{
    const char *restart = getenv("TEST_PG_RESTART");
    CHECK(restart != NULL);
    struct fixture f;
    fixture_open(&f, ON_POSTGRES, 3, 0);
    struct err e = {0};
    CHECK_OK(do_script(f.store, events, &e), &e);
    struct steady s[3];
    for (size_t i = 0; i < ARRAY_LEN(s); i++) {
        s[i] = (struct steady){.store = f.store};
        pthread_create(&s[i].thread, NULL, steady_main, &s[i]);
    }
    usleep(100 * 1000);
    int64_t before = ask(f.store, "SELECT count(*) FROM event");
    CHECK_INT(restart != NULL ? system(restart) : 1, 0);
    CHECK(ask(f.store, "SELECT count(*) FROM event") >= before); /* a read waits as well */
    usleep(300 * 1000);
    int64_t ok = 0, unknown = 0, refused = 0;
    for (size_t i = 0; i < ARRAY_LEN(s); i++)
        s[i].stop = true;
    for (size_t i = 0; i < ARRAY_LEN(s); i++) {
        pthread_join(s[i].thread, NULL);
        ok += s[i].ok;
        unknown += s[i].unknown;
        refused += s[i].refused;
    }
    int64_t there = ask(f.store, "SELECT count(*) FROM event");
    CHECK_INT(refused, 0);
    CHECK(there > before);
    CHECK(there >= ok && there <= ok + unknown);
    fixture_close(&f);
}

/* A proxy that cuts the line when the answer to COMMIT passes. */
struct proxy {
    pthread_t thread;
    int listener;
    char path[160], server[256];
    atomic_bool armed;
    atomic_int cuts;
};

static int unix_socket(const char *path, struct sockaddr_un *to)
{
    *to = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(to->sun_path, sizeof(to->sun_path), "%s", path);
    return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

/* One connection at a time; gives when it ends. */
static void proxy_serve(struct proxy *p, int client)
{
    struct sockaddr_un to;
    int server = unix_socket(p->server, &to);
    bool cut = false, committing = false;
    if (connect(server, (struct sockaddr *)&to, sizeof(to)) != 0)
        cut = true;
    struct pollfd fds[2] = {{client, POLLIN, 0}, {server, POLLIN, 0}};
    while (!cut && poll(fds, 2, -1) > 0) {
        for (int i = 0; i < 2 && !cut; i++) {
            if (fds[i].revents == 0)
                continue;
            char bytes[8192];
            ssize_t n = recv(fds[i].fd, bytes, sizeof(bytes), 0);
            if (n > 0 && i == 0 && p->armed && memmem(bytes, (size_t)n, "COMMIT", 6) != NULL)
                committing = true;
            if (i == 1 && committing) {
                p->armed = false;
                p->cuts++;
                cut = true;
                break;
            }
            cut |= n <= 0 || send(fds[1 - i].fd, bytes, (size_t)n, MSG_NOSIGNAL) != n;
        }
    }
    close(server);
    close(client);
}

static void *proxy_main(void *arg)
{
    struct proxy *p = arg;
    for (;;) {
        int client = accept(p->listener, NULL, NULL);
        if (client < 0)
            return NULL;
        proxy_serve(p, client);
    }
}

TEST(postgres_a_line_cut_during_commit_is_told_as_unknown)
{
    struct fixture f;
    fixture_open(&f, ON_POSTGRES, 1, 0);
    struct err e = {0};
    CHECK_OK(do_script(f.store, events, &e), &e);
    struct proxy p = {0};
    const char *host = strstr(f.url, "host=");
    CHECK(host != NULL);
    snprintf(p.server, sizeof(p.server), "%s/.s.PGSQL.5432", host != NULL ? host + 5 : "");
    snprintf(p.path, sizeof(p.path), "%s/.s.PGSQL.5432", fixture_dir());
    struct sockaddr_un at;
    p.listener = unix_socket(p.path, &at);
    CHECK_INT(bind(p.listener, (struct sockaddr *)&at, sizeof(at)), 0);
    CHECK_INT(listen(p.listener, 8), 0);
    pthread_create(&p.thread, NULL, proxy_main, &p);

    char url[512];
    snprintf(url, sizeof(url), "postgresql://drover@/drover?host=%s", fixture_dir());
    struct store *s = NULL;
    CHECK_OK(store_open(&(struct store_config){.url = url, .readers = 1}, &s, &e), &e);
    int64_t who = 1;
    CHECK_OK(store_tx(s, event_now, &who, &e), &e);
    p.armed = true;
    CHECK_INT(store_tx(s, event_now, &who, &e), ERR_UNAVAILABLE);
    CHECK_STR(e.code, STORE_OUTCOME_UNKNOWN);
    CHECK_INT(p.cuts, 1);
    CHECK_OK(store_tx(s, event_now, &who, &e), &e);
    CHECK_INT(ask(f.store, "SELECT count(*) FROM event"), 3); /* it had been made, and once */
    store_close(s);
    shutdown(p.listener, SHUT_RDWR);
    pthread_join(p.thread, NULL);
    close(p.listener);
    fixture_close(&f);
}

static int my_backend(struct tx *tx, void *ctx, struct err *e)
{
    return tx_int(tx, "SELECT pg_backend_pid()", NO_ARGS, ctx, NULL, e);
}

TEST(postgres_a_server_that_says_nothing_is_left)
{
    struct fixture f;
    fixture_open(&f, ON_POSTGRES, 1, 0);
    struct err e = {0};
    CHECK_OK(do_script(f.store, events, &e), &e);
    int64_t writer = 0, reader = 0, who = 1;
    CHECK_OK(store_tx(f.store, my_backend, &writer, &e), &e);
    CHECK_OK(store_read(f.store, my_backend, &reader, &e), &e);
    CHECK(writer > 1 && reader > 1 && writer != reader);
    f.store->answer_us = 300 * US_PER_MS;
    CHECK_INT(kill((pid_t)writer, SIGSTOP), 0);
    CHECK_INT(kill((pid_t)reader, SIGSTOP), 0);
    CHECK_OK(store_tx(f.store, event_now, &who, &e), &e); /* by another connection */
    CHECK_INT(ask(f.store, "SELECT count(*) FROM event"), 1);
    kill((pid_t)writer, SIGCONT);
    kill((pid_t)reader, SIGCONT);
    fixture_close(&f);
}

TEST(postgres_a_full_disk_of_the_server_has_its_kind)
{
    struct fixture f;
    fixture_open(&f, ON_POSTGRES, 1, 0);
    struct err e = {0};
    CHECK_INT(
        do_script(f.store, "DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '53100'; END $$;", &e),
        ERR_FULL);
    CHECK_INT(
        do_script(f.store, "DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '40001'; END $$;", &e),
        ERR_UNAVAILABLE);
    CHECK(e.retry_after_s > 0);
    struct store_stats st;
    store_stats(f.store, &st);
    CHECK(st.retries > 5);
    fixture_close(&f);
}

static int star(struct tx *tx, void *ctx, struct err *e)
{
    struct rows *r = tx_query(tx, "SELECT * FROM event", NO_ARGS);
    while (rows_next(r))
        ;
    return rows_end(r, e);
}

/* A replica of the next version adds a column under our prepared statements. */
TEST(postgres_a_table_may_change_under_a_running_server)
{
    struct fixture f;
    fixture_open(&f, ON_POSTGRES, 1, 0);
    struct err e = {0};
    CHECK_OK(do_script(f.store, events, &e), &e);
    struct store *next = NULL;
    CHECK_OK(store_open(&(struct store_config){.url = f.url, .readers = 1}, &next, &e), &e);
    CHECK_OK(store_tx(f.store, star, NULL, &e), &e);
    CHECK_OK(store_tx(f.store, star, NULL, &e), &e);
    CHECK_OK(do_script(next, "ALTER TABLE event ADD COLUMN note $TEXT;", &e), &e);
    CHECK_OK(store_tx(f.store, star, NULL, &e), &e);
    store_close(next);
    fixture_close(&f);
}

TEST_MAIN
