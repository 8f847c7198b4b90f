/* Migrations over every store. */
#include "store_fixture.h"

static const struct migration first[] = {
    {1001, "accounts", "CREATE TABLE account (id $ID, name $TEXT);", 0},
    {1002, "account state", "ALTER TABLE account ADD COLUMN state $TEXT;\n-- a comment; with a dot",
     1001},
    {0},
};
static const struct migration third_room[] = {
    {3001, "jobs", "CREATE TABLE job (id $ID, account $INT REFERENCES account(id));", 0},
    {0},
};

static int64_t applied(struct store *s)
{
    return ask(s, "SELECT count(*) FROM schema_version");
}

CONTRACT(a_fresh_database_gets_all_and_a_second_run_nothing, 0, 0)
{
    struct err e = {0};
    const struct migration *all[] = {third_room, NULL, first};
    CHECK_OK(migrate_run(f->store, all, 3, &e), &e);
    CHECK_INT(applied(f->store), 3);
    CHECK_OK(do_script(f->store, "INSERT INTO account (name, state) VALUES ('a', 'b');", &e), &e);
    int64_t when = ask(f->store, "SELECT max(applied_at) FROM schema_version");
    CHECK(when > 0 && when <= now_us());
    if (f->kind != ON_MEMORY)
        fixture_reopen(f);
    CHECK_OK(migrate_run(f->store, all, 3, &e), &e);
    CHECK_INT(applied(f->store), 3);
    CHECK_INT(ask(f->store, "SELECT max(applied_at) FROM schema_version"), when);
    CHECK_INT(ask(f->store, "SELECT count(*) FROM account"), 1);
}

CONTRACT(a_room_that_comes_later_is_applied_between, 0, 0)
{
    struct err e = {0};
    const struct migration *before[] = {first, third_room};
    CHECK_OK(migrate_run(f->store, before, 2, &e), &e);
    static const struct migration second_room[] = {
        {2001, "nodes", "CREATE TABLE node (id $ID);", 0},
        {0},
    };
    const struct migration *after[] = {first, third_room, second_room};
    CHECK_OK(migrate_run(f->store, after, 3, &e), &e);
    CHECK_INT(applied(f->store), 4);
    CHECK_INT(ask(f->store, "SELECT count(*) FROM node"), 0);
}

CONTRACT(a_changed_script_is_refused, 0, 0)
{
    struct err e = {0};
    const struct migration *all[] = {first};
    CHECK_OK(migrate_run(f->store, all, 1, &e), &e);
    struct migration edited[ARRAY_LEN(first)];
    memcpy(edited, first, sizeof(first));
    edited[0].script = "CREATE TABLE account (id $ID, name $TEXT, more $TEXT);";
    const struct migration *changed[] = {edited};
    CHECK_INT(migrate_run(f->store, changed, 1, &e), ERR_CONFLICT);
    CHECK(strstr(e.text, "1001") != NULL && strstr(e.text, "accounts") != NULL);
    CHECK_OK(migrate_run(f->store, all, 1, &e), &e);
    const struct migration *twice[] = {first, first};
    CHECK_INT(migrate_run(f->store, twice, 2, &e), ERR_INTERNAL);
}

CONTRACT(a_newer_database_is_refused_unless_it_says_otherwise, 0, 0)
{
    struct err e = {0};
    const struct migration *newer[] = {first, third_room};
    CHECK_OK(migrate_run(f->store, newer, 2, &e), &e);
    /* 1002 says that a program with 1001 can live beside it; 3001 does not say so. */
    static const struct migration old[] = {
        {1001, "accounts", "CREATE TABLE account (id $ID, name $TEXT);", 0},
        {0},
    };
    const struct migration *older[] = {old, third_room};
    CHECK_OK(migrate_run(f->store, older, 2, &e), &e);
    CHECK_INT(applied(f->store), 3);
    const struct migration *no_jobs[] = {first};
    CHECK_INT(migrate_run(f->store, no_jobs, 1, &e), ERR_CONFLICT);
    CHECK(strstr(e.text, "3001") != NULL && strstr(e.text, "newer") != NULL);
    const struct migration *nothing[] = {third_room}; /* knows 1000 at best, 1001 is asked for */
    CHECK_INT(migrate_run(f->store, nothing, 1, &e), ERR_CONFLICT);
    /* a new room that old programs need not know */
    CHECK_OK(
        do_script(f->store, "UPDATE schema_version SET min_compatible = 3000 WHERE id = 3001;", &e),
        &e);
    CHECK_OK(migrate_run(f->store, no_jobs, 1, &e), &e);
}

CONTRACT(a_failing_one_leaves_nothing_of_itself, 0, 0)
{
    struct err e = {0};
    static const struct migration broken[] = {
        {1001, "good", "CREATE TABLE good (id $ID);", 0},
        {1002, "bad", "CREATE TABLE half (id $ID); INSERT INTO half (nothing) VALUES (1);", 0},
        {0},
    };
    const struct migration *all[] = {broken};
    CHECK(migrate_run(f->store, all, 1, &e) != OK);
    CHECK(strstr(e.text, "1002") != NULL && strstr(e.text, "bad") != NULL);
    CHECK_INT(applied(f->store), 1);
    static const struct migration mended[] = {
        {1001, "good", "CREATE TABLE good (id $ID);", 0},
        {1002, "bad", "CREATE TABLE half (id $ID);", 0},
        {0},
    };
    all[0] = mended;
    CHECK_OK(migrate_run(f->store, all, 1, &e), &e);
    CHECK_INT(applied(f->store), 2);
}

struct replica {
    pthread_t thread;
    struct store *store;
    int kind;
    struct err e;
};

static const struct migration slow_ones[] = {
    {1001, "one", "CREATE TABLE one (id $ID);\npostgres: SELECT pg_sleep(0.05);", 0},
    {1002, "two", "CREATE TABLE two (id $ID);\npostgres: SELECT pg_sleep(0.05);", 0},
    {1003, "count", "CREATE TABLE counted (id $ID); INSERT INTO counted (id) VALUES (1);", 0},
    {0},
};

static void *replica_main(void *arg)
{
    struct replica *r = arg;
    const struct migration *all[] = {slow_ones};
    r->kind = migrate_run(r->store, all, 1, &r->e);
    return NULL;
}

TEST(postgres_replicas_that_start_together_take_turns)
{
    struct fixture f;
    fixture_open(&f, ON_POSTGRES, 1, 0);
    struct replica r[5] = {0};
    for (size_t i = 0; i < ARRAY_LEN(r); i++) {
        struct store_config config = {.url = f.url, .readers = 1};
        CHECK_OK(store_open(&config, &r[i].store, &r[i].e), &r[i].e);
    }
    for (size_t i = 0; i < ARRAY_LEN(r); i++)
        pthread_create(&r[i].thread, NULL, replica_main, &r[i]);
    for (size_t i = 0; i < ARRAY_LEN(r); i++) {
        pthread_join(r[i].thread, NULL);
        CHECK_OK(r[i].kind, &r[i].e);
        store_close(r[i].store);
    }
    CHECK_INT(applied(f.store), 3);
    CHECK_INT(ask(f.store, "SELECT count(*) FROM counted"), 1);
    fixture_close(&f);
}

TEST_MAIN
