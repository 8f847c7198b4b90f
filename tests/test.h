/* The smallest test harness that speaks TAP: TEST(name) { CHECK(…); } and TEST_MAIN.
 * A failed CHECK is told with its place and values; the test goes on, so that one run shows all.
 */
#ifndef TESTS_TEST_H
#define TESTS_TEST_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct test_case {
    const char *name;
    void (*fn)(void);
    struct test_case *next;
};
static struct test_case *test_first, **test_last = &test_first;
static int test_failures_;

#define TEST(name_)                                                                                \
    static void test_##name_(void);                                                                \
    static struct test_case case_##name_ = {#name_, test_##name_, NULL};                           \
    __attribute__((constructor)) static void add_##name_(void)                                     \
    {                                                                                              \
        *test_last = &case_##name_;                                                                \
        test_last = &case_##name_.next;                                                            \
    }                                                                                              \
    static void test_##name_(void)

#define FAIL_(...)                                                                                 \
    do {                                                                                           \
        test_failures_++;                                                                          \
        printf("# %s:%d: ", __FILE__, __LINE__);                                                   \
        printf(__VA_ARGS__);                                                                       \
        printf("\n");                                                                              \
        fflush(stdout);                                                                            \
    } while (0)
#define CHECK(cond)                                                                                \
    do {                                                                                           \
        if (!(cond))                                                                               \
            FAIL_("not true: %s", #cond);                                                          \
    } while (0)
#define CHECK_INT(a, b)                                                                            \
    do {                                                                                           \
        long long a_ = (long long)(a), b_ = (long long)(b);                                        \
        if (a_ != b_)                                                                              \
            FAIL_("%s is %lld, not %lld", #a, a_, b_);                                             \
    } while (0)
#define CHECK_STR(a, b)                                                                            \
    do {                                                                                           \
        const char *a_ = (a), *b_ = (b);                                                           \
        if (a_ == NULL || b_ == NULL ? a_ != b_ : strcmp(a_, b_) != 0)                             \
            FAIL_("%s is \"%s\", not \"%s\"", #a, a_ ? a_ : "(null)", b_ ? b_ : "(null)");         \
    } while (0)
#define CHECK_OK(call, e)                                                                          \
    do {                                                                                           \
        int k_ = (call);                                                                           \
        if (k_ != 0)                                                                               \
            FAIL_("%s failed (%d): %s", #call, k_, (e)->text);                                     \
    } while (0)

static inline int test_run(int argc, char **argv)
{
    int n = 0, bad = 0;
    for (struct test_case *t = test_first; t != NULL; t = t->next) {
        if (argc > 1 && strcmp(argv[1], t->name) != 0)
            continue;
        int before = test_failures_;
        t->fn();
        bool ok = test_failures_ == before;
        bad += !ok;
        printf("%s %d - %s\n", ok ? "ok" : "not ok", ++n, t->name);
        fflush(stdout);
    }
    printf("1..%d\n", n);
    return bad > 0;
}
#define TEST_MAIN                                                                                  \
    int main(int argc, char **argv)                                                                \
    {                                                                                              \
        return test_run(argc, argv);                                                               \
    }

#endif
