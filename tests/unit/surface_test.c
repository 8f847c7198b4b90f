/* The pure parts of the surfaces: topics of the live channel, and which paths are pages. */
#include "surface/assets.h"
#include "surface/live.h"

#include "test.h"

#include <sys/stat.h>
#include <unistd.h>

TEST(topics)
{
    static const struct {
        const char *name;
        enum topic_kind kind;
        const char *ref;
    } rows[] = {
        {"jobs", TOPIC_JOBS, ""},
        {"job:j-17", TOPIC_JOB, "j-17"},
        {"log:j-17", TOPIC_LOG, "j-17"},
        {"tasks", TOPIC_TASKS, ""},
        {"task:0195-x", TOPIC_TASK, "0195-x"},
        {"gpu", TOPIC_GPU, ""},
        {"gpu:gpu-001", TOPIC_GPU_ONE, "gpu-001"},
        {"nodes", TOPIC_NODES, ""},
        {"events", TOPIC_EVENTS, ""},
        {"", TOPIC_UNKNOWN, ""},
        {"job", TOPIC_UNKNOWN, ""},
        {"job:", TOPIC_UNKNOWN, ""},
        {"jobs:j-17", TOPIC_UNKNOWN, "j-17"},
        {"nodes:", TOPIC_UNKNOWN, ""},
        {"Jobs", TOPIC_UNKNOWN, ""},
        {":j-17", TOPIC_UNKNOWN, "j-17"},
        {"log:a:b", TOPIC_LOG, "a:b"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const char *ref;
        CHECK_INT(topic_parse(rows[i].name, &ref), rows[i].kind);
        CHECK_STR(ref, rows[i].ref);
    }
}

TEST(who_prefers_a_page)
{
    static const struct {
        const char *accept;
        bool html;
    } rows[] = {
        {NULL, false},
        {"", false},
        {"*/*", false},
        {"application/json", false},
        {"text/html", true},
        {"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", true},
        {"application/json, text/html", false},
        {"application/json;q=0.5, text/html", true},
        {"text/html;q=0.1, application/json", false},
        {"text/html; q=0, */*", false},
        {"TEXT/HTML", true},
        {"text/*", false},
        {",,;;", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (accept_prefers_html(rows[i].accept) != rows[i].html)
            FAIL_("%s", rows[i].accept != NULL ? rows[i].accept : "(not sent)");
}

TEST(pages_of_the_interface)
{
    CHECK(path_is_page("/jobs"));
    CHECK(path_is_page("/jobs/j-1"));
    CHECK(path_is_page("/v1x/anything"));
    CHECK(!path_is_page("/v1/jobs/j-1"));
    CHECK(!path_is_page("/v1"));
    CHECK(!path_is_page("/api/gpu"));
    CHECK(!path_is_page("/auth/jwt/login"));
    CHECK(!path_is_page("/assets/gone"));
    CHECK(!path_is_page("/docs/gone"));
    CHECK(!path_is_page("/favicon.ico"));
    CHECK(!path_is_page("nothing"));
}

TEST(names_and_types_of_files)
{
    CHECK(asset_is_hashed("/assets/index-DX2DBB5I.js"));
    CHECK(asset_is_hashed("/assets/a.vue_lang-BN4-jwR_.js"));
    CHECK(!asset_is_hashed("/assets/index.js"));
    CHECK(!asset_is_hashed("/assets/-DX2DBB5I.js"));
    CHECK(!asset_is_hashed("/index-DX2DBB5I.js"));
    CHECK(!asset_is_hashed("/assets/index-DX2DBB5I"));
    CHECK_STR(asset_type("/index.html"), "text/html; charset=utf-8");
    CHECK_STR(asset_type("/a/b.woff2"), "font/woff2");
    CHECK_STR(asset_type("/noending"), "application/octet-stream");
}

static void put(const char *dir, const char *name, const char *text)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    if (f != NULL) {
        fputs(text, f);
        fclose(f);
    }
}

TEST(only_what_was_there_at_the_start_is_served)
{
    char dir[] = "/tmp/drover-assets-XXXXXX", path[512];
    struct assets *a = NULL;
    struct err e = {0};
    if (mkdtemp(dir) == NULL) {
        FAIL_("no temporary folder");
        return;
    }
    snprintf(path, sizeof(path), "%s/web", dir);
    mkdir(path, 0700);
    put(path, "index.html", "shell");
    put(path, ".stamp", "hidden");
    put(path, "index.html.gz", "packed");
    put(dir, "secret", "secret");
    CHECK_OK(assets_load(dir, &a, &e), &e);
    CHECK_INT(assets_count(a), 1);
    CHECK(asset_find(a, "/index.html") != NULL && asset_find(a, "/index.html")->n == 5);
    CHECK(asset_find(a, "/.stamp") == NULL);
    CHECK(asset_find(a, "/../secret") == NULL);
    CHECK(asset_find(a, "/web/index.html") == NULL);
    assets_destroy(a);
    CHECK_OK(assets_load("/nowhere/at/all", &a, &e), &e);
    CHECK_INT(assets_count(a), 0);
    assets_destroy(a);
    for (size_t i = 0; i < 4; i++) {
        static const char *const names[] = {"web/index.html", "web/.stamp", "web/index.html.gz",
                                            "secret"};
        snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
        unlink(path);
    }
    snprintf(path, sizeof(path), "%s/web", dir);
    rmdir(path);
    rmdir(dir);
}

TEST_MAIN
