/* Texts in two languages: a translated format must take the same arguments in the same order, else
 * it reads what is not there. */
#include "core/house.h"
#include "fleet/fleet.h"
#include "gpu/gpu.h"
#include "identity/identity.h"
#include "jobs/jobs.h"
#include "notify/notify.h"
#include "surface/surface.h"

#include "test.h"

#include <ctype.h>

static const struct module *const modules[] = {
    &notify_module,
    &identity_module,
    &fleet_module,
    &jobs_module,
    &common_module,
    &platform_accounts_module,
    &platform_providers_module,
    &platform_submit_module,
    &platform_tasks_module,
    &training_gpu_module,
    &baremetal_gpu_module,
    &native_accounts_module,
    &native_secrets_module,
    &native_recovery_module,
    &native_tokens_module,
    &platform_recovery_module,
    NULL,
};

/* The next conversion of a format, from its length modifiers on: "s", "lld"; NULL: no more. */
static const char *next_conversion(const char **at, char to[8])
{
    for (const char *s = *at; (s = strchr(s, '%')) != NULL;) {
        s++;
        if (*s == '%') {
            s++;
            continue;
        }
        s += strspn(s, "-+ #0123456789.'");
        size_t n = strspn(s, "hlzjt") + 1;
        snprintf(to, 8, "%.*s", (int)n, s);
        *at = s + n;
        return to;
    }
    return NULL;
}

static int seen;

static void check_row(const struct err_text *row, void *ctx)
{
    const char *en = row->en, *zh = row->zh, *a, *b;
    char x[8], y[8];
    (void)ctx;
    seen++;
    do {
        a = next_conversion(&en, x);
        b = next_conversion(&zh, y);
        if ((a == NULL) != (b == NULL) || (a != NULL && strcmp(a, b) != 0)) {
            FAIL_("takes other arguments: %s | %s", row->en, row->zh);
            return;
        }
    } while (a != NULL);
    if (row->zh[0] == '\0' || strcmp(row->en, row->zh) == 0)
        FAIL_("not translated: %s", row->en);
}

TEST(translations_take_the_same_arguments)
{
    struct house *h = NULL;
    struct err e = {0};
    CHECK_OK(house_create(modules, &h, &e), &e);
    err_translate_with(gpu_texts);
    err_texts_each(check_row, NULL);
    CHECK(seen > 100); /* the tables were really read */
    house_destroy(h);
}

/* ---- stored texts ---- */

static const char *retold(const char *en, struct arena *a)
{
    AUTO(buf) struct buf b = {0};
    err_lang_set(LANG_ZH);
    err_retell(&b, en);
    err_lang_set(LANG_EN);
    return arena_strdup(a, buf_str(&b));
}

TEST(what_was_stored_in_english_is_told_in_chinese)
{
    AUTO(arena) struct arena a = {0};
    static const struct {
        const char *en, *zh;
    } rows[] = {
        {"exit code 3", "退出码 3"},
        {"failed: exit code 3", "失败：退出码 3"},
        {"could not start: no such directory: /a: b", "无法启动：没有这个目录：/a: b"},
        {"could not start: command not found: trainn", "无法启动：找不到命令：trainn"},
        {"could not start: cannot enter the directory /x: Permission denied",
         "无法启动：无法进入目录 /x：权限不够"},
        {"try 1 of 3 ended: killed: out of memory (its limit is 64 MiB)",
         "第 1 次尝试（共 3 次）结束：内存不足被终止（上限 64 MiB）"},
        {"cancelled; it did not end by itself and was killed", "已取消；未自行结束，已被强制终止"},
        {"ended by signal 11 (invalid memory access)", "被信号 11 终止（非法内存访问）"},
        {"GPUs: 1 of 2 RTX4090 free", "GPU：空闲 1，需要 2 RTX4090"},
        {"CPUs: no node has 64 free beside the GPUs", "CPU：没有节点空闲 64 个（连同 GPU）"},
        {"no node has 99 GPUs; the largest, n-01, has 8",
         "没有节点有 99 张 GPU；最大的节点 n-01 有 8"},
        {"node n-01: its agent's link is down", "节点 n-01：代理连接中断"},
        {"gpu-000 found: NVIDIA GeForce RTX 4090", "发现 gpu-000：NVIDIA GeForce RTX 4090"},
        {"account li.na@example.com was made", "账号 li.na@example.com 已创建"},
        /* what we did not say stays as it is */
        {"fan noise since Tuesday", "fan noise since Tuesday"},
        {"风扇有噪音", "风扇有噪音"},
        {"exit code three", "exit code three"},
        {"100%s", "100%s"},
        {": : ;", ": : ;"},
        {"", ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        CHECK_STR(retold(rows[i].en, &a), rows[i].zh);
    AUTO(buf) struct buf b = {0};
    err_retell(&b, "exit code 3");
    CHECK_STR(buf_str(&b), "exit code 3");
}

TEST(no_stored_text_is_too_long_or_too_deep_to_end)
{
    AUTO(arena) struct arena a = {0};
    AUTO(buf) struct buf b = {0};
    for (int i = 0; i < 400; i++)
        buf_adds(&b, "could not start: ");
    CHECK_STR(retold(buf_str(&b), &a), buf_str(&b));
    b.data[3000] = '\0';
    CHECK(strlen(retold(b.data, &a)) > 100);
    buf_reset(&b);
    for (int i = 0; i < 500; i++)
        buf_adds(&b, "; : a");
    retold(buf_str(&b), &a);
}

TEST_MAIN
