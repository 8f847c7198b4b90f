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
    &native_recovery_module,
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

TEST_MAIN
