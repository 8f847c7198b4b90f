/* Settings: which source wins, and how .env is read. */
#include "core/house_parts.h"

#include "test.h"

#include <unistd.h>

static const struct setting rows[] = {
    {"T_PORT", "T_OLD_PORT", SET_INT, "8080", 1, 65535},
    {"T_MODE", NULL, SET_WORD, "trusted", .words = "trusted|strict"},
    {"T_SECRET", NULL, SET_TEXT, NULL, .secret = true},
    {"T_NAME", NULL, SET_TEXT, "drover"},
    {"T_NETS", NULL, SET_LIST, "127.0.0.0/8,::1/128"},
    {"T_ORIGINS", NULL, SET_LIST, "[\"*\"]"},
    {"T_EVERY", NULL, SET_DURATION_S, "30s"},
    {"T_ON", NULL, SET_BOOL, "false"},
};
static const struct module test_module = {
    .name = "t", .settings = rows, .n_settings = ARRAY_LEN(rows)};
static const struct module *const modules[] = {&test_module, NULL};

static void put_env(const char *text)
{
    FILE *f = fopen(".env", "w");
    fputs(text, f);
    fclose(f);
}

static struct house *read_all(int want)
{
    struct house *h = NULL;
    struct err e = {0};
    CHECK_OK(house_create(modules, &h, &e), &e);
    CHECK_INT(settings_read(h, &e), want);
    return h;
}

TEST(comments_quotes_and_empty_values_of_the_file)
{
    put_env("# a comment\n"
            "T_PORT=9000                # the port\n"
            "T_MODE=      # trusted (default) or strict\n"
            "T_SECRET=    # signs; default: made once\n"
            "  export t_name = \"a # b\"   # quoted\n"
            "T_NETS=\n"
            "T_ORIGINS=[\"http://a#b\", \"http://c\"]\t# two\n"
            "T_EVERY='5m'\n"
            "no equals sign\n"
            "T_ON=yes\r\n");
    struct house *h = read_all(OK);
    CHECK_INT(setting_int(h, "T_PORT"), 9000);
    CHECK_STR(setting_text(h, "T_MODE"), "trusted");
    CHECK_STR(setting_text(h, "T_SECRET"), NULL);
    CHECK(!setting_given(h, "T_SECRET"));
    CHECK_STR(setting_text(h, "T_NAME"), "a # b");
    CHECK_INT(setting_list(h, "T_NETS").n, 0);
    CHECK_INT(setting_list(h, "T_ORIGINS").n, 2);
    CHECK_STR(setting_list(h, "T_ORIGINS").items[0], "http://a#b");
    CHECK_INT(setting_int(h, "T_EVERY"), 300);
    CHECK(setting_bool(h, "T_ON"));
    house_destroy(h);
}

TEST(the_environment_wins_and_the_command_line_wins_over_all)
{
    put_env("T_PORT=1\nT_NAME=file\nT_ON=on\n");
    setenv("t_old_port", "2", 1); /* an alias, in any case */
    setenv("T_NAME", "environment", 1);
    setenv("T_MODE", "", 1); /* as compose files pass what is unset */
    struct house *h = NULL;
    struct err e = {0};
    CHECK_OK(house_create(modules, &h, &e), &e);
    setting_override(h, "T_ON", "off");
    CHECK_OK(settings_read(h, &e), &e);
    CHECK_INT(setting_int(h, "T_PORT"), 2);
    CHECK_STR(setting_text(h, "T_NAME"), "environment");
    CHECK_STR(setting_text(h, "T_MODE"), "trusted");
    CHECK(!setting_bool(h, "T_ON"));
    house_destroy(h);
    unsetenv("t_old_port");
    unsetenv("T_NAME");
    unsetenv("T_MODE");
}

TEST(a_value_that_breaks_its_row_names_it)
{
    static const char *const wrong[] = {"T_PORT=70000\n", "T_PORT=x\n", "T_MODE=open\n",
                                        "T_EVERY=soon\n", "T_ON=perhaps\n"};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        put_env(wrong[i]);
        struct house *h = NULL;
        struct err e = {0};
        CHECK_OK(house_create(modules, &h, &e), &e);
        CHECK_INT(settings_read(h, &e), ERR_INVALID);
        if (strncmp(e.text, wrong[i], strcspn(wrong[i], "=")) != 0)
            FAIL_("%s does not name it: %s", wrong[i], e.text);
        house_destroy(h);
    }
}

int main(int argc, char **argv)
{
    char dir[] = "/tmp/drover-setting-XXXXXX";
    if (mkdtemp(dir) == NULL || chdir(dir) != 0)
        return 1;
    int rc = test_run(argc, argv);
    unlink(".env");
    return chdir("/") == 0 && rmdir(dir) == 0 ? rc : 1;
}
