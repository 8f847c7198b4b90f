/* The command line without a server: tables as a terminal shows them, words into options, job files
 * into jobs, completion scripts, and that every text has its Chinese. */
#include "test.h"

#include "cli/cli.h"
#include "cli/client.h"
#include "cli/out.h"
#include "cli/spec.h"
#include "cli/yaml.h"

#include "base/str.h"

#include <unistd.h>

/* ---- tables ---- */

static char *printed(const struct column *columns, const char *const *cells, size_t rows, int width)
{
    char *text = NULL;
    size_t n = 0;
    FILE *to = open_memstream(&text, &n);
    AUTO(arena) struct arena a = {0};
    struct table t = table_new(&a, columns);
    for (size_t r = 0; r < rows; r++) {
        struct cell *row = table_row(&t);
        for (size_t i = 0; i < t.n_columns; i++)
            row[i].text = *cells++;
    }
    table_print(to, &t, &(struct term){.width = width});
    table_fini(&t);
    fclose(to);
    return text;
}

static const struct column ps_like[] = {
    {"ID"}, {"NAME", .least = 6}, {"RAN", .right = true, .optional = true}, {"WHY", .least = 10},
    {0},
};
static const char *const ps_cells[] = {
    "j-1", "resnet",           "18:04", "GPUs: 1 of 2 free, next at 14:32",
    "j-2", "数据预处理与训练", NULL,    NULL,
};

TEST(a_table_without_a_terminal_is_whole)
{
    char *text = printed(ps_like, ps_cells, 2, 0);
    CHECK_STR(text, "ID   NAME                RAN  WHY\n"
                    "j-1  resnet            18:04  GPUs: 1 of 2 free, next at 14:32\n"
                    "j-2  数据预处理与训练      –  –\n");
    free(text);
}

TEST(a_table_fits_its_terminal_in_columns_not_bytes)
{
    char *text = printed(ps_like, ps_cells, 2, 40);
    CHECK_STR(text, "ID   NAME             RAN  WHY\n"
                    "j-1  resnet         18:04  GPUs: 1 of 2…\n"
                    "j-2  数据预处理与…      –  –\n");
    free(text);
    for (int width = 20; width < 80; width++) {
        text = printed(ps_like, ps_cells, 2, width);
        for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n"))
            CHECK(utf8_width(line) <= (size_t)(width < 23 ? 23 : width));
        free(text);
    }
}

/* Without the optional column the others get its room. */
TEST(optional_columns_go_before_the_rest_is_crippled)
{
    char *text = printed(ps_like, ps_cells, 2, 26);
    CHECK_STR(text, "ID   NAME       WHY\n"
                    "j-1  resnet     GPUs: 1 o…\n"
                    "j-2  数据预处…  –\n");
    free(text);
}

TEST(foreign_text_cannot_move_the_cursor)
{
    AUTO(arena) struct arena a = {0};
    CHECK_STR(text_clean(&a, "a\033[2Jb\nc\177\xc2\x9b"
                             "31m\xff"),
              "a [2Jb c   31m\xef\xbf\xbd");
    CHECK_STR(text_fit(&a, "训练任务", 5), "训练…");
    CHECK_STR(text_fit(&a, "abc", 3), "abc");
    CHECK_STR(text_fit(&a, "abcd", 3), "ab…");
    CHECK_STR(text_bar(&a, 0.5, 4), "██··");
    CHECK_STR(text_bar(&a, 2, 3), "███");
    CHECK_STR(text_bar(&a, -1, 2), "··");
    CHECK_INT(utf8_width(text_bar(&a, 0.33, 8)), 8);
}

/* ---- words ---- */

static const struct opt sample_opts[] = {
    {"gpus", 'g', OPT_INT, "N", "GPUs of the job", 0, 8},
    {"time", 't', OPT_DURATION, "TIME", "time limit"},
    {"memory", 0, OPT_BYTES, "SIZE", "memory [of one node]: a limit"},
    {"level", 0, OPT_CHOICE, "L", "how much it's worth", .choices = "low high"},
    {"env", 'e', OPT_TEXT, "K=V", "variable", .many = true},
    {"follow", 'f', OPT_FLAG, NULL, "stay"},
    {0},
};
static const struct verb sample_run = {
    .name = "run",
    .summary = "run something",
    .arg = {"FILE", ARG_OPTIONAL, ARG_FILE},
    .command = true,
    .opts = sample_opts,
};
static const struct verb sample_show = {
    .name = "show", .summary = "show it", .arg = {"ID", ARG_MANY, ARG_JOB}};
static const struct verb sample_add = {
    .name = "user add", .summary = "add one", .arg = {"WHAT", ARG_ONE, ARG_CHOICE, "a b"}};
static const struct verb sample_list = {.name = "user list", .summary = "list them"};
static const struct verb *const samples[] = {&sample_run, &sample_show, &sample_add, &sample_list,
                                             NULL};

static int parse(const struct verb *v, const char *line, struct arena *a, struct parsed *p,
                 struct err *e)
{
    char *words[32];
    int n = 0;
    for (char *w = strtok(arena_strdup(a, line), " "); w != NULL; w = strtok(NULL, " "))
        words[n++] = w;
    return verb_parse(v, n, words, a, p, e);
}

TEST(options_are_read)
{
    AUTO(arena) struct arena a = {0};
    struct parsed p;
    struct err e = {0};
    CHECK_OK(parse(&sample_run, "job.yaml -g2 --time=1h30m -e A=1 --env B=2 -f --memory 1.5G", &a,
                   &p, &e),
             &e);
    CHECK_INT(p.n_args, 1);
    CHECK_STR(p.args[0], "job.yaml");
    CHECK_INT(opt_number(&p, "gpus", -1), 2);
    CHECK_INT(opt_number(&p, "time", -1), 5400 * INT64_C(1000000));
    CHECK_INT(opt_number(&p, "memory", -1), 1610612736);
    CHECK(opt_given(&p, "follow"));
    const struct given *g = opt_next(&p, "env", NULL);
    CHECK_STR(g->text, "A=1");
    g = opt_next(&p, "env", g);
    CHECK_STR(g->text, "B=2");
    CHECK(opt_next(&p, "env", g) == NULL);
    CHECK(!p.has_command);
    CHECK_OK(parse(&sample_run, "-ft 5m -- ls -g --unknown -- x", &a, &p, &e), &e);
    CHECK_INT(p.n_command, 5);
    CHECK_STR(p.command[1], "-g");
    CHECK_STR(p.command[3], "--");
    CHECK_INT(opt_number(&p, "time", -1), 300 * INT64_C(1000000));
    CHECK_OK(parse(&sample_run, "--gpus 1 --gpus 3", &a, &p, &e), &e);
    CHECK_INT(opt_number(&p, "gpus", -1), 3);
    CHECK_OK(parse(&sample_show, "--help", &a, &p, &e), &e);
    CHECK_OK(parse(&sample_show, "-", &a, &p, &e), &e);
    CHECK_STR(p.args[0], "-");
}

TEST(wrong_usage_says_what_is_right)
{
    static const struct {
        const struct verb *v;
        const char *line, *text;
    } rows[] = {
        {&sample_run, "--gpu 1", "drover run has no option --gpu. Did you mean --gpus?"},
        {&sample_run, "--tiem=3", "drover run has no option --tiem. Did you mean --time?"},
        {&sample_run, "--zzzzz", "drover run has no option --zzzzz"},
        {&sample_run, "-x", "drover run has no option -x"},
        {&sample_run, "--gpus 9", "--gpus takes a whole number from 0 to 8, not \"9\""},
        {&sample_run, "--gpus x", "--gpus takes a whole number from 0 to 8, not \"x\""},
        {&sample_run, "--gpus", "--gpus needs a value: --gpus N"},
        {&sample_run, "-g", "-g needs a value: -g N"},
        {&sample_run, "--time 0",
         "--time takes a duration such as 90s, 15m, 2h or 1d12h, not \"0\""},
        {&sample_run, "--memory 4X", "--memory takes an amount such as 512M or 4G, not \"4X\""},
        {&sample_run, "--level middle", "--level takes one of: low high; not \"middle\""},
        {&sample_run, "--follow=yes", "--follow takes no value"},
        {&sample_run, "python3 train.py",
         "\"train.py\" is too much here: put -- before the command"},
        {&sample_show, "", "drover show needs ID"},
        {&sample_add, "a b", "drover user add does not take \"b\""},
        {&sample_list, "x", "drover user list does not take \"x\""},
        {&sample_list, "--", "drover user list has no option --"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        AUTO(arena) struct arena a = {0};
        struct parsed p;
        struct err e = {0};
        CHECK_INT(parse(rows[i].v, rows[i].line, &a, &p, &e), ERR_INVALID);
        CHECK_STR(e.text, rows[i].text);
    }
}

TEST(verbs_are_found_by_one_or_two_words)
{
    int words;
    char *one[] = {"show", "x"}, *two[] = {"user", "list"}, *none[] = {"user"};
    CHECK(verb_find(samples, 2, one, &words) == &sample_show);
    CHECK_INT(words, 1);
    CHECK(verb_find(samples, 2, two, &words) == &sample_list);
    CHECK_INT(words, 2);
    CHECK(verb_find(samples, 1, none, &words) == NULL);
    CHECK(verb_find(samples, 0, none, &words) == NULL);
    CHECK_INT(word_distance("sbumit", "submit"), 2);
    CHECK_INT(word_distance("", "abc"), 3);
    AUTO(arena) struct arena a = {0};
    CHECK_STR(verb_usage(&sample_run, &a), "drover run [OPTIONS] [FILE] [-- COMMAND…]");
    CHECK_STR(verb_usage(&sample_show, &a), "drover show [OPTIONS] ID…");
}

/* ---- job files ---- */

static int spec_of(const char *yaml, struct buf *json, struct err *e)
{
    AUTO(arena) struct arena a = {0};
    struct spec s;
    spec_init(&s);
    int k = spec_from_yaml(&s, "job.yaml", yaml, strlen(yaml), &a, e);
    return k == OK ? spec_write(&s, json, e) : k;
}

TEST(job_files_become_jobs)
{
    static const struct {
        const char *yaml, *json;
    } rows[] = {
        {"command: [python3, train.py, '3']\ngpus: 2\n",
         "{\"command\":[\"python3\",\"train.py\",\"3\"],\"gpus\":2}"},
        {"command: make test | tee out\n",
         "{\"command\":[\"/bin/sh\",\"-c\",\"make test | tee out\"]}"},
        {"# a comment\nname: \"训练\"\ncommand:\n  - ./run.sh\nenv:\n  LR: 0.01\n  FLAG: true\n  "
         "EMPTY: ''\n"
         "gpu_type: RTX4090,A6000\nmemory: 1536K\ntime: 2h\npriority: high\nretries: 2\n"
         "labels: {team: vision}\nimage: ~\ncwd: /srv\n",
         "{\"name\":\"训练\",\"command\":[\"./"
         "run.sh\"],\"env\":{\"LR\":\"0.01\",\"FLAG\":\"true\",\"EMPTY\":"
         "\"\"},\"cwd\":\"/srv\",\"gpu_type\":[\"RTX4090\",\"A6000\"],\"memory_mib\":2,"
         "\"time_limit_s\":7200,\"priority\":\"high\",\"retries\":2,\"labels\":{\"team\":"
         "\"vision\"}}"},
        {"command: [a]\ngpu_type: [RTX4090]\nmemory_mib: 512\ntime_limit_s: 60\ncpus: 4\n",
         "{\"command\":[\"a\"],\"gpu_type\":[\"RTX4090\"],\"cpus\":4,\"memory_mib\":512,\"time_"
         "limit_s\":60}"},
        {"{command: [a], priority: 7}", "{\"command\":[\"a\"],\"priority\":\"7\"}"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        AUTO(buf) struct buf json = {0};
        struct err e = {0};
        CHECK_OK(spec_of(rows[i].yaml, &json, &e), &e);
        CHECK_STR(buf_str(&json), rows[i].json);
    }
}

TEST(bad_job_files_are_told_with_their_line)
{
    static const struct {
        const char *yaml, *text;
    } rows[] = {
        {"", "job.yaml:1: the file is empty"},
        {"# nothing\n", "job.yaml:1: the file is empty"},
        {"just text\n", "job.yaml:1: a job file is a mapping such as \"gpus: 1\""},
        {"- a\n- b\n", "job.yaml:1: a job file is a mapping such as \"gpus: 1\""},
        {"command: [a]\ngpu: 1\n", "job.yaml:2: a job has no \"gpu\". Did you mean gpus?"},
        {"command: [a]\nnonsense_key: 1\n", "job.yaml:2: a job has no \"nonsense_key\""},
        {"command: [a]\n\ngpus: two\n", "job.yaml:3: gpus must be a whole number from 0 to 1024"},
        {"gpus: '2'\n", "job.yaml:1: gpus must be a whole number from 0 to 1024"},
        {"gpus: 2.5\n", "job.yaml:1: gpus must be a whole number from 0 to 1024"},
        {"gpus: 1025\n", "job.yaml:1: gpus must be a whole number from 0 to 1024"},
        {"gpus: [1]\n", "job.yaml:1: gpus must be a whole number"},
        {"retries: -1\n", "job.yaml:1: retries must be a whole number from 0 to 10"},
        {"time: soon\n", "job.yaml:1: time must be a duration such as 90s, 15m, 2h or 1d12h"},
        {"memory: much\n", "job.yaml:1: memory must be an amount such as 512M or 4G"},
        {"name: {a: b}\n", "job.yaml:1: name must be text"},
        {"env: [A=1]\n", "job.yaml:1: env must be a mapping of names to text"},
        {"env:\n  A: 1\n  B: [2]\n", "job.yaml:3: B must be text"},
        {"command: {a: b}\n",
         "job.yaml:1: command must be a list of words, or one text for the shell"},
        {"command: []\n", "job.yaml:1: command must be a list of words, or one text for the shell"},
        {"command:\n  - a\n  - [b]\n", "job.yaml:3: an item must be text"},
        {"gpus: 1\ncommand: [a]\ngpus: 2\n",
         "job.yaml:3: \"gpus\" is there twice (first in line 1)"},
        {"command: &x [a]\n", "job.yaml:1: anchors, aliases and tags are not used in job files"},
        {"command: *x\n", "job.yaml:1: anchors, aliases and tags are not used in job files"},
        {"name: !!str x\n", "job.yaml:1: anchors, aliases and tags are not used in job files"},
        {"command: [a]\n---\ncommand: [b]\n", "job.yaml:2: one file describes one job"},
        {"[a]: b\n", "job.yaml:1: a key must be plain text"},
        {"name: \"\\0\"\n", "job.yaml:1: text must not contain NUL"},
        {"name: [[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]\n", "job.yaml:1: nested too deeply"},
        {"name: \xff\xfe\n", "job.yaml:1: the file is not UTF-8 text"},
        {"gpus: 1\n", "there is no command: drover submit [OPTIONS] -- COMMAND…, or a job file"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        AUTO(buf) struct buf json = {0};
        struct err e = {0};
        int k = spec_of(rows[i].yaml, &json, &e);
        if (k != ERR_INVALID)
            FAIL_("row %zu gave %d: %s", i, k, buf_str(&json));
        CHECK_STR(e.text, rows[i].text);
    }
    static const char *const broken[] = {"a: [b\n",   "a: 'b\n", "\ta: b\n",
                                         "a: b: c\n", "{a: b",   "%X\n"};
    for (size_t i = 0; i < ARRAY_LEN(broken); i++) {
        AUTO(buf) struct buf json = {0};
        struct err e = {0};
        CHECK_INT(spec_of(broken[i], &json, &e), ERR_INVALID);
        CHECK(str_starts(e.text, "job.yaml:"));
    }
}

TEST(options_win_over_the_file)
{
    AUTO(arena) struct arena a = {0};
    AUTO(buf) struct buf json = {0};
    struct spec s;
    struct parsed p;
    struct err e = {0};
    static const char yaml[] = "command: [a]\ngpus: 1\nname: file\nenv: {A: '1', B: '2'}\n";
    const struct verb *submit = NULL;
    for (const struct verb *const *v = cli_verbs; *v != NULL; v++)
        if (strcmp((*v)->name, "submit") == 0)
            submit = *v;
    spec_init(&s);
    setenv("DROVER_TEST_VALUE", "from here", 1);
    CHECK_OK(spec_from_yaml(&s, "f", yaml, strlen(yaml), &a, &e), &e);
    CHECK_OK(
        parse(submit, "f --gpus 2 --env B=3 --env DROVER_TEST_VALUE --time 90 -- x y", &a, &p, &e),
        &e);
    CHECK_OK(spec_from_options(&s, &p, &a, &e), &e);
    CHECK_OK(spec_write(&s, &json, &e), &e);
    CHECK_STR(buf_str(&json),
              "{\"name\":\"file\",\"command\":[\"x\",\"y\"],\"env\":{\"A\":\"1\",\"B\":\"3\","
              "\"DROVER_TEST_VALUE\":\"from here\"},\"gpus\":2,\"time_limit_s\":90}");
    CHECK_OK(parse(submit, "--env DROVER_NOT_SET -- x", &a, &p, &e), &e);
    CHECK_INT(spec_from_options(&s, &p, &a, &e), ERR_INVALID);
    CHECK_STR(e.text, "--env DROVER_NOT_SET: there is no such variable here to take along");
    CHECK_OK(parse(submit, "--label x -- x", &a, &p, &e), &e);
    CHECK_INT(spec_from_options(&s, &p, &a, &e), ERR_INVALID);
}

/* ---- which server ---- */

TEST(the_server_is_found)
{
    struct server s;
    struct err e = {0};
    char dir[] = "/tmp/drover-cli-test-XXXXXX", path[64];
    if (mkdtemp(dir) == NULL)
        abort();
    unsetenv("DROVER_URL");
    setenv("DROVER_DATA", dir, 1);
    setenv("HOME", dir, 1);
    if (chdir(dir) != 0)
        abort();
    CHECK_OK(server_find(NULL, &s, &e), &e);
    CHECK_STR(s.url, "http://127.0.0.1:8080");
    CHECK(s.by_default && strstr(s.tried, "/run/drover/drover.sock\n") != NULL);
    snprintf(path, sizeof(path), "%s/drover.sock", dir);
    FILE *f = fopen(path, "w");
    fclose(f);
    CHECK_OK(server_find(NULL, &s, &e), &e);
    CHECK_STR(s.unix_path, path);
    CHECK_OK(server_find("http://gpu.example.com:8080/", &s, &e), &e);
    CHECK_STR(s.url, "http://gpu.example.com:8080");
    CHECK(!server_is_here(&s));
    setenv("DROVER_URL", "unix:///x/y.sock", 1);
    CHECK_OK(server_find(NULL, &s, &e), &e);
    CHECK_STR(s.unix_path, "/x/y.sock");
    CHECK_INT(server_find("ftp://x", &s, &e), ERR_INVALID);
    CHECK_INT(server_find("unix:", &s, &e), ERR_INVALID);
    unsetenv("DROVER_URL");
    unlink(path);
    rmdir(dir);
}

TEST(paths_are_encoded)
{
    AUTO(arena) struct arena a = {0};
    CHECK_STR(url_part(&a, "j-17"), "j-17");
    CHECK_STR(url_part(&a, "../a b/é?"), "..%2Fa%20b%2F%C3%A9%3F");
}

/* ---- completion ---- */

TEST(completion_scripts_stay_as_they_are)
{
    static const char *const shells[] = {"bash", "zsh", "fish"};
    for (size_t i = 0; i < ARRAY_LEN(shells); i++) {
        AUTO(buf) struct buf b = {0}, golden = {0};
        char path[256], part[4096];
        const char *folder = getenv("DROVER_GOLDEN");
        snprintf(path, sizeof(path), "%s/completion.%s", folder != NULL ? folder : GOLDEN_DIR,
                 shells[i]);
        CHECK(completion_write(samples, shells[i], &b));
        if (folder != NULL) {
            FILE *to = fopen(path, "w");
            fwrite(b.data, 1, b.len, to);
            fclose(to);
        }
        FILE *f = fopen(path, "r");
        CHECK(f != NULL);
        size_t n;
        while (f != NULL && (n = fread(part, 1, sizeof(part), f)) > 0)
            buf_add(&golden, part, n);
        if (f != NULL)
            fclose(f);
        CHECK_STR(buf_str(&b), buf_str(&golden));
    }
    AUTO(buf) struct buf b = {0};
    CHECK(!completion_write(samples, "tcsh", &b));
}

/* ---- languages ---- */

/* "%s:%d" of a format, so that two can be compared. */
static void conversions(const char *s, struct buf *to)
{
    for (; *s != '\0'; s++) {
        if (*s != '%')
            continue;
        s++;
        if (*s == '%')
            continue;
        while (strchr("-+ #0123456789.*hlzjt", *s) != NULL && *s != '\0')
            buf_addc(to, *s++);
        buf_addc(to, *s);
        buf_addc(to, ' ');
    }
}

static void needs_chinese(const char *en)
{
    if (en != NULL && strcmp(err_tr(en), en) == 0)
        FAIL_("no Chinese for \"%s\"", en);
}

TEST(every_text_has_its_chinese)
{
    for (const struct err_text *t = cli_texts_zh; t->en != NULL; t++) {
        AUTO(buf) struct buf en = {0}, zh = {0};
        conversions(t->en, &en);
        conversions(t->zh, &zh);
        CHECK_STR(buf_str(&zh), buf_str(&en));
        CHECK((t->en[strlen(t->en) - 1] == '\n') == (t->zh[strlen(t->zh) - 1] == '\n'));
        for (const struct err_text *other = cli_texts_zh; other < t; other++)
            CHECK(strcmp(other->en, t->en) != 0);
    }
    err_translate_with(cli_texts_zh);
    err_lang_set(LANG_ZH);
    const struct opt *tables[64] = {common_opts};
    size_t n = 1;
    for (const struct verb *const *v = cli_verbs; *v != NULL; v++) {
        needs_chinese((*v)->summary);
        needs_chinese((*v)->about);
        if ((*v)->opts != NULL)
            tables[n++] = (*v)->opts;
    }
    for (size_t i = 0; i < n; i++)
        for (const struct opt *o = tables[i]; o->name != NULL; o++)
            needs_chinese(o->help);
    err_lang_set(LANG_EN);
}

TEST_MAIN
