/* The rules of a request's head without a server, and a fixed set of odd bytes through the same
 * checks that the fuzzer uses. */
#include "fuzz/http_guard_check.h"

#include "test.h"

TEST(paths_are_decoded_once)
{
    static const struct {
        const char *in, *out; /* NULL: refused */
    } rows[] = {
        {"/a", "/a"},          {"/%2561", "/%61"}, {"/a%2Fb", "/a/b"}, {"/+", "/+"},
        {"/%e4%b8%ad", "/中"}, {"/a%00", NULL},    {"/%0a", NULL},     {"/%7f", NULL},
        {"/%", NULL},          {"/%1", NULL},      {"/%g0", NULL},     {"/%c0%80", NULL},
        {"/%ed%a0%80", NULL},  {"/a%2", NULL},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char to[64];
        bool good = http_percent_decode(rows[i].in, strlen(rows[i].in), false, to) >= 0;
        CHECK_STR(good ? to : NULL, rows[i].out);
    }
}

TEST(queries_are_read_pair_by_pair)
{
    const char *at = "a=1&&b=x+y%20z&c&=d&e=%0A&bad=%zz&f=%e4%b8%ad&g=h=i&";
    const char *want[] = {"a", "1",  "b",  "x y z", "c", "",   "",  "d",
                          "e", "\n", NULL, NULL,    "f", "中", "g", "h=i"};
    char to[100];
    const char *name, *value;
    size_t i = 0;
    for (enum http_pair got; (got = http_query_next(&at, to, &name, &value)) != HTTP_PAIR_END;) {
        if (i + 1 >= sizeof(want) / sizeof(want[0]))
            break;
        CHECK_STR(got == HTTP_PAIR ? name : NULL, want[i++]);
        CHECK_STR(got == HTTP_PAIR ? value : NULL, want[i++]);
    }
    CHECK_INT(i, sizeof(want) / sizeof(want[0]));
    CHECK_INT(http_query_next(&at, to, &name, &value), HTTP_PAIR_END);
}

TEST(lists_are_read_as_lists)
{
    CHECK(http_list_has("keep-alive, Upgrade", "upgrade"));
    CHECK(http_list_has("a;q=1 , upgrade ; x=\"b,c\"", "upgrade"));
    CHECK(!http_list_has("upgraded", "upgrade"));
    CHECK(!http_list_has(NULL, "upgrade"));
    CHECK(http_gzip_welcome("gzip"));
    CHECK(http_gzip_welcome("br;q=1.0, gzip;q=0.001"));
    CHECK(http_gzip_welcome("x-gzip, identity"));
    CHECK(http_gzip_welcome("*"));
    CHECK(!http_gzip_welcome("*, gzip;q=0"));
    CHECK(!http_gzip_welcome("gzip; q=0.0"));
    CHECK(!http_gzip_welcome(""));
    CHECK(!http_gzip_welcome(NULL));
    CHECK(!http_gzip_welcome("gzipped"));
}

TEST(odd_bytes_keep_the_promises)
{
    static const char *const seeds[] = {
        "\0/a/b%20c?x=%41&y",
        "\1a=1&b=%e4%b8%ad&c=+&&d",
        "\2Host: x\nContent-Length: 12\nX: y\n",
        "\2Host: x\nTransfer-Encoding: chunked\nExpect: 100-continue\n",
        "\3gzip;q=0.5, br, \"a,b\", *;q=0",
        "\4\x81\x85\1\2\3\4idolk\x89\x80\1\1\1\1\x88\x82\1\1\1\1\2\xe9",
        "\4\x01\x83\1\1\1\1abc\x80\xfe\1\x7e\1\1\1\1xyz",
    };
    static const char spice[] = "%\0\r\n\t :;=&,\"/?#\x7f\xff\x81\x80\x88\xfe";
    uint32_t state = 1;
    for (int round = 0; round < 30000; round++) {
        const char *seed = seeds[round % (sizeof(seeds) / sizeof(seeds[0]))];
        uint8_t bytes[80];
        size_t n = 1 + strlen(seed + 1);
        memcpy(bytes, seed, n);
        for (int change = round / 7 % 6; change > 0; change--) {
            state = state * 1664525 + 1013904223;
            size_t at = 1 + (state >> 8) % (n - 1);
            unsigned picked = (unsigned char)spice[(state >> 20) % (sizeof(spice) - 1)];
            bytes[at] = (uint8_t)(state & 64 ? picked : state >> 24);
        }
        http_guard_check(bytes, n);
    }
}

TEST_MAIN
